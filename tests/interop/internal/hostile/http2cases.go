package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The further ways in which a server can take a violation on HTTP/2; a gRPC status or an
// HTTP status of its own is named by itself.
const (
	connectionEnds = "the connection ends"
	streamReset    = "the stream is reset, the connection lives"
	connectionOn   = "the connection lives"
	served         = "grpc-status 0"
)

func grpcStatus(code int) string { return fmt.Sprintf("grpc-status %d", code) }

// hostility2 is one violation on an HTTP/2 connection of its own, of which stream 1 is
// looked at.
type hostility2 struct {
	name string
	// Each of these is right.
	want []string
	do   func(*raw2) error
}

// frame writes one that may not be.
func frame(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(*raw2) error {
	return func(r *raw2) error { return r.frames(kind, flags, id, payload...) }
}

// callWith makes one call whose head is changed.
func callWith(change fields, body []byte) func(*raw2) error {
	return func(r *raw2) error { return r.call(1, "UpdateStats", change, body) }
}

// body makes one call with a body that is not right.
func body(parts ...[]byte) func(*raw2) error { return callWith(nil, slices.Concat(parts...)) }

func settings(id http2.SettingID, value uint32) func(*raw2) error {
	return func(r *raw2) error { return r.framer.WriteSettings(http2.Setting{ID: id, Val: value}) }
}

// block sends a header block that is not right.
func block(p ...byte) func(*raw2) error {
	return func(r *raw2) error { return r.headers(1, p, true) }
}

// then does one thing after the other.
func then(steps ...func(*raw2) error) func(*raw2) error {
	return func(r *raw2) error {
		for _, step := range steps {
			if err := step(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func opened(r *raw2) error { return r.open(1, "UpdateStats", nil) }

func called(r *raw2) error { return r.call(1, "UpdateStats", nil, message()) }

// many writes a frame so many times at once.
func many(count int, one func(*http2.Framer, uint32) error) func(*raw2) error {
	return func(r *raw2) error {
		var all bytes.Buffer
		framer := http2.NewFramer(&all, nil)
		framer.AllowIllegalWrites = true
		for n := range uint32(count) {
			if err := one(framer, n); err != nil {
				return err
			}
			if all.Len() > 1<<20 {
				if err := r.write(all.Bytes()); err != nil {
					return err
				}
				all.Reset()
			}
		}
		return r.write(all.Bytes())
	}
}

// headersOf makes a call whose list of headers has that size, as the protocol counts it.
func headersOf(size int) func(*raw2) error {
	return func(r *raw2) error {
		list := callFields(r.options, "UpdateStats", fields{"filler": "x"})
		total := 0
		for _, field := range list {
			total += int(field.Size())
		}
		list[len(list)-1].Value += strings.Repeat("x", size-total)
		if err := r.headers(1, r.blockOf(list...), false); err != nil {
			return err
		}
		return r.framer.WriteData(1, true, message())
	}
}

// largeBodies begins requests of 4 MiB on streams 1, 3, 5… Of all but the last so much is
// taken that their turn has come; the last has to wait for it.
func largeBodies(count uint32) func(*raw2) error {
	return func(r *raw2) error {
		for n := range count {
			part := binary.BigEndian.AppendUint32([]byte{0}, 4<<20)
			if n < count-1 {
				part = append(part, make([]byte, 600<<10)...)
			} else {
				part = append(part, make([]byte, 100<<10)...)
			}
			id := 2*n + 1
			if err := r.open(id, "ReportBoundaryLogs", nil); err != nil {
				return err
			}
			if err := r.sendWithinWindow(id, part, false); err != nil {
				return err
			}
		}
		return nil
	}
}

// The largest list of headers that is taken.
const maxHead = 64 << 10

// Calls at a time.
const maxStreams = 256

var hostilities2 = []hostility2{
	// Frames: RFC 9113 makes a connection error of each, but for those that it ignores.
	{"headers before settings", []string{connectionOn, connectionEnds, served}, called},
	{"frame of 16 KiB and 1 byte", []string{connectionEnds}, frame(http2.FrameData, 0, 0, make([]byte, 16<<10+1)...)},
	{"frame said to have 16 MiB", []string{connectionEnds}, func(r *raw2) error {
		return r.write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
	}},
	{"frame of an unknown type", []string{connectionOn}, frame(0xee, 0xff, 1, 1, 2, 3)},
	{"settings on a stream", []string{connectionEnds}, frame(http2.FrameSettings, 0, 1)},
	{"settings of 5 bytes", []string{connectionEnds}, frame(http2.FrameSettings, 0, 0, 0, 1, 0, 0, 0)},
	{"settings acknowledged with a payload", []string{connectionEnds}, frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0, 1, 0, 0, 0, 0)},
	{"acknowledgement of settings never sent", []string{connectionOn, connectionEnds},
		then(frame(http2.FrameSettings, http2.FlagSettingsAck, 0), frame(http2.FrameSettings, http2.FlagSettingsAck, 0))},
	{"window setting of 2^31", []string{connectionEnds}, settings(http2.SettingInitialWindowSize, 1<<31)},
	{"frame size setting of 1", []string{connectionEnds}, settings(http2.SettingMaxFrameSize, 1)},
	{"push setting of 2", []string{connectionEnds}, settings(http2.SettingEnablePush, 2)},
	{"unknown setting", []string{connectionOn}, settings(0xeeee, 1)},
	{"header table setting of 4 GiB", []string{served}, then(settings(http2.SettingHeaderTableSize, 1<<32-1), called)},
	{"ping of 7 bytes", []string{connectionEnds}, frame(http2.FramePing, 0, 0, make([]byte, 7)...)},
	{"ping on a stream", []string{connectionEnds}, frame(http2.FramePing, 0, 1, make([]byte, 8)...)},
	{"reply to a ping that was never sent", []string{connectionOn}, frame(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8)...)},
	{"grant of 0 to the connection", []string{connectionEnds}, frame(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0)},
	{"grant of 0 to a stream", []string{connectionEnds, streamReset}, then(opened, frame(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 0))},
	{"grant beyond 2^31 to the connection", []string{connectionEnds}, frame(http2.FrameWindowUpdate, 0, 0, 0x7f, 0xff, 0xff, 0xff)},
	{"grant beyond 2^31 to a stream", []string{connectionEnds, streamReset}, then(opened, frame(http2.FrameWindowUpdate, 0, 1, 0x7f, 0xff, 0xff, 0xff))},
	{"grant to a stream that is not open", []string{connectionEnds}, frame(http2.FrameWindowUpdate, 0, 7, 0, 0, 0, 1)},
	{"reset on stream 0", []string{connectionEnds}, frame(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8)},
	{"reset of 3 bytes", []string{connectionEnds}, then(opened, frame(http2.FrameRSTStream, 0, 1, 0, 0, 8))},
	{"reset of a stream that is not open", []string{connectionEnds}, frame(http2.FrameRSTStream, 0, 7, 0, 0, 0, 8)},
	{"priority of a stream on itself", []string{connectionOn, connectionEnds, streamReset}, frame(http2.FramePriority, 0, 1, 0, 0, 0, 1, 5)},
	{"push from a client", []string{connectionEnds}, frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, 0, 0, 0, 2)},
	{"go away with an error", []string{connectionOn, connectionEnds}, func(r *raw2) error {
		return r.framer.WriteGoAway(0, http2.ErrCodeProtocol, []byte("because"))
	}},

	// Streams.
	{"stream id 0", []string{connectionEnds}, func(r *raw2) error { return r.open(0, "UpdateStats", nil) }},
	{"even stream id", []string{connectionEnds}, func(r *raw2) error { return r.open(2, "UpdateStats", nil) }},
	{"stream id that goes back", []string{connectionEnds}, then(
		func(r *raw2) error { return r.open(5, "UpdateStats", nil) },
		func(r *raw2) error { return r.open(3, "UpdateStats", nil) })},
	{"headers after the end of a stream", []string{connectionEnds, streamReset, served}, then(called, called)},
	{"data on stream 0", []string{connectionEnds}, frame(http2.FrameData, 0, 0, message()...)},
	{"data for a stream that is not open", []string{connectionEnds}, frame(http2.FrameData, 0, 7, message()...)},
	{"data after the end of a stream", []string{connectionEnds, streamReset, served}, then(called, frame(http2.FrameData, 0, 1, message()...))},
	{"more padding than data", []string{connectionEnds}, then(opened, frame(http2.FrameData, http2.FlagDataPadded, 1, 9, 0))},
	{"continuation of nothing", []string{connectionEnds}, frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1)},
	{"data inside headers", []string{connectionEnds}, then(
		frame(http2.FrameHeaders, 0, 1), frame(http2.FrameData, 0, 1, message()...))},
	{"continuation of another stream", []string{connectionEnds}, then(
		frame(http2.FrameHeaders, 0, 1), frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3))},
	{"window of a stream exceeded", []string{connectionEnds, streamReset}, func(r *raw2) error {
		// Stream 17 waits behind eight others, so nothing more is granted to it.
		if err := largeBodies(9)(r); err != nil {
			return err
		}
		for range 17 {
			if err := r.framer.WriteData(17, false, make([]byte, 16<<10)); err != nil {
				return err
			}
		}
		r.lookAt(17)
		return nil
	}},
	{fmt.Sprintf("%d calls at a time", maxStreams), []string{served}, oneMoreCall(maxStreams - 1)},
	{fmt.Sprintf("%d calls at a time", maxStreams+1), []string{streamReset}, oneMoreCall(maxStreams)},

	// Headers.
	{"header index that is none", []string{connectionEnds}, block(0xff, 0xff, 0x7f)},
	{"header table update of 2^24", []string{connectionEnds}, block(0x3f, 0xe1, 0xff, 0xff, 0x07)},
	{"header said to have 2^28 bytes", []string{connectionEnds}, block(0, 0x7f, 0x81, 0xff, 0xff, 0x7f)},
	{"header in upper case", []string{connectionEnds, streamReset}, callWith(fields{"Upper": "x"}, message())},
	{"header with a line break", []string{connectionEnds, streamReset}, callWith(fields{"x": "a\r\nb"}, message())},
	{"connection header", []string{connectionEnds, streamReset}, callWith(fields{"connection": "close"}, message())},
	{"no path", []string{connectionEnds, streamReset}, callWith(fields{":path": ""}, message())},
	{"no method", []string{connectionEnds, streamReset}, callWith(fields{":method": ""}, message())},
	{"no scheme", []string{connectionEnds, streamReset}, callWith(fields{":scheme": ""}, message())},
	{"unknown pseudo header", []string{connectionEnds, streamReset}, func(r *raw2) error {
		list := append([]hpack.HeaderField{{Name: ":odd", Value: "x"}}, callFields(r.options, "UpdateStats", nil)...)
		return r.headers(1, r.blockOf(list...), false)
	}},
	{"pseudo header after others", []string{connectionEnds, streamReset}, func(r *raw2) error {
		list := callFields(r.options, "UpdateStats", nil)
		return r.headers(1, r.blockOf(append(list[1:], list[0])...), false)
	}},
	{"path twice", []string{connectionEnds, streamReset}, func(r *raw2) error {
		list := callFields(r.options, "UpdateStats", nil)
		return r.headers(1, r.blockOf(append([]hpack.HeaderField{list[2]}, list...)...), false)
	}},
	{fmt.Sprintf("headers of %d bytes", maxHead-1), []string{served}, headersOf(maxHead - 1)},
	// Where a limit itself falls differs among libraries.
	{fmt.Sprintf("headers of %d bytes", maxHead), []string{served, ":status 431"}, headersOf(maxHead)},
	{fmt.Sprintf("headers of %d bytes", maxHead+1), []string{":status 431"}, headersOf(maxHead + 1)},
	{"headers of 40 MB in 20 KiB", []string{":status 431", connectionEnds, streamReset}, func(r *raw2) error {
		bomb := hpack.HeaderField{Name: "bomb", Value: strings.Repeat("b", 3900)}
		first := r.blockOf(append(callFields(r.options, "UpdateStats", nil), bomb)...)
		// The entry that was just made is the first of the dynamic table.
		return r.headers(1, append(first, bytes.Repeat([]byte{0x80 | 62}, 10_000)...), true)
	}},
	{"10000 continuations", []string{connectionEnds}, then(frame(http2.FrameHeaders, 0, 1),
		many(10_000, func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, nil) }))},
	{"continuations of 100 MB", []string{connectionEnds}, then(frame(http2.FrameHeaders, 0, 1),
		many(6400, func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, make([]byte, 16<<10)) }))},

	// Floods.
	{"10000 streams reset at once", []string{connectionEnds, connectionOn}, func(r *raw2) error {
		head := r.head("UpdateStats", nil)
		// A first block refers to nothing before it, so it can be sent again.
		return many(10_000, func(f *http2.Framer, n uint32) error {
			id := 2*n + 1
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true})
			if err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		})(r)
	}},
	{"100000 pings", []string{connectionEnds, connectionOn}, many(100_000, func(f *http2.Framer, n uint32) error {
		return f.WritePing(false, [8]byte{1, 2, 3, byte(n)})
	})},
	{"100000 settings", []string{connectionEnds, connectionOn}, many(100_000, func(f *http2.Framer, n uint32) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n})
	})},
	{"100000 priorities", []string{connectionEnds, connectionOn}, many(100_000, func(f *http2.Framer, n uint32) error {
		return f.WritePriority(2*n+1, http2.PriorityParam{Weight: 1})
	})},
	{"100000 grants", []string{connectionEnds, connectionOn}, many(100_000, func(f *http2.Framer, _ uint32) error {
		return f.WriteWindowUpdate(0, 1)
	})},
	{"100000 data frames with nothing in them", []string{connectionEnds, connectionOn, streamReset}, then(opened,
		many(100_000, func(f *http2.Framer, _ uint32) error { return f.WriteData(1, false, nil) }))},
	{"100000 data frames of 1 byte", []string{connectionEnds, streamReset, grpcStatus(8)}, func(r *raw2) error {
		// Of a message that waits behind others, so that they are held.
		if err := largeBodies(9)(r); err != nil {
			return err
		}
		return many(150_000, func(f *http2.Framer, _ uint32) error { return f.WriteData(17, false, []byte{0}) })(r)
	}},

	// gRPC: the status of each stands in grpc/grpc doc/statuscodes.md.
	{"no message", []string{grpcStatus(12)}, body()},
	{"two messages", []string{grpcStatus(12)}, body(message(), message())},
	{"message that ends early", []string{grpcStatus(13)}, body([]byte{0, 0, 0, 0, 9, 1})},
	{"message header that ends early", []string{grpcStatus(13)}, body([]byte{0, 0, 0})},
	{"message said to have 4 GiB", []string{grpcStatus(8)}, body([]byte{0, 0xff, 0xff, 0xff, 0xff})},
	{"message said to have 4 MiB and 1 byte", []string{grpcStatus(8)}, then(opened, frame(http2.FrameData, 0, 1, 0, 0, 0x40, 0, 1))},
	{"compressed flag", []string{grpcStatus(13)}, body([]byte{1, 0, 0, 0, 0})},
	{"message flag 2", []string{grpcStatus(13)}, body([]byte{2, 0, 0, 0, 0})},
	{"message that does not decode", []string{grpcStatus(3)}, body(message(0x0a, 0xff))},
	{"gzip", []string{grpcStatus(12)}, callWith(fields{"grpc-encoding": "gzip"}, message())},
	{"identity", []string{served}, callWith(fields{"grpc-encoding": "identity"}, message())},
	{"content type with parameters", []string{served}, callWith(fields{"content-type": "application/grpc+proto; v=1"}, message())},
	{"no content type", []string{":status 415"}, callWith(fields{"content-type": ""}, message())},
	{"no te", []string{served}, callWith(fields{"te": ""}, message())},
	{"time that is none", []string{grpcStatus(13)}, callWith(fields{"grpc-timeout": "soon"}, message())},
	{"no time at all", []string{grpcStatus(4)}, func(r *raw2) error { return r.open(1, "UpdateStats", fields{"grpc-timeout": "0n"}) }},
	{"time that passes", []string{grpcStatus(4)}, func(r *raw2) error { return r.open(1, "UpdateStats", fields{"grpc-timeout": "50m"}) }},
	{"time without end", []string{served}, callWith(fields{"grpc-timeout": "99999999H"}, message())},
	{"unknown method of 60 KB", []string{grpcStatus(12)}, callWith(fields{":path": "/" + strings.Repeat("m", 60_000)}, message())},
	{"token that is no text", []string{grpcStatus(16)}, callWith(fields{"coder-session-token": "\xff\xfe"}, message())},
	{"role that is no text", []string{served}, callWith(fields{"weir-role": "\xff\xfe"}, message())},
	{"CONNECT", []string{":status 405", ":status 415", streamReset, connectionEnds}, callWith(fields{":method": "CONNECT", ":path": "", ":scheme": ""}, nil)},
	{"content length that is too small", []string{streamReset, connectionEnds}, callWith(fields{"content-length": "4"}, message())},
	{"content length that is too large", []string{streamReset, connectionEnds}, callWith(fields{"content-length": "6"}, message())},
	{"trailers", []string{served}, func(r *raw2) error {
		if err := opened(r); err != nil {
			return err
		}
		if err := r.framer.WriteData(1, false, message()); err != nil {
			return err
		}
		return r.headers(1, r.blockOf(hpack.HeaderField{Name: "grpc-status", Value: "13"}, hpack.HeaderField{Name: "x", Value: "\xff"}), true)
	}},
	{"trailers with a path", []string{grpcStatus(12), streamReset, connectionEnds}, func(r *raw2) error {
		if err := opened(r); err != nil {
			return err
		}
		return r.headers(1, r.blockOf(hpack.HeaderField{Name: ":path", Value: "/"}), true)
	}},
	{"trailers that end nothing", []string{streamReset, connectionEnds}, func(r *raw2) error {
		if err := opened(r); err != nil {
			return err
		}
		return r.headers(1, r.blockOf(hpack.HeaderField{Name: "x", Value: "y"}), false)
	}},
	{"message byte by byte", []string{served}, func(r *raw2) error {
		if err := opened(r); err != nil {
			return err
		}
		// A field that is not known, of 297 bytes.
		whole := message(append([]byte{0x7a, 0xa9, 0x02}, make([]byte, 297)...)...)
		for n, b := range whole {
			if err := r.framer.WriteData(1, n == len(whole)-1, []byte{b}); err != nil {
				return err
			}
		}
		return nil
	}},
}

// oneMoreCall makes a call while others never send their message.
func oneMoreCall(others uint32) func(*raw2) error {
	return func(r *raw2) error {
		for n := range others {
			if err := r.open(2*n+1, "UpdateStats", nil); err != nil {
				return err
			}
		}
		id := 2*others + 1
		if err := r.call(id, "UpdateStats", nil, message()); err != nil {
			return err
		}
		r.lookAt(id)
		return nil
	}
}

// lookAt waits for the end of a stream, and has it looked at in place of stream 1.
func (r *raw2) lookAt(id uint32) {
	r.await(patience, func() bool { return r.stream(id).end != "" })
	r.note(func() { r.streams[1] = r.stream(id) })
}
