package coderd

import (
	"net"
	"os"
	"sync"
	"time"
)

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
