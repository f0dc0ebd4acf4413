package hostile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"storj.io/drpc/drpcwire"

	"weir.test/interop/internal/agent"
	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

// A call of the bystander that takes longer was hindered.
const bystanderPatience = 3 * time.Second

// Run commits every violation, each on a connection of its own, and checks after
// each that another agent's connection is served as before.
func Run(results *agent.Results, options peer.Options, wrongDials, halfOpen int) {
	bystander, err := peer.Dial(context.Background(), options)
	results.Check("bystander connects", err)
	if err != nil {
		return
	}
	defer bystander.Close()
	h := &hostileClient{results, options, bystander}
	for _, c := range hostilities {
		h.one(c)
	}
	h.check("request written byte by byte", h.slowRequest)
	h.check("headers of 2 MiB", h.giantHeaders)
	h.check("request line that is none", h.noHTTP)
	h.check(fmt.Sprintf("%d connections that say nothing", halfOpen), func() (string, error) { return h.halfOpen(halfOpen) })
	h.check("headers that never end", h.slowHeaders)
	h.check("replies that nobody reads", h.neverReads)
	h.check(fmt.Sprintf("%d dials with a wrong token", wrongDials), func() (string, error) { return h.wrongTokens(wrongDials) })
	h.check("sessions cut in mid frame", h.cutInMidFrame)
}

type hostileClient struct {
	results   *agent.Results
	options   peer.Options
	bystander peer.Caller
}

func (h *hostileClient) one(c hostility) {
	line := agent.Line{Case: c.name, Want: strings.Join(c.want, ", or ")}
	r, err := dial(h.options)
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
	line.OK = right(outcome, c.want)
	h.add(line)
}

func (h *hostileClient) check(name string, f func() (string, error)) {
	server, err := f()
	line := agent.Line{Case: name, OK: err == nil, Server: server}
	if err != nil {
		line.Server = strings.TrimPrefix(server+"; "+err.Error(), "; ")
	}
	h.add(line)
}

func (h *hostileClient) add(line agent.Line) {
	if err := h.bystanderServed(); err != nil {
		line.OK = false
		line.Server += "; the bystander suffers: " + err.Error()
	}
	h.results.Add(line)
}

func (h *hostileClient) bystanderServed() error {
	ctx, cancel := context.WithTimeout(context.Background(), bystanderPatience)
	defer cancel()
	return h.bystander.Invoke(ctx, "UpdateStats", &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{})
}

// slowRequest is legal, only slow.
func (h *hostileClient) slowRequest() (string, error) {
	r, err := dial(h.options)
	if err != nil {
		return "", err
	}
	defer r.close()
	if err := r.open(1); err != nil {
		return "", err
	}
	request := append(invoke("UpdateStats"), packet(1, 2, drpcwire.KindMessage, "")...)
	for _, b := range request {
		if err := r.send(1, []byte{b}); err != nil {
			return "", err
		}
		time.Sleep(2 * time.Millisecond)
	}
	if !r.await(patience, func() bool { return r.replied[1] }) {
		return r.detail("no reply"), errors.New("the call was not answered")
	}
	return "answered", nil
}

func (h *hostileClient) giantHeaders() (string, error) {
	conn, u, err := dialTCP(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// The server may answer and close before it has read all this.
	go func() {
		_, _ = io.WriteString(conn, upgradeRequest(h.options, u)+"X-Giant: "+strings.Repeat("x", 2<<20)+"\r\n\r\n")
	}()
	return refusal(conn)
}

func (h *hostileClient) noHTTP() (string, error) {
	conn, _, err := dialTCP(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\x16\x03\x01\x00 nonsense\r\n\r\n")); err != nil {
		return "", err
	}
	return refusal(conn)
}

// refusal wants an error status or the end of the connection.
func refusal(conn net.Conn) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "", errors.New("no answer and no end")
	case err != nil:
		return "closed the connection: " + err.Error(), nil
	case response.StatusCode < 400:
		return response.Status, errors.New("accepted")
	default:
		return response.Status, nil
	}
}

func (h *hostileClient) halfOpen(count int) (string, error) {
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for range count {
		conn, _, err := dialTCP(h.options)
		if err != nil {
			return fmt.Sprintf("refused after %d", len(conns)), h.dialServed()
		}
		conns = append(conns, conn)
	}
	return "accepted", h.dialServed()
}

// dialServed makes one more proper connection.
func (h *hostileClient) dialServed() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := peer.Connect(ctx, h.options)
	if err != nil {
		return err
	}
	return client.Close()
}

func (h *hostileClient) slowHeaders() (string, error) {
	conn, u, err := dialTCP(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	request := upgradeRequest(h.options, u)
	if err := slowly(conn, []byte(request[:40]), 5*time.Millisecond); err != nil {
		return "closed the connection", nil
	}
	return "waits", h.dialServed()
}

// neverReads asks for replies until the server can write no more.
func (h *hostileClient) neverReads() (string, error) {
	conn, u, err := dialTCP(h.options)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r := &raw{conn: conn}
	if _, err := io.WriteString(conn, upgradeRequest(h.options, u)+"\r\n"); err != nil {
		return "", err
	}
	var pings []byte
	for n := range uint32(4096) {
		pings = append(pings, header(ping, syn, 0, n)...)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	// More than the sockets and a server with delayed links hold between them.
	const most = 256 << 20
	sent := 0
	for err == nil && sent < most {
		if err = r.bytes(pings); err == nil {
			sent += len(pings)
		}
	}
	var timeout net.Error
	switch {
	case err == nil:
		return fmt.Sprintf("took %d bytes", sent), errors.New("holds or drops an unlimited number of replies")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("stopped reading after %d bytes", sent), nil
	default:
		return fmt.Sprintf("closed the connection after %d bytes", sent), nil
	}
}

func (h *hostileClient) wrongTokens(count int) (string, error) {
	options := h.options
	options.Token = "00000000-0000-4000-8000-000000000000"
	const atOnce = 16
	var (
		group   sync.WaitGroup
		mu      sync.Mutex
		refused int
		failed  error
	)
	work := make(chan struct{}, count)
	for range count {
		work <- struct{}{}
	}
	close(work)
	began := time.Now()
	for range atOnce {
		group.Go(func() {
			for range work {
				client, err := peer.Dial(context.Background(), options)
				if err == nil {
					err = errors.New("accepted")
					_ = client.Close()
				}
				var status *peer.RefusedError
				mu.Lock()
				if errors.As(err, &status) && (status.Status == http.StatusUnauthorized || status.Status == http.StatusTooManyRequests) {
					refused++
				} else {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	detail := fmt.Sprintf("refused %d of %d in %v", refused, count, time.Since(began).Round(time.Millisecond))
	if refused != count && failed != nil {
		return detail, failed
	}
	return detail, nil
}

func (h *hostileClient) cutInMidFrame() (string, error) {
	for n := range 50 {
		r, err := dial(h.options)
		if err != nil {
			return "", err
		}
		whole := append(header(windowUpdate, syn, 1, 0), header(data, 0, 1, 100)...)
		_ = r.bytes(whole[:len(whole)*n/50])
		r.close()
	}
	return "", h.dialServed()
}
