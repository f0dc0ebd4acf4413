package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/types/known/emptypb"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

func (s *script) refusedDials() {
	for _, c := range []struct {
		name    string
		change  func(*peer.Options)
		status  int
		message string
		field   bool
	}{
		{"no token", func(o *peer.Options) { o.Token = "" }, 401, `Cookie "coder_session_token" must be provided.`, false},
		{"token that is no UUID", func(o *peer.Options) { o.Token = "nonsense" }, 401, "Workspace agent token invalid.", false},
		{"unknown token", func(o *peer.Options) { o.Token = "00000000-0000-4000-8000-000000000000" }, 401,
			"Workspace agent not authorized.", false},
		{"unknown token before bad version", func(o *peer.Options) { o.Token = "nonsense"; o.Version = "x" }, 401,
			"Workspace agent token invalid.", false},
		{"newer minor version", func(o *peer.Options) { o.Version = fmt.Sprintf("2.%d", math.MaxInt16) }, 400,
			"Unknown or unsupported API version", true},
		{"newer major version", func(o *peer.Options) { o.Version = "3.0" }, 400, "Unknown or unsupported API version", true},
		{"older major version", func(o *peer.Options) { o.Version = "1.0" }, 400, "Unknown or unsupported API version", true},
		{"version that is none", func(o *peer.Options) { o.Version = "2" }, 400, "Unknown or unsupported API version", true},
	} {
		options := s.options
		c.change(&options)
		s.results.Check("dial with "+c.name, refusedDial(options, c.status, c.message, c.field))
	}
	s.results.Check("dial without version", func() error {
		options := s.options
		options.Version = ""
		client, err := peer.Dial(context.Background(), options)
		if err != nil {
			return err
		}
		return client.Close()
	}())
	address, err := peer.DialURL(s.options)
	if err != nil {
		s.results.Check("plain GET", err)
		return
	}
	s.results.Check("plain GET", s.httpStatus(address, nil, 400, 426))
	s.results.Check("foreign Origin", s.httpStatus(address, http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Origin": {"http://elsewhere.example"},
	}, 403))
	s.results.Check("another path", s.httpStatus(s.options.URL+"/api/v2/workspaceagents/me/other", nil, 404))
}

func refusedDial(options peer.Options, status int, message string, field bool) error {
	client, err := peer.Dial(context.Background(), options)
	if err == nil {
		_ = client.Close()
		return errors.New("accepted")
	}
	var refused *peer.RefusedError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Status != status || refused.Message != message || !refused.IsJSON:
		return fmt.Errorf("%w; want status %d: %s", err, status, message)
	case field && (len(refused.Validations) != 1 || refused.Validations[0].Field != "version"):
		return fmt.Errorf("%w; validations %v, want one of the field version", err, refused.Validations)
	}
	return nil
}

func (s *script) httpStatus(address string, header http.Header, want ...int) error {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	request.Header = header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("Coder-Session-Token", s.options.Token)
	client := s.options.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for _, status := range want {
		if response.StatusCode == status {
			return nil
		}
	}
	return fmt.Errorf("status %d, want %v", response.StatusCode, want)
}

// abruptClose ends connections in every way but the orderly one; a new one works.
func (s *script) abruptClose() {
	for _, c := range []struct {
		name string
		end  func(*peer.Client) error
	}{
		{"no WebSocket close", func(c *peer.Client) error { return c.WebSocket.CloseNow() }},
		{"WebSocket close 1011", func(c *peer.Client) error { return c.WebSocket.Close(websocket.StatusInternalError, "") }},
		{"yamux close in mid call", func(c *peer.Client) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() {
				_ = c.Invoke(ctx, "ReportBoundaryLogs", BoundaryRequest("abrupt", 0, 5000), &emptypb.Empty{})
			}()
			return c.Close()
		}},
	} {
		s.results.Check(c.name, func() error {
			client, err := s.dial()
			if err != nil {
				return err
			}
			// How a close of its own ends is for the server to say, not for this test.
			_ = c.end(client)
			after, err := s.dial()
			if err != nil {
				return err
			}
			defer after.Close()
			return call(after, "UpdateStats", &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{})
		}())
	}
}
