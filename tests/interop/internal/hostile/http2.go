package hostile

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir.test/interop/internal/peer"
)

// Windows of the protocol before any setting.
const initialWindow = 64<<10 - 1

// stream is what the server did on a stream.
type stream struct {
	// Values of the headers and trailers that matter.
	status, grpcStatus, grpcMessage string
	data                            int
	// How it ended: "END_STREAM" or the code of a reset.
	end string
	// What the server grants, beyond the setting.
	window int
}

// raw2 is an HTTP/2 connection below all libraries but the framer: it writes any frames
// and notes what the server sends.
type raw2 struct {
	observed
	conn    net.Conn
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	options peer.Options

	streams map[uint32]*stream
	pongs   map[[8]byte]bool
	// What the server grants to the connection, and to each stream at its start.
	window, streamWindow int
	settings             int
}

func dialHTTP2(o peer.Options) (net.Conn, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "https" {
		return tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	return net.DialTimeout("tcp", u.Host, patience)
}

// connect2 makes a connection with these settings, and waits for those of the server.
func connect2(o peer.Options, settings ...http2.Setting) (*raw2, error) {
	conn, err := dialHTTP2(o)
	if err != nil {
		return nil, err
	}
	r := &raw2{
		observed: newObserved(), conn: conn, framer: http2.NewFramer(conn, conn), options: o,
		streams: make(map[uint32]*stream), pongs: make(map[[8]byte]bool),
		window: initialWindow, streamWindow: initialWindow,
	}
	r.framer.AllowIllegalWrites = true
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encoder = hpack.NewEncoder(&r.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := r.framer.WriteSettings(settings...); err != nil {
		return nil, err
	}
	go r.listen()
	if !r.await(patience, func() bool { return r.settings > 0 }) {
		return nil, errors.New("no settings: " + r.ended)
	}
	// The windows of the server count from here on.
	return r, r.framer.WriteSettingsAck()
}

func (r *raw2) close() { _ = r.conn.Close() }

// listen follows the server until the connection ends.
func (r *raw2) listen() {
	said := ""
	for {
		frame, err := r.framer.ReadFrame()
		if err != nil {
			r.note(func() { r.ended = strings.TrimPrefix(said+fmt.Sprintf("; closed the connection: %v", err), "; ") })
			return
		}
		r.note(func() {
			at := func() *stream { return r.stream(frame.Header().StreamID) }
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if frame.IsAck() {
					break
				}
				r.settings++
				if value, ok := frame.Value(http2.SettingInitialWindowSize); ok {
					r.streamWindow = int(value)
				}
			case *http2.PingFrame:
				if frame.IsAck() {
					r.pongs[frame.Data] = true
				}
			case *http2.WindowUpdateFrame:
				if frame.StreamID == 0 {
					r.window += int(frame.Increment)
				} else {
					at().window += int(frame.Increment)
				}
			case *http2.GoAwayFrame:
				said = "go away with " + frame.ErrCode.String()
			case *http2.RSTStreamFrame:
				// After an answer it only says that the rest is not wanted.
				if at().end == "" {
					at().end = "reset with " + frame.ErrCode.String()
				}
			case *http2.DataFrame:
				at().data += len(frame.Data())
				if frame.StreamEnded() {
					at().end = "END_STREAM"
				}
			case *http2.MetaHeadersFrame:
				for _, field := range frame.Fields {
					switch field.Name {
					case ":status":
						at().status = field.Value
					case "grpc-status":
						at().grpcStatus = field.Value
					case "grpc-message":
						at().grpcMessage = field.Value
					}
				}
				if frame.StreamEnded() {
					at().end = "END_STREAM"
				}
			}
		})
	}
}

// stream is the note on a stream; the caller holds the lock.
func (r *raw2) stream(id uint32) *stream {
	if r.streams[id] == nil {
		r.streams[id] = &stream{}
	}
	return r.streams[id]
}

// How a head differs from that of a proper call: an empty value removes a field, an
// unknown name adds one at the end.
type fields map[string]string

// head is the block of a call of the method, changed.
func (r *raw2) head(method string, change fields) []byte {
	return r.blockOf(callFields(r.options, method, change)...)
}

func callFields(o peer.Options, method string, change fields) []hpack.HeaderField {
	proper := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":path", Value: peer.ServicePrefix + method}, {Name: ":authority", Value: "weir"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
		{Name: peer.TokenKey, Value: o.Token}, {Name: peer.RoleKey, Value: o.Role},
	}
	var all []hpack.HeaderField
	seen := make(map[string]bool)
	for _, field := range proper {
		seen[field.Name] = true
		if value, changed := change[field.Name]; changed {
			field.Value = value
		}
		if field.Value != "" {
			all = append(all, field)
		}
	}
	for name, value := range change {
		if !seen[name] {
			all = append(all, hpack.HeaderField{Name: name, Value: value})
		}
	}
	return all
}

func (r *raw2) blockOf(fields ...hpack.HeaderField) []byte {
	r.block.Reset()
	for _, field := range fields {
		// Into memory, which does not fail.
		_ = r.encoder.WriteField(field)
	}
	return bytes.Clone(r.block.Bytes())
}

// open begins a call on a stream, whose body follows.
func (r *raw2) open(id uint32, method string, change fields) error {
	return r.headers(id, r.head(method, change), false)
}

// headers writes a block in as many frames as it needs.
func (r *raw2) headers(id uint32, block []byte, endStream bool) error {
	const frame = 16 << 10
	first := block[:min(len(block), frame)]
	rest := block[len(first):]
	err := r.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: endStream, EndHeaders: len(rest) == 0,
	})
	for err == nil && len(rest) > 0 {
		piece := rest[:min(len(rest), frame)]
		rest = rest[len(piece):]
		err = r.framer.WriteContinuation(id, len(rest) == 0, piece)
	}
	return err
}

// call makes a whole call.
func (r *raw2) call(id uint32, method string, change fields, body []byte) error {
	if err := r.open(id, method, change); err != nil {
		return err
	}
	return r.framer.WriteData(id, true, body)
}

// message is a body: a length and so many bytes.
func message(content ...byte) []byte {
	return append([]byte{0, 0, 0, byte(len(content) >> 8), byte(len(content))}, content...)
}

// sendWithinWindow sends as much as the server grants until it ends the stream.
func (r *raw2) sendWithinWindow(id uint32, body []byte, endStream bool) error {
	sent := 0
	for sent < len(body) {
		room := 0
		open := r.await(patience, func() bool {
			room = min(r.streamWindow+r.stream(id).window-sent, r.window-sent)
			return r.stream(id).end != "" || room > 0
		})
		r.mu.Lock()
		over := r.stream(id).end != "" || r.ended != ""
		r.mu.Unlock()
		if over {
			return nil
		}
		if !open {
			return fmt.Errorf("no window after %d bytes", sent)
		}
		n := min(room, len(body)-sent, 16<<10)
		if err := r.framer.WriteData(id, endStream && sent+n == len(body), body[sent:sent+n]); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// frames writes bytes that the framer would not.
func (r *raw2) frames(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) error {
	return r.framer.WriteRawFrame(kind, flags, id, payload)
}

// write puts bytes on the connection at once.
func (r *raw2) write(p []byte) error {
	if err := r.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := r.conn.Write(p)
	return err
}
