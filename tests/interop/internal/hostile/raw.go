// Package hostile is a client that breaks the protocol one rule at a time and says
// what the server made of it.
package hostile

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"weir.test/interop/internal/peer"
)

// WebSocket opcodes.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
)

// yamux types and flags.
const (
	data         = 0
	windowUpdate = 1
	ping         = 2
	goAway       = 3

	syn = 1
	fin = 4
	rst = 8
)

// raw is a connection below all libraries: it writes any bytes and notes what the
// server sends.
type raw struct {
	observed
	conn net.Conn

	closed  map[uint32]string
	replied map[uint32]bool
	pongs   map[uint32]bool
	window  map[uint32]int
	goneBy  bool
}

// dialTCP connects without a word.
func dialTCP(o peer.Options) (net.Conn, *url.URL, error) {
	address, err := peer.DialURL(o)
	if err != nil {
		return nil, nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	if u.Scheme == "https" {
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
		return conn, u, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	return conn, u, err
}

func upgradeRequest(o peer.Options, u *url.URL) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCoder-Session-Token: %s\r\n",
		u.RequestURI(), u.Host, o.Token)
}

// dial makes a WebSocket and listens to it.
func dial(o peer.Options) (*raw, error) {
	conn, u, err := dialTCP(o)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, upgradeRequest(o, u)+"\r\n"); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		_ = conn.Close()
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	r := &raw{
		observed: newObserved(), conn: conn, closed: make(map[uint32]string),
		replied: make(map[uint32]bool), pongs: make(map[uint32]bool), window: make(map[uint32]int),
	}
	go r.listen(reader)
	return r, nil
}

func (r *raw) close() { _ = r.conn.Close() }

// listen follows the server until the connection ends.
func (r *raw) listen(reader *bufio.Reader) {
	stream, push := io.Pipe()
	go r.yamux(stream)
	how := r.webSocket(reader, push)
	_ = push.Close()
	r.note(func() { r.ended = how })
}

// webSocket passes the payload of messages on and returns how it ended.
func (r *raw) webSocket(reader *bufio.Reader, payload io.Writer) string {
	for {
		opcode, length, err := readFrameHeader(reader)
		if err != nil {
			return fmt.Sprintf("closed the connection: %v", err)
		}
		switch opcode {
		case opBinary, opContinuation:
			if _, err := io.CopyN(payload, reader, int64(length)); err != nil {
				return fmt.Sprintf("closed the connection: %v", err)
			}
		default:
			body := make([]byte, min(length, 1<<16))
			if _, err := io.ReadFull(reader, body); err != nil {
				return fmt.Sprintf("closed the connection: %v", err)
			}
			if opcode == opClose && len(body) >= 2 {
				return fmt.Sprintf("close %d", binary.BigEndian.Uint16(body))
			}
		}
	}
}

func readFrameHeader(reader *bufio.Reader) (opcode byte, length uint64, err error) {
	var head [2]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return 0, 0, err
	}
	if head[1]&0x80 != 0 {
		return 0, 0, errors.New("masked frame from a server")
	}
	length = uint64(head[1] & 0x7f)
	size := map[uint64]int{126: 2, 127: 8}[length]
	if size > 0 {
		var extended [8]byte
		if _, err := io.ReadFull(reader, extended[8-size:]); err != nil {
			return 0, 0, err
		}
		length = binary.BigEndian.Uint64(extended[:])
	}
	return head[0] & 0x0f, length, nil
}

// yamux notes the frames of the server.
func (r *raw) yamux(stream io.Reader) {
	var head [12]byte
	for {
		if _, err := io.ReadFull(stream, head[:]); err != nil {
			return
		}
		kind, flags := head[1], binary.BigEndian.Uint16(head[2:])
		id, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
		if kind == data {
			if _, err := io.CopyN(io.Discard, stream, int64(length)); err != nil {
				return
			}
		}
		if kind == ping && flags&syn != 0 {
			if err := r.frame(ping, 2, 0, length, nil); err != nil {
				return
			}
		}
		r.note(func() {
			switch kind {
			case data:
				r.replied[id] = r.replied[id] || length > 0
			case windowUpdate:
				r.window[id] += int(length)
			case ping:
				if flags&syn == 0 {
					r.pongs[length] = true
				}
			case goAway:
				r.goneBy = true
			}
			if kind == data || kind == windowUpdate {
				if flags&rst != 0 {
					r.closed[id] = "reset the stream"
				} else if flags&fin != 0 && r.closed[id] == "" {
					r.closed[id] = "closed the stream"
				}
			}
		})
	}
}

// webSocketFrame writes one masked frame.
func (r *raw) webSocketFrame(firstByte byte, payload []byte) error {
	frame := []byte{firstByte}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n < 1<<16:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	frame = append(frame, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	_, err := r.conn.Write(frame)
	return err
}

func (r *raw) bytes(payload []byte) error { return r.webSocketFrame(0x80|opBinary, payload) }

func header(kind byte, flags uint16, id, length uint32) []byte {
	frame := []byte{0, kind}
	frame = binary.BigEndian.AppendUint16(frame, flags)
	frame = binary.BigEndian.AppendUint32(frame, id)
	return binary.BigEndian.AppendUint32(frame, length)
}

// frame writes one yamux frame in a message of its own.
func (r *raw) frame(kind byte, flags uint16, id, length uint32, body []byte) error {
	return r.bytes(append(header(kind, flags, id, length), body...))
}

func (r *raw) open(id uint32) error { return r.frame(windowUpdate, syn, id, 0, nil) }

func (r *raw) send(id uint32, body []byte) error {
	return r.frame(data, 0, id, uint32(len(body)), body)
}

// sendWithinWindow sends as much as the server grants until it ends the stream.
func (r *raw) sendWithinWindow(id uint32, body []byte) error {
	const initialWindow = 256 << 10
	sent := 0
	for sent < len(body) {
		open := r.await(5*time.Second, func() bool {
			return r.closed[id] != "" || initialWindow+r.window[id] > sent
		})
		r.mu.Lock()
		room, over := initialWindow+r.window[id]-sent, r.closed[id] != "" || r.ended != ""
		r.mu.Unlock()
		if over {
			return nil
		}
		if !open {
			return fmt.Errorf("no window after %d bytes", sent)
		}
		n := min(room, len(body)-sent, 64<<10)
		if err := r.send(id, body[sent:sent+n]); err != nil {
			return err
		}
		sent += n
	}
	return nil
}
