package coderd

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"

	"golang.org/x/net/http2"
)

const (
	codeNo            = uint32(http2.ErrCodeNo)
	codeRefusedStream = uint32(http2.ErrCodeRefusedStream)
	codeCancel        = uint32(http2.ErrCodeCancel)

	maxStreamID = 1<<31 - 1

	// Rules of what grpc-go found wrong with a client.
	ruleFrame  = "http2.frame"
	ruleGoAway = "http2.goaway"
	ruleReset  = "http2.reset"
)

// grpcConnection is one client's HTTP/2 connection, between TLS and grpc-go. It watches the frames of
// both directions and does what grpc-go cannot be asked to do; without an audit it does neither.
type grpcConnection struct {
	net.Conn
	server *Server
	id     uint64
	link   *link
	in     frames
	out    frames

	admission sync.Mutex
	admitted  bool

	mu sync.Mutex
	// Streams whose HEADERS were read and whose calls have not begun.
	begun []uint32
	// The client said that it goes, for no fault.
	orderly bool
	once    sync.Once
}

func (s *Server) newGRPCConnection(conn net.Conn) *grpcConnection {
	c := &grpcConnection{Conn: conn, server: s, id: s.lastID.Add(1)}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c.link = conn.(*link)
	c.in.init(len(http2.ClientPreface), nil, c.fromClient)
	c.out.init(0, c.Conn, c.toClient)
	return c
}

// grpcAddr leads from what grpc-go tells of a client to its connection.
type grpcAddr struct {
	net.Addr
	connection *grpcConnection
}

// RemoteAddr implements net.Conn.
func (c *grpcConnection) RemoteAddr() net.Addr { return grpcAddr{c.Conn.RemoteAddr(), c} }

// Read implements net.Conn.
func (c *grpcConnection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.server.config.Audit {
		if err := c.in.watch(p[:n]); err != nil && !c.link.gone() {
			c.violation(ruleFrame, 0, err.Error())
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *grpcConnection) Write(p []byte) (int, error) {
	if !c.server.config.Audit {
		return c.Conn.Write(p)
	}
	_, odd := c.server.faults.take("", nil, faultOddFrames)
	return c.out.write(p, odd)
}

// Close implements net.Conn.
func (c *grpcConnection) Close() error {
	c.once.Do(func() {
		c.server.mu.Lock()
		_, admitted := c.server.grpcConnections[c]
		delete(c.server.grpcConnections, c)
		c.server.mu.Unlock()
		if !admitted {
			return
		}
		c.mu.Lock()
		orderly := c.orderly
		c.mu.Unlock()
		c.server.account.update(func(a *Account) {
			a.Connections.Closed++
			if orderly {
				a.Connections.ClosedCleanly++
			}
		})
	})
	return c.Conn.Close()
}

func (c *grpcConnection) fromClient(frame http2.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch frame := frame.(type) {
	case *http2.HeadersFrame:
		c.begun = append(c.begun, frame.StreamID)
	case *http2.GoAwayFrame:
		c.orderly = frame.ErrCode == http2.ErrCodeNo
	case *http2.RSTStreamFrame:
		c.server.account.update(func(a *Account) { a.Cancelled++ })
	}
}

// toClient sees what grpc-go writes, and not what was put in between.
func (c *grpcConnection) toClient(frame http2.Frame) {
	switch frame := frame.(type) {
	case *http2.GoAwayFrame:
		if frame.ErrCode != http2.ErrCodeNo {
			c.violation(ruleGoAway, 0, frame.ErrCode.String()+" "+string(frame.DebugData()))
		}
	case *http2.RSTStreamFrame:
		switch frame.ErrCode {
		case http2.ErrCodeProtocol, http2.ErrCodeFlowControl, http2.ErrCodeStreamClosed,
			http2.ErrCodeFrameSize, http2.ErrCodeCompression:
			c.violation(ruleReset, frame.StreamID, frame.ErrCode.String())
		}
	}
}

func (c *grpcConnection) violation(rule string, stream uint32, detail string) {
	if c.server.config.Audit {
		c.server.account.violation(Violation{c.id, rule, stream, detail})
	}
}

// nextStream is the oldest stream whose call has not begun.
func (c *grpcConnection) nextStream() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.begun) == 0 {
		return 0
	}
	id := c.begun[0]
	c.begun = c.begun[1:]
	return id
}

// frames is one direction of a connection. Its writer puts frames of its own between those that pass.
type frames struct {
	mu     sync.Mutex
	conn   net.Conn
	seen   func(http2.Frame)
	skip   int
	buffer bytes.Buffer
	reader *http2.Framer
	// Frames to put in, for when the one that passes is whole.
	pending bytes.Buffer
	writer  *http2.Framer
}

const frameHeader = 9

func (f *frames) init(skip int, conn net.Conn, seen func(http2.Frame)) {
	f.skip, f.conn, f.seen = skip, conn, seen
	f.reader = http2.NewFramer(nil, &f.buffer)
	f.writer = http2.NewFramer(&f.pending, nil)
	f.writer.AllowIllegalWrites = true
}

// watch looks at bytes that pass.
func (f *frames) watch(p []byte) error {
	skipped := min(f.skip, len(p))
	f.skip -= skipped
	f.buffer.Write(p[skipped:])
	for f.buffer.Len() >= frameHeader {
		head := f.buffer.Bytes()
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if f.buffer.Len() < frameHeader+length {
			break
		}
		frame, err := f.reader.ReadFrame()
		if err != nil {
			return err
		}
		f.seen(frame)
	}
	return nil
}

// write passes bytes on. Odd but legal frames come with them when that is asked for.
func (f *frames) write(p []byte, odd bool) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if odd {
		f.putOddities()
	}
	if err := f.flush(); err != nil {
		return 0, err
	}
	n, err := f.conn.Write(p)
	if err != nil {
		return n, err
	}
	if err := f.watch(p); err != nil {
		return n, err
	}
	return n, f.flush()
}

// flush writes what is to be put in, unless a frame is under way.
func (f *frames) flush() error {
	if f.buffer.Len() > 0 || f.pending.Len() == 0 {
		return nil
	}
	_, err := f.conn.Write(f.pending.Bytes())
	f.pending.Reset()
	return err
}

func (f *frames) put(write func(*http2.Framer) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := write(f.writer); err != nil {
		return err
	}
	return f.flush()
}

func (f *frames) reset(stream, code uint32) error {
	return f.put(func(w *http2.Framer) error { return w.WriteRSTStream(stream, http2.ErrCode(code)) })
}

func (f *frames) goAway(last, code uint32) error {
	return f.put(func(w *http2.Framer) error { return w.WriteGoAway(last, http2.ErrCode(code), []byte("fault")) })
}

func (f *frames) data(stream uint32, data []byte) error {
	return f.put(func(w *http2.Framer) error { return w.WriteData(stream, false, data) })
}

// putOddities has a frame of a type that nobody knows go out, a ping, and a window that grows.
func (f *frames) putOddities() {
	_ = f.writer.WriteRawFrame(0xfa, 0xff, 0, []byte("unknown"))
	_ = f.writer.WritePing(false, [8]byte{1, 2, 3})
	_ = f.writer.WriteWindowUpdate(0, 1)
}
