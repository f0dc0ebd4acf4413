package coderd

import (
	"context"
	"encoding/binary"
	"net"
	"sync"

	"github.com/coder/websocket"

	"weir.test/interop/internal/audit"
)

// tap stands between the WebSocket and yamux. It shows both directions to the
// audit and does what the libraries cannot be asked to do.
type tap struct {
	net.Conn
	ws       *websocket.Conn
	link     *link
	faults   *faults
	observer *audit.Observer

	// How the client's side ended; set before Read returns an error.
	readErr func(error)

	mu sync.Mutex
	// yamux writes a header and its body one after the other: between the two
	// nothing may be put in.
	inBody   bool
	dropBody bool
	// Streams that were reset behind yamux's back, whose frames are kept back.
	reset   map[uint32]bool
	pending [][]byte
}

const (
	yamuxHeader       = 12
	yamuxWindowUpdate = 1
	yamuxRST          = 8
)

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	// The close of a cut connection may discard the rest of a message under the reader,
	// which then takes the next frame's header and masked bytes for payload.
	if n > 0 && t.observer != nil && !t.link.gone() {
		t.observer.FromClient(p[:n])
	}
	if err != nil {
		t.readErr(err)
	}
	return n, err
}

func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	drop := t.dropBody
	if t.inBody {
		t.inBody, t.dropBody = false, false
	} else {
		drop = t.reset[binary.BigEndian.Uint32(p[4:])]
		t.inBody = p[1] == 0 && binary.BigEndian.Uint32(p[8:]) > 0
		t.dropBody = t.inBody && drop
	}
	if drop {
		return len(p), nil
	}
	if err := t.send(p); err != nil {
		return 0, err
	}
	if !t.inBody {
		for _, frame := range t.pending {
			if err := t.send(frame); err != nil {
				return 0, err
			}
		}
		t.pending = nil
	}
	return len(p), nil
}

func (t *tap) send(p []byte) error {
	if t.observer != nil {
		t.observer.ToClient(p)
	}
	if _, ok := t.faults.take("", nil, faultFragments); ok && len(p) > 1 {
		return t.sendInFragments(p)
	}
	if _, ok := t.faults.take("", nil, faultZeroMessages); ok {
		if _, err := t.Conn.Write(nil); err != nil {
			return err
		}
	}
	_, err := t.Conn.Write(p)
	return err
}

func (t *tap) sendInFragments(p []byte) error {
	w, err := t.ws.Writer(context.Background(), websocket.MessageBinary)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{p[:1], p[1:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return w.Close()
}

// resetStream sends RST for a stream, which yamux offers no way to do.
func (t *tap) resetStream(id uint32) error {
	frame := make([]byte, yamuxHeader)
	frame[1] = yamuxWindowUpdate
	binary.BigEndian.PutUint16(frame[2:], yamuxRST)
	binary.BigEndian.PutUint32(frame[4:], id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reset == nil {
		t.reset = make(map[uint32]bool)
	}
	t.reset[id] = true
	if t.inBody {
		t.pending = append(t.pending, frame)
		return nil
	}
	return t.send(frame)
}
