package hostile

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"storj.io/drpc/drpcwire"
)

// The ways in which a server can take a violation.
const (
	sessionEnds = "the session ends"
	streamEnds  = "the stream ends, the session lives"
	goesOn      = "the session lives"
	waits       = "the session waits for more"
)

// How long the server has for it.
const patience = 5 * time.Second

// hostility is one violation on a connection of its own.
type hostility struct {
	name string
	// Each of these is right.
	want []string
	do   func(*raw) error
}

func invoke(method string) []byte {
	return packet(1, 1, drpcwire.KindInvoke, "/coder.agent.v2.Agent/"+method)
}

func packet(stream, message uint64, kind drpcwire.Kind, payload string) []byte {
	return drpcwire.AppendFrame(nil, drpcwire.Frame{
		ID: drpcwire.ID{Stream: stream, Message: message}, Kind: kind, Done: true, Data: []byte(payload),
	})
}

// onStream opens stream 1 and sends these bytes on it.
func onStream(parts ...[]byte) func(*raw) error {
	return func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		return r.send(1, slices.Concat(parts...))
	}
}

// rawBytes puts bytes on the TCP connection.
func rawBytes(p ...byte) func(*raw) error {
	return func(r *raw) error {
		_, err := r.conn.Write(p)
		return err
	}
}

var hostilities = []hostility{
	// WebSocket: RFC 6455 fails the connection for all but the last.
	{"text message", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(0x80|opText, []byte("x")) }},
	{"unmasked frame", []string{sessionEnds}, rawBytes(0x80|opBinary, 1, 'x')},
	{"reserved bit", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(0xc0|opBinary, []byte("x")) }},
	{"unknown opcode", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(0x80|0x3, nil) }},
	{"continuation of nothing", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(0x80|opContinuation, []byte("x")) }},
	{"message inside a message", []string{sessionEnds}, func(r *raw) error {
		if err := r.webSocketFrame(opBinary, []byte{0}); err != nil {
			return err
		}
		return r.webSocketFrame(0x80|opBinary, []byte{0})
	}},
	{"fragmented ping", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(opPing, nil) }},
	{"ping of 126 bytes", []string{sessionEnds}, func(r *raw) error { return r.webSocketFrame(0x80|opPing, make([]byte, 126)) }},
	{"message length with the top bit", []string{sessionEnds}, rawBytes(0x80|opBinary, 0x80|127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
	{"message said to have 2^62 bytes", []string{sessionEnds, goesOn, waits}, func(r *raw) error {
		// Then a ping within it, so that a server which streams the payload can answer.
		frame := []byte{0x80 | opBinary, 0x80 | 127, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		return rawBytes(append(frame, header(ping, syn, 0, probe)...)...)(r)
	}},

	// yamux: what hashicorp/yamux session.go ends a session for.
	{"yamux version 1", []string{sessionEnds}, func(r *raw) error { return r.bytes([]byte{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}) }},
	{"yamux type 4", []string{sessionEnds}, func(r *raw) error { return r.frame(4, 0, 1, 0, nil) }},
	{"even stream id", []string{sessionEnds, streamEnds, goesOn}, func(r *raw) error { return r.open(2) }},
	{"stream id in use", []string{sessionEnds}, func(r *raw) error {
		return r.bytes(slices.Concat(header(windowUpdate, syn, 1, 0), header(windowUpdate, syn, 1, 0)))
	}},
	{"second FIN", []string{sessionEnds, goesOn}, func(r *raw) error {
		// Ignored when the server has closed its side in between.
		return r.bytes(slices.Concat(header(windowUpdate, syn, 1, 0), header(windowUpdate, fin, 1, 0), header(windowUpdate, fin, 1, 0)))
	}},
	{"window exceeded in one frame", []string{sessionEnds}, func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		return r.send(1, make([]byte, 256<<10+1))
	}},
	{"frame said to have 4 GiB", []string{sessionEnds}, func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		return r.frame(data, 0, 1, 1<<32-1, []byte("x"))
	}},
	{"data for a stream that is not open", []string{goesOn}, func(r *raw) error { return r.send(7, []byte("x")) }},
	{"grant for a stream that is not open", []string{goesOn}, func(r *raw) error { return r.frame(windowUpdate, 0, 7, 1, nil) }},
	{"reset of a stream that is not open", []string{goesOn}, func(r *raw) error { return r.frame(windowUpdate, rst, 7, 0, nil) }},
	{"go away with a protocol error", []string{sessionEnds}, func(r *raw) error { return r.frame(goAway, 0, 0, 1, nil) }},
	{"reply to a ping that was never sent", []string{goesOn, sessionEnds}, func(r *raw) error { return r.frame(ping, 2, 0, 99, nil) }},
	{"10000 pings without reading", []string{goesOn, sessionEnds}, func(r *raw) error {
		var pings []byte
		for n := range uint32(10_000) {
			pings = append(pings, header(ping, syn, 0, n)...)
		}
		return r.bytes(pings)
	}},
	{"5000 streams that say nothing", []string{goesOn, sessionEnds}, func(r *raw) error {
		var opens []byte
		for n := range uint32(5000) {
			opens = append(opens, header(windowUpdate, syn, 2*n+1, 0)...)
		}
		return r.bytes(opens)
	}},
	{"5000 streams reset at once", []string{goesOn, sessionEnds}, func(r *raw) error {
		var opens []byte
		for n := range uint32(5000) {
			opens = slices.Concat(opens, header(windowUpdate, syn, 2*n+1, 0), header(windowUpdate, rst, 2*n+1, 0))
		}
		return r.bytes(opens)
	}},

	// dRPC: what storj/drpc drpcwire/reader.go refuses. The stream ends without an Error packet.
	{"dRPC ids that go back", []string{streamEnds}, onStream(packet(2, 1, drpcwire.KindInvoke, "/x"), packet(1, 1, drpcwire.KindMessage, ""))},
	{"dRPC id used twice", []string{streamEnds}, onStream(invoke("UpdateStats"), packet(1, 1, drpcwire.KindMessage, ""))},
	{"dRPC stream id 0", []string{streamEnds}, onStream(packet(0, 1, drpcwire.KindInvoke, "/x"))},
	{"dRPC varint of 11 bytes", []string{streamEnds}, onStream([]byte("\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x00"))},
	{"dRPC unknown kind", []string{streamEnds}, onStream(invoke("UpdateStats"), []byte{8<<1 | 1, 1, 2, 0})},
	{"dRPC unknown control kind", []string{goesOn}, onStream(invoke("UpdateStats"), []byte{0x80 | 8<<1 | 1, 1, 2, 0})},
	{"dRPC change of kind in a packet", []string{streamEnds}, onStream(invoke("UpdateStats"), []byte{4, 1, 2, 1, 'x', 7, 1, 2, 0})},
	{"dRPC invoke twice", []string{streamEnds}, onStream(invoke("ReportBoundaryLogs"), packet(1, 2, drpcwire.KindInvoke, "/x"))},
	{"dRPC message first", []string{goesOn, streamEnds}, onStream(packet(1, 1, drpcwire.KindMessage, "x"))},
	{"dRPC malformed metadata", []string{streamEnds}, onStream(packet(1, 1, drpcwire.KindInvokeMetadata, "\x0a\xff"))},
	{"dRPC method name of 3 MiB", []string{goesOn, streamEnds}, func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		return r.sendWithinWindow(1, packet(1, 1, drpcwire.KindInvoke, strings.Repeat("/", 3<<20)))
	}},
	{"dRPC frame said to have 2^62 bytes", []string{goesOn, streamEnds},
		onStream(invoke("UpdateStats"), drpcwire.AppendVarint([]byte{5, 1, 2}, 1<<62))},
	{"dRPC packet of 4 MiB and 1 byte", []string{streamEnds}, func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		body := invoke("UpdateStats")
		message := make([]byte, 4<<20+1)
		err := drpcwire.SplitN(drpcwire.Packet{
			ID: drpcwire.ID{Stream: 1, Message: 2}, Kind: drpcwire.KindMessage, Data: message,
		}, 0, func(frame drpcwire.Frame) error {
			body = drpcwire.AppendFrame(body, frame)
			return nil
		})
		if err != nil {
			return err
		}
		return r.sendWithinWindow(1, body)
	}},
	{"FIN inside a dRPC frame", []string{streamEnds}, func(r *raw) error {
		if err := r.open(1); err != nil {
			return err
		}
		if err := r.send(1, invoke("UpdateStats")[:9]); err != nil {
			return err
		}
		return r.frame(windowUpdate, fin, 1, 0, nil)
	}},
}

// probe is the value of the ping that shows whether a session lives.
const probe = 0xfeedface

// outcome waits for what the server does about stream 1 or the session.
func (r *raw) outcome(want []string) string {
	expected := func() bool { return r.ended != "" }
	if slices.Contains(want, streamEnds) && !slices.Contains(want, goesOn) {
		expected = func() bool { return r.ended != "" || r.closed[1] != "" }
	}
	if !slices.Contains(want, goesOn) {
		r.await(patience, expected)
	}
	// It may be gone already, which the wait below finds out.
	_ = r.frame(ping, syn, 0, probe, nil)
	alive := r.await(patience, func() bool { return r.pongs[probe] })
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended != "":
		return sessionEnds
	case alive && r.closed[1] != "":
		return streamEnds
	case alive:
		return goesOn
	default:
		return waits
	}
}

// detail says in what way the server did it.
func (r *raw) detail(outcome string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	parts := []string{outcome}
	if r.ended != "" {
		parts = append(parts, r.ended)
	}
	if how := r.closed[1]; how != "" {
		parts = append(parts, how)
	}
	if r.goneBy {
		parts = append(parts, "sent go away")
	}
	return strings.Join(parts, "; ")
}

func right(outcome string, want []string) bool {
	// A stream that ended is no harm where the session was to live.
	return slices.Contains(want, outcome) || outcome == streamEnds && slices.Contains(want, goesOn)
}

// slowly writes a byte at a time.
func slowly(w io.Writer, p []byte, pause time.Duration) error {
	for _, b := range p {
		if _, err := w.Write([]byte{b}); err != nil {
			return fmt.Errorf("slow write: %w", err)
		}
		time.Sleep(pause)
	}
	return nil
}
