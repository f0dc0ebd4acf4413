package coderd

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// network is the state that all links share: what a test did to the network.
type network struct {
	// Half of this delays every byte on its way, in each direction.
	rtt time.Duration

	mu sync.Mutex
	// Not nil while nothing passes; closed when traffic may pass again.
	hole chan struct{}
	// Closed when half-open connections are given up.
	cleared chan struct{}
	links   map[*link]struct{}

	// Bytes per second that each link reads; 0 is no limit.
	rate atomic.Int64
}

func newNetwork(rtt time.Duration) *network {
	return &network{rtt: rtt, cleared: make(chan struct{}), links: make(map[*link]struct{})}
}

func (n *network) blackhole() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hole == nil {
		n.hole = make(chan struct{})
	}
}

func (n *network) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hole != nil {
		close(n.hole)
		n.hole = nil
	}
	n.rate.Store(0)
	close(n.cleared)
	n.cleared = make(chan struct{})
}

func (n *network) gate() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hole
}

// all returns the links that are open.
func (n *network) all() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := make([]*link, 0, len(n.links))
	for l := range n.links {
		links = append(links, l)
	}
	return links
}

// link is one accepted TCP connection under the network's impairments.
type link struct {
	// Only the interface, so that io.Copy finds no way around Read and Write.
	net.Conn
	tcp     *net.TCPConn
	network *network
	in, out *delayLine
	// Accepted, and never answered.
	halfOpen bool
	once     sync.Once
	closed   chan struct{}
}

// wrap takes over an accepted connection. A half-open one lasts until the faults
// are cleared.
func (n *network) wrap(tcp *net.TCPConn, halfOpen bool) *link {
	l := &link{Conn: tcp, tcp: tcp, network: n, halfOpen: halfOpen, closed: make(chan struct{})}
	n.mu.Lock()
	n.links[l] = struct{}{}
	cleared := n.cleared
	n.mu.Unlock()
	if n.rtt > 0 {
		l.in, l.out = newDelayLine(n.rtt/2), newDelayLine(n.rtt/2)
		go l.in.fill(tcp)
		go l.out.drain(tcp, l.cut)
	}
	if halfOpen {
		go func() {
			select {
			case <-cleared:
			case <-l.closed:
			}
			l.cut()
		}()
	}
	return l
}

// pass waits until the network lets traffic through.
func (l *link) pass() error {
	for {
		gate := l.network.gate()
		if gate == nil {
			return nil
		}
		select {
		case <-gate:
		case <-l.closed:
			return net.ErrClosed
		}
	}
}

func (l *link) Read(p []byte) (int, error) {
	if l.halfOpen {
		<-l.closed
		return 0, net.ErrClosed
	}
	if err := l.pass(); err != nil {
		return 0, err
	}
	rate := l.network.rate.Load()
	if rate > 0 {
		// A twentieth of a second at a time.
		p = p[:min(int64(len(p)), max(rate/20, 1))]
	}
	var n int
	var err error
	if l.in != nil {
		n, err = l.in.read(p)
	} else {
		n, err = l.tcp.Read(p)
	}
	if rate > 0 && n > 0 {
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(rate)):
		case <-l.closed:
		}
	}
	if n > 0 {
		// What arrived after the hole had opened stays in it.
		if err := l.pass(); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (l *link) Write(p []byte) (int, error) {
	if err := l.pass(); err != nil {
		return 0, err
	}
	if l.out != nil {
		return l.out.write(p)
	}
	return l.tcp.Write(p)
}

func (l *link) SetDeadline(t time.Time) error {
	if err := l.SetReadDeadline(t); err != nil {
		return err
	}
	return l.SetWriteDeadline(t)
}

func (l *link) SetReadDeadline(t time.Time) error {
	if l.in != nil {
		l.in.setDeadline(t)
		return nil
	}
	return l.tcp.SetReadDeadline(t)
}

func (l *link) SetWriteDeadline(t time.Time) error {
	if l.out != nil {
		return nil
	}
	return l.tcp.SetWriteDeadline(t)
}

// Close ends the connection when everything written has left.
func (l *link) Close() error {
	if l.out != nil {
		l.forget()
		l.out.finish()
		return nil
	}
	l.cut()
	return nil
}

// cut ends the connection at once, as the death of the process would.
func (l *link) cut() {
	l.forget()
	if l.in != nil {
		l.in.stop(net.ErrClosed)
		l.out.stop(net.ErrClosed)
	}
	// Closing twice is harmless.
	_ = l.tcp.Close()
}

// reset ends the connection with a TCP RST.
func (l *link) reset() {
	_ = l.tcp.SetLinger(0)
	l.cut()
}

func (l *link) forget() {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.links, l)
	})
}

// delayLine holds bytes for a fixed time. It delays, it does not throttle: any
// number of pieces may be under way.
type delayLine struct {
	delay time.Duration

	mu       sync.Mutex
	changed  chan struct{}
	pieces   []piece
	size     int
	deadline time.Time
	finished bool
	err      error
}

type piece struct {
	due  time.Time
	data []byte
}

// maxDelayed bounds the bytes in a line: 1 Gbit/s over a round trip of a second.
const maxDelayed = 64 << 20

func newDelayLine(delay time.Duration) *delayLine {
	return &delayLine{delay: delay, changed: make(chan struct{})}
}

// signal wakes whoever waits for a change. The lock is held.
func (d *delayLine) signal() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *delayLine) setDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = t
	d.signal()
}

// finish lets what is in the line pass and then ends it.
func (d *delayLine) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.finished {
		d.finished = true
		d.pieces = append(d.pieces, piece{due: time.Now().Add(d.delay)})
		d.signal()
	}
}

// stop ends the line at once.
func (d *delayLine) stop(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err, d.pieces = err, nil
		d.signal()
	}
}

func (d *delayLine) write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.err == nil && !d.finished && d.size > maxDelayed {
		d.wait(time.Time{})
	}
	switch {
	case d.err != nil:
		return 0, d.err
	case d.finished:
		return 0, net.ErrClosed
	}
	d.pieces = append(d.pieces, piece{time.Now().Add(d.delay), append([]byte(nil), p...)})
	d.size += len(p)
	d.signal()
	return len(p), nil
}

// wait releases the lock until something changes or the time has come.
func (d *delayLine) wait(until time.Time) {
	changed := d.changed
	d.mu.Unlock()
	defer d.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// read returns bytes that are due. The end marker of the line is a piece without
// data; the error behind it stays.
func (d *delayLine) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		now := time.Now()
		if !d.deadline.IsZero() && !now.Before(d.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		if len(d.pieces) == 0 && d.err != nil {
			return 0, d.err
		}
		until := d.deadline
		if len(d.pieces) > 0 {
			first := &d.pieces[0]
			if !now.Before(first.due) {
				return d.take(p, first)
			}
			if until.IsZero() || first.due.Before(until) {
				until = first.due
			}
		}
		d.wait(until)
	}
}

func (d *delayLine) take(p []byte, first *piece) (int, error) {
	if len(first.data) == 0 {
		d.err, d.pieces = net.ErrClosed, nil
		return 0, d.err
	}
	n := copy(p, first.data)
	first.data = first.data[n:]
	d.size -= n
	if len(first.data) == 0 {
		d.pieces = d.pieces[1:]
		d.signal()
	}
	return n, nil
}

// fill reads a connection into the line. What the peer sent before its end passes
// first.
func (d *delayLine) fill(tcp *net.TCPConn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := tcp.Read(buf)
		if n > 0 {
			if _, err := d.write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.err == nil {
				d.err = err
				d.signal()
			}
			return
		}
	}
}

// drain writes the line to a connection and cuts it at the end.
func (d *delayLine) drain(tcp *net.TCPConn, cut func()) {
	defer cut()
	buf := make([]byte, 256<<10)
	for {
		n, err := d.read(buf)
		if err != nil {
			return
		}
		if _, err := tcp.Write(buf[:n]); err != nil {
			return
		}
	}
}
