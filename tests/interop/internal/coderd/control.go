package coderd

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"
)

// Control is the endpoint that tests steer the server by and read it out.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /account", s.getAccount)
	mux.HandleFunc("GET /connections", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, len(s.live())+len(s.grpcLive()))
	})
	mux.HandleFunc("GET /raw", func(w http.ResponseWriter, r *http.Request) {
		for _, request := range s.account.raw(r.URL.Query().Get("session")) {
			fmt.Fprintln(w, hex.EncodeToString(request))
		}
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.account.reset()
		s.mu.Lock()
		s.cancelled = 0
		s.mu.Unlock()
	})
	mux.HandleFunc("POST /clear", func(w http.ResponseWriter, _ *http.Request) {
		s.faults.clear()
		s.network.clear()
	})
	mux.HandleFunc("POST /fault", s.postFault)
	mux.HandleFunc("POST /manifest", s.postManifest)
	return mux
}

func (s *Server) getAccount(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	cancelled := s.cancelled
	s.mu.Unlock()
	for _, c := range s.live() {
		if c.observer != nil {
			c.observer.Check()
			cancelled += c.observer.Cancelled()
		}
	}
	body, err := s.account.encode(s.faults.counts(), cancelled)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func (s *Server) postManifest(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		m, parseErr := manifest(body)
		if err = parseErr; err == nil {
			s.manifest.Store(m)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (s *Server) postFault(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	var fault Fault
	if err := decoder.Decode(&fault); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch {
	case slices.Contains(armedFaults, fault.Kind):
		s.faults.arm(fault)
	case slices.Contains(immediateFaults, fault.Kind):
		s.faults.count(fault.Kind)
		if err := s.strike(fault); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		http.Error(w, fmt.Sprintf("unknown fault kind %q", fault.Kind), http.StatusBadRequest)
	}
}

// strike does what happens at once, to all connections.
func (s *Server) strike(fault Fault) error {
	switch fault.Kind {
	case faultBlackhole, faultSlowRead:
		for _, c := range s.live() {
			if c.observer != nil {
				c.observer.Impair()
			}
		}
		if fault.Kind == faultBlackhole {
			s.network.blackhole()
		} else {
			s.network.rate.Store(max(fault.BytesPerSecond, 1))
		}
		return nil
	case faultRST:
		for _, l := range s.network.all() {
			l.reset()
		}
		return nil
	case faultGoAway:
		if err := s.goAway(uint32(fault.Code)); err != nil {
			return err
		}
	case faultRestart:
		return s.restart(time.Duration(fault.DownMS) * time.Millisecond)
	}
	var failed error
	for _, c := range s.live() {
		// One that has ended meanwhile is none to strike.
		if err := c.strike(fault); err != nil && !c.link.gone() && !c.session.IsClosed() {
			failed = err
		}
	}
	return failed
}

func (c *connection) strike(fault Fault) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	switch fault.Kind {
	case faultGoAway:
		defer cancel()
		return c.session.GoAway()
	case faultTextFrame:
		defer cancel()
		return c.ws.Write(ctx, websocket.MessageText, []byte("text"))
	}
	// These wait for the client's answer.
	go func() {
		defer cancel()
		if fault.Kind == faultPing {
			_ = c.ws.Ping(ctx)
		} else {
			_ = c.ws.Close(websocket.StatusCode(fault.Code), "")
		}
	}()
	return nil
}
