package audit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"storj.io/drpc/drpcwire"
)

// wire builds the bytes of one direction.
type wire []byte

func (w wire) frame(kind byte, flags uint16, stream, length uint32) wire {
	w = append(w, 0, kind)
	w = binary.BigEndian.AppendUint16(w, flags)
	w = binary.BigEndian.AppendUint32(w, stream)
	return binary.BigEndian.AppendUint32(w, length)
}

func (w wire) open(stream uint32) wire { return w.frame(typeWindowUpdate, flagSYN, stream, 0) }
func (w wire) fin(stream uint32) wire  { return w.frame(typeWindowUpdate, flagFIN, stream, 0) }

func (w wire) data(stream uint32, flags uint16, body []byte) wire {
	return append(w.frame(typeData, flags, stream, uint32(len(body))), body...)
}

func packet(stream, message uint64, kind drpcwire.Kind, data string) []byte {
	return drpcwire.AppendFrame(nil, drpcwire.Frame{
		ID: drpcwire.ID{Stream: stream, Message: message}, Kind: kind, Done: true, Data: []byte(data),
	})
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

var (
	invoke    = packet(1, 1, drpcwire.KindInvoke, "/coder.agent.v2.Agent/UpdateStats")
	message   = packet(1, 2, drpcwire.KindMessage, "x")
	closeSend = packet(1, 3, drpcwire.KindCloseSend, "")
	call      = join(invoke, message, closeSend)
	answer    = wire{}.data(1, 0, packet(1, 1, drpcwire.KindMessage, ""))
)

// step is what one side does, or time that passes.
type step struct {
	client, server wire
	wait           time.Duration
}

func run(t *testing.T, chunk int, orderly bool, steps ...step) []string {
	t.Helper()
	now := time.Unix(0, 0)
	var rules []string
	o := New(func() time.Time { return now }, func(rule string, _ uint32, _ string) {
		rules = append(rules, rule)
	})
	for _, s := range steps {
		for piece := range slices.Chunk(s.client, chunk) {
			o.FromClient(piece)
		}
		for piece := range slices.Chunk(s.server, chunk) {
			o.ToClient(piece)
		}
		now = now.Add(s.wait)
	}
	o.Finish(orderly)
	return rules
}

func client(w wire) step { return step{client: w} }
func server(w wire) step { return step{server: w} }

func TestLegal(t *testing.T) {
	cases := map[string][]step{
		"call": {
			client(wire{}.open(1).data(1, 0, call)),
			server(wire{}.frame(typeWindowUpdate, flagACK, 1, 0)),
			server(answer),
			client(wire{}.data(1, 0, packet(1, 4, drpcwire.KindClose, "")).fin(1)),
			server(wire{}.fin(1)),
		},
		"open with data": {client(wire{}.data(1, flagSYN, call)), server(answer), client(wire{}.fin(1))},
		"FIN on data after the reply": {
			client(wire{}.open(1).data(1, 0, call)), server(answer),
			client(wire{}.data(1, flagFIN, packet(1, 4, drpcwire.KindClose, ""))),
		},
		"ids that do not rise":             {client(wire{}.open(19).open(15).fin(15).fin(19))},
		"reset in mid call":                {client(wire{}.open(1).data(1, 0, call).frame(typeWindowUpdate, flagRST, 1, 0))},
		"grant after own FIN":              {client(wire{}.open(1).fin(1).frame(typeWindowUpdate, 0, 1, 200_000))},
		"grant after both closed":          {client(wire{}.open(1).fin(1)), server(wire{}.fin(1)), client(wire{}.frame(typeWindowUpdate, 0, 1, 9))},
		"data that crosses a reset":        {client(wire{}.open(1)), server(wire{}.frame(typeWindowUpdate, flagRST, 1, 0)), client(wire{}.data(1, 0, call).fin(1))},
		"ping and reply":                   {client(wire{}.frame(typePing, flagSYN, 0, 4)), server(wire{}.frame(typePing, flagSYN, 0, 7)), client(wire{}.frame(typePing, flagACK, 0, 7))},
		"late ping, then the reply":        {server(wire{}.frame(typePing, flagSYN, 0, 7)), {wait: 9 * time.Second}, client(wire{}.frame(typePing, flagACK, 0, 7))},
		"go away":                          {client(wire{}.frame(typeGoAway, 0, 0, 0))},
		"stream that crosses a go away":    {server(wire{}.frame(typeGoAway, 0, 0, 0)), client(wire{}.open(1).fin(1))},
		"whole window":                     {client(wire{}.open(1).data(1, 0, packet(1, 1, drpcwire.KindInvoke, string(make([]byte, initialWindow-6)))))},
		"grant used":                       {client(wire{}.open(1).data(1, 0, make([]byte, 0, 4))), server(wire{}.frame(typeWindowUpdate, 0, 1, 1)), client(wire{}.data(1, 0, packet(1, 1, drpcwire.KindInvoke, string(make([]byte, initialWindow-5)))))},
		"second call on a stream":          {client(wire{}.open(1).data(1, 0, call)), server(answer), client(wire{}.data(1, 0, join(packet(2, 1, 1, "/x"), packet(2, 2, 2, "")))), server(wire{}.data(1, 0, packet(2, 1, 2, ""))), client(wire{}.fin(1))},
		"cancelled by packet":              {client(wire{}.open(1).data(1, 0, join(invoke, []byte{0x89, 1, 4, 0})).fin(1))},
		"unknown control packet":           {client(wire{}.open(1).data(1, 0, []byte{0x80 | 9<<1 | 1, 1, 1, 0}))},
		"call in flight at an orderly end": {client(wire{}.open(1).data(1, 0, call)), {wait: time.Hour}},
		"abandoned just before the end":    {client(wire{}.open(1).data(1, 0, call)), server(answer)},
	}
	for name, steps := range cases {
		for _, chunk := range []int{1, 5, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, chunk), func(t *testing.T) {
				if rules := run(t, chunk, true, steps...); len(rules) > 0 {
					t.Errorf("violations %q, want none", rules)
				}
			})
		}
	}
}

func TestViolations(t *testing.T) {
	called := client(wire{}.open(1).data(1, 0, call))
	oversize := func(n int) []byte {
		head := []byte{2 << 1, 1, 2}
		return append(drpcwire.AppendVarint(head, uint64(n)), make([]byte, 10)...)
	}
	on := func(bodies ...[]byte) []step { return []step{client(wire{}.open(1).data(1, 0, join(bodies...)))} }
	cases := []struct {
		rule  string
		name  string
		steps []step
	}{
		{RuleVersion, "", []step{client(wire{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})}},
		{RuleType, "", []step{client(wire{}.frame(4, 0, 1, 0))}},
		{RuleFlags, "", []step{client(wire{}.frame(typeWindowUpdate, flagSYN|0x10, 1, 0))}},
		{RuleStreamZero, "", []step{client(wire{}.data(0, 0, nil))}},
		{RuleSessionFrame, "ping", []step{client(wire{}.frame(typePing, flagSYN, 1, 0))}},
		{RuleSessionFrame, "go away", []step{client(wire{}.frame(typeGoAway, 0, 1, 0))}},
		{RuleEvenID, "", []step{client(wire{}.open(2))}},
		{RuleReusedID, "open", []step{client(wire{}.open(1).open(1))}},
		{RuleReusedID, "closed", []step{client(wire{}.open(1).fin(1)), server(wire{}.fin(1)), client(wire{}.open(1))}},
		{RuleUnknownStream, "data", []step{client(wire{}.data(3, 0, nil))}},
		{RuleUnknownStream, "grant", []step{client(wire{}.frame(typeWindowUpdate, 0, 3, 1))}},
		{RuleDataAfterFIN, "open", []step{client(wire{}.open(1).fin(1).data(1, 0, []byte("x")))}},
		{RuleDataAfterFIN, "closed", []step{client(wire{}.open(1).fin(1)), server(wire{}.fin(1)), client(wire{}.data(1, 0, []byte("x")))}},
		{RuleDataAfterFIN, "reset", []step{client(wire{}.open(1).frame(typeWindowUpdate, flagRST, 1, 0).data(1, 0, []byte("x")))}},
		{RuleSecondFIN, "open", []step{client(wire{}.open(1).fin(1).fin(1))}},
		{RuleSecondFIN, "closed", []step{client(wire{}.open(1).fin(1)), server(wire{}.fin(1)), client(wire{}.fin(1))}},
		{RuleSecondFIN, "crossing a reset", []step{client(wire{}.open(1)), server(wire{}.frame(typeWindowUpdate, flagRST, 1, 0)), client(wire{}.fin(1).fin(1))}},
		{RuleWindow, "first", []step{client(wire{}.open(1).frame(typeData, 0, 1, initialWindow+1))}},
		{RuleWindow, "granted", []step{client(wire{}.open(1)), server(wire{}.frame(typeWindowUpdate, 0, 1, 9)), client(wire{}.frame(typeData, 0, 1, initialWindow+10))}},
		{RuleWindowOverflow, "", []step{client(wire{}.open(1).frame(typeWindowUpdate, 0, 1, 1<<32-1))}},
		{RuleACK, "", []step{client(wire{}.open(1).frame(typeWindowUpdate, flagACK, 1, 0))}},
		{RulePingFlags, "none", []step{client(wire{}.frame(typePing, 0, 0, 0))}},
		{RulePingFlags, "both", []step{client(wire{}.frame(typePing, flagSYN|flagACK, 0, 0))}},
		{RulePingUnknown, "", []step{client(wire{}.frame(typePing, flagACK, 0, 0))}},
		{RulePingTimeout, "late", []step{server(wire{}.frame(typePing, flagSYN, 0, 7)), {wait: 11 * time.Second}, client(wire{}.frame(typePing, flagACK, 0, 7))}},
		{RulePingTimeout, "never", []step{server(wire{}.frame(typePing, flagSYN, 0, 7)), {wait: 11 * time.Second}}},
		{RuleSYNAfterGoAway, "", []step{server(wire{}.frame(typeGoAway, 0, 0, 0)), {wait: 3 * time.Second}, client(wire{}.open(1))}},
		{RuleNotClosed, "answered", []step{called, server(answer), {wait: 3 * time.Second}}},
		{RuleNotClosed, "never used", []step{client(wire{}.open(1)), {wait: 3 * time.Second}}},

		{RuleFrame, "", on([]byte{3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0})},
		{RuleKind, "zero", on([]byte{1, 1, 1, 0})},
		{RuleKind, "eight", on(invoke, []byte{8<<1 | 1, 1, 2, 0})},
		{RuleKindChange, "", on(invoke, []byte{4, 1, 2, 1, 'x', 7, 1, 2, 0})},
		{RuleID, "stream zero", on(packet(0, 1, 1, "/x"))},
		{RuleID, "message zero", on(packet(1, 0, 1, "/x"))},
		{RuleID, "reused", on(invoke, packet(1, 1, 2, ""))},
		{RuleID, "back", on(packet(2, 1, 1, "/x"), packet(1, 5, 2, ""))},
		{RuleNoInvoke, "first", on(packet(1, 1, 2, ""))},
		{RuleNoInvoke, "second call", on(invoke, packet(2, 1, 2, ""))},
		{RuleSecondInvoke, "", on(invoke, packet(1, 2, 1, "/x"))},
		{RuleTooLarge, "one frame", on(invoke, oversize(maxPacket+1))},
		{RuleTooLarge, "declared without end", on(invoke, drpcwire.AppendVarint([]byte{5, 1, 2}, 1<<62))},
		{RuleTruncated, "frame", []step{client(wire{}.open(1).data(1, 0, invoke[:9]).fin(1))}},
		{RuleTruncated, "packet", []step{client(wire{}.open(1).data(1, 0, []byte{2, 1, 1, 1, '/'}).fin(1))}},
		{RuleFINBeforeReply, "", []step{called, client(wire{}.fin(1))}},
		{RuleFINBeforeReply, "on the data", []step{client(wire{}.open(1).data(1, flagFIN, call))}},
	}
	for _, c := range cases {
		for _, chunk := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%s/%d", c.rule, c.name, chunk), func(t *testing.T) {
				rules := run(t, chunk, true, c.steps...)
				if !slices.Equal(rules, []string{c.rule}) {
					t.Errorf("violations %q, want only %q", rules, c.rule)
				}
			})
		}
	}
}

func TestPacketOfExactlyTheLimitInManyFrames(t *testing.T) {
	var rules []string
	var r request
	r = newRequest()
	report := func(rule, _ string) { rules = append(rules, rule) }
	r.feed(invoke, report)
	frame := func(n int) []byte {
		return drpcwire.AppendFrame(nil, drpcwire.Frame{
			ID: drpcwire.ID{Stream: 1, Message: 2}, Kind: drpcwire.KindMessage, Data: make([]byte, n),
		})
	}
	for range maxPacket / (64 << 10) {
		r.feed(frame(64<<10), report)
	}
	if len(rules) > 0 {
		t.Fatalf("violations %q at the limit", rules)
	}
	r.feed(frame(1), report)
	if !slices.Equal(rules, []string{RuleTooLarge}) {
		t.Errorf("violations %q one byte above the limit, want %q", rules, RuleTooLarge)
	}
}

func TestTimingIsNotJudgedOnAnImpairedLink(t *testing.T) {
	now := time.Unix(0, 0)
	var rules []string
	o := New(func() time.Time { return now }, func(rule string, _ uint32, _ string) { rules = append(rules, rule) })
	o.FromClient(wire{}.open(1).data(1, 0, call))
	o.ToClient(wire{}.frame(typePing, flagSYN, 0, 7))
	o.Impair()
	now = now.Add(time.Minute)
	o.FromClient(wire{}.fin(1))
	o.Finish(false)
	if len(rules) > 0 || o.Cancelled() != 1 {
		t.Errorf("violations %q, cancelled %d; want none and 1", rules, o.Cancelled())
	}
}

func TestACallThatAFaultHoldsBackMayBeGivenUp(t *testing.T) {
	var rules []string
	o := New(time.Now, func(rule string, _ uint32, _ string) { rules = append(rules, rule) })
	o.FromClient(wire{}.open(1).data(1, 0, call))
	o.Hold(1)
	o.FromClient(wire{}.fin(1))
	if len(rules) > 0 || o.Cancelled() != 1 {
		t.Errorf("violations %q, cancelled %d; want none and 1", rules, o.Cancelled())
	}
}
