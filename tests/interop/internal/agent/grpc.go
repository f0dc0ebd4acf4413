package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

// More calls than a server is likely to serve at once.
const burst = 1000

// ScriptGRPC is Script over gRPC.
func ScriptGRPC(results *Results, options peer.Options, streams int) {
	s := &script{results: results, options: options, tooLarge: codes.ResourceExhausted.String()}
	client, err := peer.NewGRPC(options)
	results.Check("connect", err)
	if err != nil {
		return
	}
	s.caller = client
	s.anyTransport(streams)
	s.otherWaysToCallGRPC(client)
	s.refusedTokens(client)
	s.pages()
	results.Check("close cleanly", client.Close())
}

func (s *script) otherWaysToCallGRPC(client *peer.GRPC) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	empty := func() proto.Message { return &emptypb.Empty{} }
	s.results.Check(fmt.Sprintf("%d calls at once", burst), func() error {
		failed := make(chan error, burst)
		var group sync.WaitGroup
		for range burst {
			group.Go(func() {
				if err := s.alive(); err != nil {
					failed <- err
				}
			})
		}
		group.Wait()
		close(failed)
		return <-failed
	}())
	s.results.Check("call with metadata", client.Invoke(metadata.AppendToOutgoingContext(ctx,
		"traceparent", "00-01", "blob-bin", "\x00\xff"), "UpdateStats", empty(), empty()))
	s.results.Check("calls of several roles", func() error {
		for _, role := range []string{"", "agent", "weir", "logstream-kube", strings.Repeat("r", 1000)} {
			other := client.As(func(o *peer.Options) { o.Role = role })
			if err := other.Invoke(ctx, "UpdateStats", empty(), empty()); err != nil {
				return fmt.Errorf("role %q: %w", role, err)
			}
		}
		return nil
	}())
	s.results.Check("compressed message", s.failed(client.Conn.Invoke(client.Context(ctx),
		peer.ServicePrefix+"UpdateStats", empty(), empty(), grpc.UseCompressor(gzip.Name)), unimplemented, ""))
	s.results.Check("unknown service", s.failed(client.Invoke(ctx, "/grpc.health.v1.Health/Check", empty(), empty()),
		unimplemented, "/grpc.health.v1.Health/Check"))
	for _, messages := range []int{0, 2} {
		s.results.Check(fmt.Sprintf("call with %d messages", messages), s.failed(s.stream(client, messages), unimplemented, ""))
	}
	s.results.Check("streamed call", s.stream(client, 1))
	s.results.Check("cancelled calls", func() error {
		for range 50 {
			cancelled, cancel := context.WithCancel(client.Context(ctx))
			if _, err := client.Conn.NewStream(cancelled, &grpc.StreamDesc{ClientStreams: true},
				peer.ServicePrefix+"ReportBoundaryLogs"); err != nil {
				cancel()
				return err
			}
			cancel()
		}
		return s.alive()
	}())
	s.results.Check("connection cut in mid call", func() error {
		other, err := peer.NewGRPC(s.options)
		if err != nil {
			return err
		}
		if _, err := other.Conn.NewStream(other.Context(ctx), &grpc.StreamDesc{ClientStreams: true},
			peer.ServicePrefix+"ReportBoundaryLogs"); err != nil {
			return err
		}
		if err := other.Close(); err != nil {
			return err
		}
		return s.alive()
	}())
}

// stream calls a unary method with so many messages.
func (s *script) stream(client *peer.GRPC, messages int) error {
	ctx, cancel := context.WithTimeout(client.Context(context.Background()), callTimeout)
	defer cancel()
	stream, err := client.Conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, peer.ServicePrefix+"UpdateStats")
	if err != nil {
		return err
	}
	for range messages {
		// The server may have answered already: what it said is read below.
		if err := stream.SendMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(&pb.UpdateStatsResponse{})
}

func (s *script) refusedTokens(client *peer.GRPC) {
	for _, c := range []struct{ name, token, text string }{
		{"no token", "", `Cookie "coder_session_token" must be provided.`},
		{"token that is no UUID", "nonsense", "Workspace agent token invalid."},
		{"unknown token", "00000000-0000-4000-8000-000000000000", "Workspace agent not authorized."},
	} {
		for _, method := range []string{"UpdateStats", "Nope"} {
			other := client.As(func(o *peer.Options) { o.Token = c.token })
			err := call(other, method, &emptypb.Empty{}, &emptypb.Empty{})
			s.results.Check("call of "+method+" with "+c.name,
				s.failed(err, codes.Unauthenticated.String(), c.text))
			if said := status.Convert(err).Message(); said != c.text {
				s.results.Check("text for "+c.name, fmt.Errorf("%q, want %q", said, c.text))
			}
		}
	}
}

// pages are the same in both versions of HTTP.
func (s *script) pages() {
	secret := &tls.Config{InsecureSkipVerify: s.options.Insecure}
	older := &http.Client{Transport: &http.Transport{TLSClientConfig: secret}}
	transport := &http2.Transport{TLSClientConfig: secret, AllowHTTP: true}
	if strings.HasPrefix(s.options.URL, "http:") {
		transport.DialTLSContext = func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	newer := &http.Client{Transport: transport}
	defer newer.CloseIdleConnections()
	for _, path := range []string{"/", "/healthz", "/api/v2/buildinfo", "/none"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			s.results.Check(fmt.Sprintf("%s %s in both versions", method, path), func() error {
				one, err := page(older, method, s.options.URL+path, nil)
				if err != nil {
					return err
				}
				other, err := page(newer, method, s.options.URL+path, nil)
				if err == nil && one != other {
					err = fmt.Errorf("%s\nand\n%s", one, other)
				}
				return err
			}())
		}
	}
	for _, c := range []struct {
		name, method, path, content string
		status                      string
	}{
		{"agent endpoint", "GET", "/api/v2/workspaceagents/me/rpc", "", "405"},
		{"another content type", "POST", peer.ServicePrefix + "UpdateStats", "application/json", "415"},
		{"gRPC-Web", "POST", peer.ServicePrefix + "UpdateStats", "application/grpc-web", "415"},
		{"JSON in gRPC", "POST", peer.ServicePrefix + "UpdateStats", "application/grpc+json", "415"},
		{"call by GET", "GET", peer.ServicePrefix + "UpdateStats", "application/grpc", "415"},
	} {
		header := http.Header{"Coder-Session-Token": {s.options.Token}}
		if c.content != "" {
			header.Set("Content-Type", c.content)
		}
		got, err := page(newer, c.method, s.options.URL+c.path, header)
		if err == nil && !strings.HasPrefix(got, c.status) {
			err = fmt.Errorf("%s, want %s", got, c.status)
		}
		s.results.Check(c.name+" over HTTP/2", err)
	}
}

// page is the status, the headers that matter, and the body.
func page(client *http.Client, method, url string, header http.Header) (string, error) {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return "", err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %v %v %v %d\n%s", response.StatusCode, response.Header["Content-Type"],
		response.Header["Cache-Control"], response.Header["Allow"], response.ContentLength, body), err
}
