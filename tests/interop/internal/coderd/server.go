// Package coderd is the server's side of the workspace agent connection, on the
// libraries that coderd uses, with faults on demand and an account of what came.
package coderd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"

	"weir.test/interop/internal/pb"
)

// Config is fixed for the life of a server.
type Config struct {
	// Tokens that are accepted, in lower case.
	Tokens map[string]bool
	// Major and minor of the newest API version that is accepted.
	MaxVersion [2]int
	// Nil serves without TLS.
	Certificate *tls.Certificate
	// Added to every byte's way there and back, half in each direction.
	RTT time.Duration
	// The report_interval that UpdateStats answers.
	Refresh time.Duration
	// The period of coderd's pings to connections with the role of an agent.
	Monitor time.Duration
	// Decode every ReportBoundaryLogs as a real coderd does.
	Strict bool
	// Keep the bytes of every ReportBoundaryLogs.
	KeepRaw bool
	// Watch the wire for violations.
	Audit bool
	// What is special to gRPC.
	GRPC GRPC
	// Log what happens to stderr.
	Verbose bool
}

// Server accepts agents.
type Server struct {
	config   Config
	account  *account
	faults   faults
	network  *network
	manifest atomic.Pointer[pb.Manifest]
	lastID   atomic.Uint64
	http     *http.Server
	log      *log.Logger

	exposition *exposition

	mu              sync.Mutex
	endpoints       []*endpoint
	connections     map[*connection]struct{}
	grpc            *grpc.Server
	grpcFeed        *fedListener
	grpcConnections map[*grpcConnection]struct{}
	// Of connections that are gone.
	cancelled int
}

// New returns a server that does not listen yet.
func New(config Config) (*Server, error) {
	s := &Server{
		config:          config,
		account:         newAccount(config.KeepRaw),
		network:         newNetwork(config.RTT),
		exposition:      newExposition(),
		connections:     make(map[*connection]struct{}),
		grpcConnections: make(map[*grpcConnection]struct{}),
		log:             log.New(os.Stderr, "coderd: ", log.Lmicroseconds),
	}
	m, err := manifest(nil)
	if err != nil {
		return nil, err
	}
	s.manifest.Store(m)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+RPCPath, s.rpc)
	s.http = &http.Server{
		Handler:  mux,
		ErrorLog: s.log,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if secure, ok := conn.(*tls.Conn); ok {
				conn = secure.NetConn()
			}
			return context.WithValue(ctx, linkKey{}, conn)
		},
	}
	return s, nil
}

type linkKey struct{}

func linkOf(r *http.Request) *link { return r.Context().Value(linkKey{}).(*link) }

// endpoint is one address that is served, again after a restart.
type endpoint struct {
	address  string
	listener net.Listener
	serve    func(net.Listener) error
}

// Listen binds the address and serves agents over WebSocket there. The URL has the real port.
func (s *Server) Listen(address string) (url string, err error) {
	return s.listen(address, func(listener net.Listener) error {
		if s.config.Certificate != nil {
			listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{*s.config.Certificate}})
		}
		return s.http.Serve(listener)
	})
}

func (s *Server) listen(address string, serve func(net.Listener) error) (url string, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	e := &endpoint{address: listener.Addr().String(), serve: serve}
	s.mu.Lock()
	s.endpoints = append(s.endpoints, e)
	s.mu.Unlock()
	s.start(e, listener)
	scheme := "http"
	if s.config.Certificate != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, e.address), nil
}

func (s *Server) start(e *endpoint, listener net.Listener) {
	s.mu.Lock()
	e.listener = listener
	s.mu.Unlock()
	go func() {
		if err := e.serve(&impairedListener{listener, s}); err != nil && !errors.Is(err, net.ErrClosed) {
			s.logf("serve: %v", err)
		}
	}()
}

// restart takes the server away for a while, as when its process is replaced.
func (s *Server) restart(down time.Duration) error {
	s.mu.Lock()
	endpoints := slices.Clone(s.endpoints)
	s.mu.Unlock()
	for _, e := range endpoints {
		s.mu.Lock()
		listener := e.listener
		s.mu.Unlock()
		if err := listener.Close(); err != nil {
			return err
		}
	}
	s.cutAll()
	go func() {
		time.Sleep(down)
		for _, e := range endpoints {
			listener, err := listenAgain(e.address)
			if err != nil {
				s.logf("restart: %v", err)
				return
			}
			s.start(e, listener)
		}
	}()
	return nil
}

// listenAgain binds a port that was just in use, which may need a moment.
func listenAgain(address string) (net.Listener, error) {
	for attempt := 0; ; attempt++ {
		listener, err := net.Listen("tcp", address)
		if err == nil || attempt == 100 {
			return listener, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Server) cutAll() {
	for _, l := range s.network.all() {
		l.cut()
	}
}

// impairedListener puts every connection under the faults of the network.
type impairedListener struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *impairedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	_, halfOpen := l.server.faults.take("", nil, faultHalfOpen)
	return l.server.network.wrap(conn.(*net.TCPConn), halfOpen), nil
}

// serve runs one accepted WebSocket to its end.
func (s *Server) serve(ws *websocket.Conn, l *link, token string, dial Dial) {
	c, err := s.newConnection(ws, l, strings.ToLower(token), dial.Role)
	if err != nil {
		s.logf("session: %v", err)
		_ = ws.Close(websocket.StatusInternalError, truncate(err.Error()))
		return
	}
	s.mu.Lock()
	s.connections[c] = struct{}{}
	s.mu.Unlock()
	s.account.opened(dial.Role, dial.Version)
	s.logf("connection %d: open, role %q, version %q", c.id, dial.Role, dial.Version)
	c.serve()
	s.mu.Lock()
	delete(s.connections, c)
	if c.observer != nil {
		s.cancelled += c.observer.Cancelled()
	}
	s.mu.Unlock()
	s.account.update(func(a *Account) { a.Connections.Closed++ })
	s.logf("connection %d: closed", c.id)
}

func (s *Server) live() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	connections := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		connections = append(connections, c)
	}
	return connections
}

func (s *Server) logf(format string, args ...any) {
	if s.config.Verbose {
		s.log.Printf(format, args...)
	}
}
