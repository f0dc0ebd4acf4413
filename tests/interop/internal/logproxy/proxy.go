// Package logproxy does what the Go agent's boundary log proxy does, on the same
// libraries: a queue of requests, one call at a time, and no retry.
package logproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

const (
	queueLength = 100
	maxPayload  = 32 << 10
	tagV1       = 1
	tagV2       = 2
)

// The reasons for which requests or logs are counted as dropped.
const (
	bufferFull    = "buffer_full"
	forwardFailed = "forward_failed"
	channelFull   = "boundary_channel_full"
	batchFull     = "boundary_batch_full"
)

// Proxy takes requests from a Unix socket and forwards them.
type Proxy struct {
	queue    chan *pb.ReportBoundaryLogsRequest
	listener net.Listener
	log      *log.Logger

	mu        sync.Mutex
	batches   map[string]int64
	logs      map[string]int64
	forwarded int64
}

// Listen replaces what is at the path and listens there.
func Listen(path string, logger *log.Logger) (*Proxy, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		queue:    make(chan *pb.ReportBoundaryLogsRequest, queueLength),
		listener: listener, log: logger,
		batches: make(map[string]int64), logs: make(map[string]int64),
	}
	go p.accept()
	return p, nil
}

// Close removes the socket. What is queued is lost.
func (p *Proxy) Close() error { return p.listener.Close() }

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.log.Printf("accept: %v", err)
			}
			return
		}
		go p.receive(conn)
	}
}

// receive reads frames until the connection ends or breaks the framing.
func (p *Proxy) receive(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, maxPayload)
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			if !errors.Is(err, io.EOF) {
				p.log.Printf("read header: %v", err)
			}
			return
		}
		word := binary.BigEndian.Uint32(head[:])
		tag, length := word>>24, word&0xffffff
		if tag != tagV1 && tag != tagV2 {
			p.log.Printf("unsupported tag %d", tag)
			return
		}
		if length > maxPayload {
			p.log.Printf("payload of %d bytes, limit %d", length, maxPayload)
			return
		}
		if _, err := io.ReadFull(conn, buf[:length]); err != nil {
			if !errors.Is(err, io.EOF) {
				p.log.Printf("read payload: %v", err)
			}
			return
		}
		if err := p.frame(tag, buf[:length]); err != nil {
			p.log.Printf("skip a frame: %v", err)
		}
	}
}

func (p *Proxy) frame(tag uint32, payload []byte) error {
	if tag == tagV1 {
		var request pb.ReportBoundaryLogsRequest
		if err := proto.Unmarshal(payload, &request); err != nil {
			return err
		}
		p.enqueue(&request)
		return nil
	}
	var message pb.BoundaryMessage
	if err := proto.Unmarshal(payload, &message); err != nil {
		return err
	}
	switch m := message.Msg.(type) {
	case *pb.BoundaryMessage_Logs:
		p.enqueue(m.Logs)
	case *pb.BoundaryMessage_Status:
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := m.Status.GetDroppedChannelFull(); n > 0 {
			p.logs[channelFull] += n
		}
		if n := m.Status.GetDroppedBatchFull(); n > 0 {
			p.logs[batchFull] += n
		}
	default:
		return fmt.Errorf("unknown message %T", m)
	}
	return nil
}

func (p *Proxy) enqueue(request *pb.ReportBoundaryLogsRequest) {
	select {
	case p.queue <- request:
	default:
		p.drop(bufferFull, request)
	}
}

func (p *Proxy) drop(reason string, request *pb.ReportBoundaryLogsRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches[reason]++
	p.logs[reason] += int64(len(request.Logs))
}

// Forward keeps a connection and forwards over it until the context ends.
func (p *Proxy) Forward(ctx context.Context, options peer.Options) {
	for wait := newRetrier(); wait.next(ctx); {
		client, err := peer.Dial(ctx, options)
		if err != nil {
			p.log.Printf("dial: %v", err)
			continue
		}
		p.forwardOver(ctx, client)
		_ = client.Close()
	}
}

func (p *Proxy) forwardOver(ctx context.Context, client *peer.Client) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-client.Session.CloseChan():
			p.log.Printf("disconnected")
			return
		case request := <-p.queue:
			err := client.Invoke(ctx, "ReportBoundaryLogs", request, &pb.ReportBoundaryLogsResponse{})
			if err != nil {
				p.drop(forwardFailed, request)
				p.log.Printf("forward: %v", err)
				continue
			}
			p.mu.Lock()
			p.forwarded++
			p.mu.Unlock()
		}
	}
}

// retrier is coder/retry: at once, then from the floor to the ceiling, never reset.
type retrier struct {
	first bool
	delay time.Duration
}

const (
	retryFloor   = 100 * time.Millisecond
	retryCeiling = 10 * time.Second
	retryGrowth  = 1.618
)

func newRetrier() *retrier { return &retrier{first: true, delay: retryFloor} }

func (r *retrier) advance() time.Duration {
	if r.first {
		r.first = false
		return 0
	}
	r.delay = min(time.Duration(float64(r.delay)*retryGrowth), retryCeiling)
	return r.delay
}

// next waits its turn and reports whether there is one.
func (r *retrier) next(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(r.advance()):
		return ctx.Err() == nil
	}
}

// ServeHTTP implements http.Handler: the metrics, at every path.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	p.mu.Lock()
	defer p.mu.Unlock()
	var out strings.Builder
	const prefix = "agent_boundary_log_proxy_"
	family := func(name, help string, byReason map[string]int64) {
		// As with a vector of client_golang, there is no trace of it before its first count.
		if len(byReason) == 0 {
			return
		}
		fmt.Fprintf(&out, "# HELP %s%s %s\n# TYPE %s%s counter\n", prefix, name, help, prefix, name)
		reasons := make([]string, 0, len(byReason))
		for reason := range byReason {
			reasons = append(reasons, reason)
		}
		sort.Strings(reasons)
		for _, reason := range reasons {
			fmt.Fprintf(&out, "%s%s{reason=%q} %d\n", prefix, name, reason, byReason[reason])
		}
	}
	family("batches_dropped_total", "Requests that were dropped.", p.batches)
	fmt.Fprintf(&out, "# HELP %sbatches_forwarded_total Requests that were forwarded.\n"+
		"# TYPE %sbatches_forwarded_total counter\n%sbatches_forwarded_total %d\n", prefix, prefix, prefix, p.forwarded)
	family("logs_dropped_total", "Log entries that were dropped.", p.logs)
	_, _ = io.WriteString(w, out.String())
}
