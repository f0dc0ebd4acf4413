package coderd

import (
	"net"
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

// gone tells whether the connection was ended here.
func (l *link) gone() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
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
