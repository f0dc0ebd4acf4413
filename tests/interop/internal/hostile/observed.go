package hostile

import (
	"sync"
	"time"
)

// observed is what a connection has seen of the server, for those that wait for it.
type observed struct {
	mu      sync.Mutex
	changed chan struct{}
	// How the connection ended.
	ended string
}

func newObserved() observed { return observed{changed: make(chan struct{})} }

func (r *observed) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until the condition holds, and reports whether it came to that. The
// end of the connection is always worth a look.
func (r *observed) await(limit time.Duration, holds func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		r.mu.Lock()
		ok, ended, changed := holds(), r.ended != "", r.changed
		r.mu.Unlock()
		if ok || ended {
			return ok
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}
