package audit

import (
	"fmt"

	"storj.io/drpc/drpcwire"
)

const (
	maxPacket = 4 << 20
	// One control byte and three varints of at most 10 bytes.
	maxFrameHeader = 1 + 3*10
	// drpcwire.ParseFrame looks at no fewer bytes than this.
	minFrameHeader = 4
)

// frames cuts one direction of a stream into dRPC frames without keeping payloads.
type frames struct {
	head   [maxFrameHeader]byte
	have   int
	rest   uint64
	frame  drpcwire.Frame
	broken bool
}

// feed calls begin at the header of each frame, with its declared length, and end
// when its payload has passed. It stops for good when either returns false or when
// a header cannot be parsed, in which case it returns the error.
func (f *frames) feed(p []byte, begin func(drpcwire.Frame, uint64) bool, end func(drpcwire.Frame) bool) error {
	for !f.broken && len(p) > 0 {
		if f.rest > 0 {
			n := min(uint64(len(p)), f.rest)
			f.rest -= n
			p = p[n:]
			if f.rest == 0 {
				f.broken = !end(f.frame)
			}
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		frame, length, ok, err := parseFrameHeader(f.head[:f.have])
		switch {
		case err != nil:
			f.broken = true
			return err
		case ok:
			f.frame, f.rest, f.have = frame, length, 0
			f.broken = !begin(frame, length) || (length == 0 && !end(frame))
		}
	}
	return nil
}

// inside reports whether the bytes so far end within a frame.
func (f *frames) inside() bool { return f.have > 0 || f.rest > 0 }

func parseFrameHeader(head []byte) (frame drpcwire.Frame, length uint64, ok bool, err error) {
	if len(head) < minFrameHeader {
		return frame, 0, false, nil
	}
	frame.Done = head[0]&1 != 0
	frame.Control = head[0]&0x80 != 0
	frame.Kind = drpcwire.Kind(head[0] & 0x7e >> 1)
	rest := head[1:]
	for _, field := range []*uint64{&frame.ID.Stream, &frame.ID.Message, &length} {
		rest, *field, ok, err = drpcwire.ReadVarint(rest)
		if err != nil || !ok {
			return frame, 0, false, err
		}
	}
	return frame, length, true, nil
}

// request follows what the client sends on one stream, by the rules of
// drpcwire.Reader and drpcmanager.
type request struct {
	frames frames
	// The lowest id that may come next, as drpcwire.Reader keeps it.
	floor drpcwire.ID
	// The packet under way.
	packet drpcwire.ID
	kind   drpcwire.Kind
	size   uint64
	open   bool
	// The dRPC stream id that was invoked last, and whether its reply is due.
	invoked uint64
	pending bool
	// The client said by a packet that it gave the call up.
	cancelled bool
}

func newRequest() request { return request{floor: drpcwire.ID{Stream: 1, Message: 1}} }

func (r *request) feed(p []byte, report func(rule, detail string)) {
	err := r.frames.feed(p,
		func(frame drpcwire.Frame, length uint64) bool { return r.begin(frame, length, report) },
		func(frame drpcwire.Frame) bool { return r.end(frame) })
	if err != nil {
		report(RuleFrame, err.Error())
	}
}

func (r *request) begin(frame drpcwire.Frame, length uint64, report func(rule, detail string)) bool {
	if frame.ID.Less(r.floor) || frame.ID.Stream == 0 || frame.ID.Message == 0 {
		report(RuleID, fmt.Sprintf("%v where at least %v was due", frame.ID, r.floor))
		return false
	}
	if !r.open || frame.ID != r.packet {
		if !r.allowed(frame, report) {
			return false
		}
		r.packet, r.kind, r.size, r.open, r.floor = frame.ID, frame.Kind, 0, true, frame.ID
	} else if frame.Kind != r.kind {
		report(RuleKindChange, fmt.Sprintf("%v in a packet of %v", frame.Kind, r.kind))
		return false
	}
	r.size += length
	if length > maxPacket || r.size > maxPacket {
		report(RuleTooLarge, fmt.Sprintf("a packet of at least %d bytes", r.size))
		return false
	}
	return true
}

// allowed checks the first frame of a packet against the state of the call.
func (r *request) allowed(frame drpcwire.Frame, report func(rule, detail string)) bool {
	switch {
	case frame.Kind < drpcwire.KindInvoke || frame.Kind > drpcwire.KindInvokeMetadata:
		if !frame.Control {
			report(RuleKind, fmt.Sprintf("kind %d", frame.Kind))
			return false
		}
	case frame.Kind == drpcwire.KindInvoke:
		if r.invoked == frame.ID.Stream {
			report(RuleSecondInvoke, fmt.Sprintf("stream id %d", frame.ID.Stream))
			return false
		}
	case frame.Kind == drpcwire.KindInvokeMetadata:
	case r.invoked != frame.ID.Stream:
		report(RuleNoInvoke, fmt.Sprintf("%v before the invoke of stream id %d", frame.Kind, frame.ID.Stream))
		return false
	}
	return true
}

func (r *request) end(frame drpcwire.Frame) bool {
	if !frame.Done {
		return true
	}
	r.open = false
	r.floor.Message++
	switch frame.Kind {
	case drpcwire.KindInvoke:
		r.invoked, r.pending = frame.ID.Stream, true
	case drpcwire.KindCancel, drpcwire.KindClose, drpcwire.KindError:
		if r.pending {
			r.pending, r.cancelled = false, true
		}
	}
	return true
}

// reply follows what the server sends on one stream.
type reply struct{ frames frames }

// feed calls answered when the reply of the call under way begins.
func (r *reply) feed(p []byte, answered func()) {
	// The server is the library: its frames need no check.
	_ = r.frames.feed(p,
		func(frame drpcwire.Frame, _ uint64) bool {
			if frame.Kind == drpcwire.KindMessage || frame.Kind == drpcwire.KindError {
				answered()
			}
			return true
		},
		func(drpcwire.Frame) bool { return true })
}
