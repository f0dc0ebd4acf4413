package coderd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcserver"
	"storj.io/drpc/drpcstream"
	"storj.io/drpc/drpcwire"

	"weir.test/interop/internal/audit"
)

// What coderd sets for messages on its dRPC servers.
const maxMessage = 4 << 20

// connection is one client's yamux session.
type connection struct {
	server   *Server
	id       uint64
	link     *link
	ws       *websocket.Conn
	tap      *tap
	observer *audit.Observer
	session  *yamux.Session
	mux      *drpcmux.Mux
	monitor  bool
	// The client closed the WebSocket as it should.
	orderly atomic.Bool
}

func (s *Server) newConnection(ws *websocket.Conn, l *link, token, role string) (*connection, error) {
	c := &connection{
		server: s, id: s.lastID.Add(1), link: l, ws: ws, mux: drpcmux.New(),
		monitor: role == "" || role == "agent",
	}
	if s.config.Audit {
		c.observer = audit.New(time.Now, func(rule string, stream uint32, detail string) {
			s.account.violation(Violation{c.id, rule, stream, detail})
		})
	}
	if err := c.mux.Register(&agentAPI{s, token, c.id}, service); err != nil {
		return nil, err
	}
	c.tap = &tap{
		Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary),
		ws:   ws, link: l, faults: &s.faults, observer: c.observer, readErr: c.readEnded,
	}
	config := yamux.DefaultConfig()
	config.LogOutput = nil
	config.Logger = log.New(libraryLog{c, "yamux"}, "", 0)
	session, err := yamux.Server(c.tap, config)
	if err != nil {
		return nil, err
	}
	c.session = session
	return c, nil
}

// serve answers calls until the session ends.
func (c *connection) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.monitor {
		go c.monitorPings(ctx)
	}
	if c.observer != nil {
		go c.checkAudit(ctx)
	}
	server := drpcserver.NewWithOptions(c, drpcserver.Options{
		Manager: drpcmanager.Options{
			Reader: drpcwire.ReaderOptions{MaximumBufferSize: maxMessage},
			Stream: drpcstream.Options{MaximumBufferSize: maxMessage},
		},
		Log: func(err error) {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) && !errors.Is(err, errFault) {
				c.server.account.libraryError(LibraryError{c.id, "drpc", err.Error()})
			}
		},
	})
	err := server.Serve(ctx, c.session)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, yamux.ErrSessionShutdown) {
		_ = c.ws.Close(websocket.StatusInternalError, truncate(err.Error()))
	}
	_ = c.session.Close()
	_ = c.link.Close()
	if c.observer != nil {
		c.observer.Finish(c.orderly.Load())
	}
}

// monitorPings is coderd's watch over an agent's connection: a ping each interval,
// and the end of the session when none came back for two.
func (c *connection) monitorPings(ctx context.Context) {
	interval := c.server.config.Monitor
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	good := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := c.session.Ping(); err == nil {
			good = time.Now()
		} else if time.Since(good) > max(2*interval, 2*time.Second) {
			_ = c.session.Close()
			return
		}
	}
}

func (c *connection) checkAudit(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.observer.Check()
		}
	}
}

// readEnded judges how the client's side of the WebSocket ended.
func (c *connection) readEnded(err error) {
	text := err.Error()
	switch {
	case err == io.EOF:
		// NetConn says this for close 1000 and 1001, and only then.
		if !c.orderly.Swap(true) {
			c.server.account.update(func(a *Account) { a.Connections.ClosedCleanly++ })
		}
	case strings.Contains(text, "unexpected frame type read"):
		c.violation(audit.RuleText, text)
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// The connection broke.
	case websocket.CloseStatus(err) == -1 && strings.Contains(text, "received "):
		c.violation(audit.RuleWebSocket, text)
	default:
		c.server.account.libraryError(LibraryError{c.id, "websocket", text})
	}
}

func (c *connection) violation(rule, detail string) {
	if c.observer != nil {
		c.server.account.violation(Violation{Connection: c.id, Rule: rule, Detail: detail})
	}
}

// libraryLog takes the lines that a library logs about a connection.
type libraryLog struct {
	connection *connection
	library    string
}

// Write implements io.Writer.
func (l libraryLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	l.connection.server.account.libraryError(LibraryError{l.connection.id, l.library, text})
	l.connection.server.logf("connection %d: %s: %s", l.connection.id, l.library, text)
	return len(p), nil
}

// truncate fits a close reason into a control frame.
func truncate(reason string) string {
	const maxReason = 120
	return fmt.Sprintf("%.*s", maxReason, reason)
}
