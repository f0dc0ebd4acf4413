package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"weir.test/interop/internal/agent"
	"weir.test/interop/internal/peer"
)

// probe2 is the ping that shows whether a connection lives.
var probe2 = [8]byte{0xfe, 0xed, 0xfa, 0xce}

// RunGRPC is Run over gRPC.
func RunGRPC(results *agent.Results, options peer.Options, wrongTokens, halfOpen int) {
	bystander, err := peer.Connect(context.Background(), options)
	results.Check("bystander connects", err)
	if err != nil {
		return
	}
	defer bystander.Close()
	h := &hostileClient{results, options, bystander}
	for _, c := range hostilities2 {
		h.one2(c)
	}
	h.check("preface byte by byte", h.slowPreface)
	h.check("preface that turns into another", h.noPreface)
	h.check("preface and nothing else", h.prefaceAlone)
	h.check("headers that never end", h.endlessHeaders)
	h.check(fmt.Sprintf("%d connections that say nothing", halfOpen), func() (string, error) { return h.halfOpen(halfOpen) })
	h.check("replies that nobody reads", h.neverReads2)
	h.check("answers that nobody takes", h.noWindow)
	h.check(fmt.Sprintf("%d calls with a wrong token", wrongTokens), func() (string, error) { return h.wrongTokens2(wrongTokens) })
	h.check("connections cut in mid frame", h.cutInMidFrame2)
}

func (h *hostileClient) one2(c hostility2) {
	line := agent.Line{Case: c.name, Want: strings.Join(c.want, ", or ")}
	r, err := connect2(h.options)
	if err != nil {
		line.Server = err.Error()
		h.results.Add(line)
		return
	}
	defer r.close()
	// A server that has closed already may well cut off what is still written.
	_ = c.do(r)
	outcome := r.outcome(c.want)
	line.Server = r.detail(outcome)
	line.OK = slices.Contains(c.want, outcome) || outcome != connectionEnds && outcome != waits && slices.Contains(c.want, connectionOn)
	h.add(line)
}

// outcome waits for what the server does about stream 1 or the connection.
func (r *raw2) outcome(want []string) string {
	if !slices.Contains(want, connectionOn) {
		r.await(patience, func() bool { return r.stream(1).end != "" })
	}
	// It may be gone already, which the wait below finds out.
	_ = r.framer.WritePing(false, probe2)
	alive := r.await(patience, func() bool { return r.pongs[probe2] })
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.stream(1)
	switch {
	case r.ended != "":
		return connectionEnds
	case !alive:
		return waits
	case first.grpcStatus != "":
		return "grpc-status " + first.grpcStatus
	case first.status != "" && first.status != "200":
		return ":status " + first.status
	case strings.HasPrefix(first.end, "reset"):
		return streamReset
	default:
		return connectionOn
	}
}

// detail says in what way the server did it.
func (r *raw2) detail(outcome string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.stream(1)
	parts := []string{outcome}
	for _, part := range []string{r.ended, first.end, first.grpcMessage} {
		if part != "" && part != "END_STREAM" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// answered waits for the end of stream 1.
func (r *raw2) answered() error {
	r.await(patience, func() bool { return r.stream(1).end != "" })
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.stream(1).grpcStatus; got != "0" {
		return fmt.Errorf("grpc-status %q; %s", got, r.ended)
	}
	return nil
}

// slowPreface is legal, only slow.
func (h *hostileClient) slowPreface() (string, error) {
	conn, err := dialHTTP2(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := slowly(conn, []byte(http2.ClientPreface), 2*time.Millisecond); err != nil {
		return "", err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		return "", err
	}
	return frame.Header().String(), nil
}

func (h *hostileClient) noPreface() (string, error) {
	conn, err := dialHTTP2(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"); err != nil {
		return "", err
	}
	return refusal(conn)
}

func (h *hostileClient) prefaceAlone() (string, error) {
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for n := range 50 {
		conn, err := dialHTTP2(h.options)
		if err != nil {
			return "", err
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, http2.ClientPreface[:n%(len(http2.ClientPreface)+1)]); err != nil {
			return "", err
		}
	}
	return "", h.dialServed()
}

func (h *hostileClient) endlessHeaders() (string, error) {
	r, err := connect2(h.options)
	if err != nil {
		return "", err
	}
	defer r.close()
	if err := r.frames(http2.FrameHeaders, 0, 1, r.head("UpdateStats", nil)...); err != nil {
		return "", err
	}
	return "waits", h.dialServed()
}

// neverReads2 asks for replies until the server can write no more.
func (h *hostileClient) neverReads2() (string, error) {
	conn, err := dialHTTP2(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return "", err
	}
	framer := http2.NewFramer(conn, nil)
	if err := framer.WriteSettings(); err != nil {
		return "", err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	// More than the sockets hold between them.
	const most = 16 << 20
	for n := range most {
		if err := framer.WritePing(false, [8]byte{byte(n)}); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return fmt.Sprintf("stopped reading after %d pings", n), nil
			}
			return fmt.Sprintf("closed the connection after %d pings", n), nil
		}
	}
	return fmt.Sprintf("took %d pings", most), errors.New("holds or drops an unlimited number of replies")
}

// noWindow lets nothing of the answers through, and then all of one.
func (h *hostileClient) noWindow() (string, error) {
	r, err := connect2(h.options, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err != nil {
		return "", err
	}
	defer r.close()
	for n := range uint32(maxStreams) {
		if err := r.call(2*n+1, "GetManifest", nil, message()); err != nil {
			return "", err
		}
	}
	heads := func() bool {
		for n := range uint32(maxStreams) {
			if r.stream(2*n+1).status != "200" {
				return false
			}
		}
		return true
	}
	if !r.await(patience, heads) {
		return "", errors.New("not all calls were answered")
	}
	if err := h.bystanderServed(); err != nil {
		return "", err
	}
	if err := r.framer.WriteWindowUpdate(1, 1); err != nil {
		return "", err
	}
	if !r.await(patience, func() bool { return r.stream(1).data == 1 }) {
		return "", fmt.Errorf("%d bytes for a grant of 1", r.stream(1).data)
	}
	if err := r.framer.WriteWindowUpdate(1, 1<<20); err != nil {
		return "", err
	}
	return "answered as far as granted", r.answered()
}

func (h *hostileClient) wrongTokens2(count int) (string, error) {
	const atOnce = 16
	options := h.options
	options.Token = "00000000-0000-4000-8000-000000000000"
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	work := make(chan struct{}, count)
	for range count {
		work <- struct{}{}
	}
	close(work)
	began := time.Now()
	for range atOnce {
		group.Go(func() {
			client, err := peer.NewGRPC(options)
			for range work {
				if err == nil {
					err = client.Invoke(context.Background(), "UpdateStats", &emptypb.Empty{}, &emptypb.Empty{})
				}
				mu.Lock()
				if status.Code(err) != codes.Unauthenticated {
					failed = fmt.Errorf("not refused: %w", err)
				}
				mu.Unlock()
				err = nil
			}
			_ = client.Close()
		})
	}
	group.Wait()
	return fmt.Sprintf("%d in %v", count, time.Since(began).Round(time.Millisecond)), failed
}

func (h *hostileClient) cutInMidFrame2() (string, error) {
	for n := range 50 {
		r, err := connect2(h.options)
		if err != nil {
			return "", err
		}
		whole := append([]byte{0, 0, 5, 0, 1, 0, 0, 0, 1}, message()...)
		if err := r.open(1, "UpdateStats", nil); err != nil {
			return "", err
		}
		_ = r.write(whole[:len(whole)*n/50])
		r.close()
	}
	return "", h.dialServed()
}
