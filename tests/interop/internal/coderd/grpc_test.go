package coderd

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
)

// grpcFixture has a client of grpc-go itself at the other end.
type grpcFixture struct {
	*fixture
	client *grpc.ClientConn
}

func startGRPC(t *testing.T, change func(*Config)) grpcFixture {
	t.Helper()
	f := start(t, func(c *Config) {
		c.GRPC = GRPC{PingInterval: time.Second, MaxMessage: maxMessage}
		if change != nil {
			change(c)
		}
	})
	url, err := f.server.ListenGRPC("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		f.server.grpc.Stop()
	})
	return grpcFixture{f, client}
}

func (f grpcFixture) call(method, token string, request, reply proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "coder-session-token", token, "weir-role", "weir")
	return f.client.Invoke(ctx, servicePrefix+method, request, reply)
}

func (f grpcFixture) report(session string, sequence int32) error {
	return f.call("ReportBoundaryLogs", testToken, request(session, sequence), &pb.ReportBoundaryLogsResponse{})
}

func TestGRPCCalls(t *testing.T) {
	f := startGRPC(t, nil)
	var stats pb.UpdateStatsResponse
	if err := f.call("UpdateStats", testToken, &pb.UpdateStatsRequest{}, &stats); err != nil {
		t.Fatal(err)
	}
	if got := stats.GetReportInterval().AsDuration(); got != 30*time.Second {
		t.Errorf("interval %v, want 30s", got)
	}
	if err := f.report("s", 0); err != nil {
		t.Error(err)
	}
	for method, want := range map[string]codes.Code{
		"UpdateAppStatus": codes.Unimplemented, "NoSuchMethod": codes.Unimplemented,
	} {
		err := f.call(method, testToken, &pb.UpdateStatsRequest{}, &stats)
		if got := status.Code(err); got != want {
			t.Errorf("%s: %v, want %v", method, err, want)
		}
	}
	account := f.account()
	if account.Sessions["s"].Logs != 1 || account.Connections.Opened != 1 || account.DialsTotal != 1 {
		t.Errorf("account %+v", account)
	}
	if by := account.Connections.By; len(by) != 1 || by[0].Role != "weir" {
		t.Errorf("connections by %+v", by)
	}
	_ = f.client.Close()
	f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 })
	f.wantClean()
}

func TestGRPCTokens(t *testing.T) {
	f := startGRPC(t, nil)
	for _, token := range []string{"", "x", "00000000-0000-4000-8000-000000000000"} {
		err := f.call("ReportBoundaryLogs", token, request("s", 0), &pb.ReportBoundaryLogsResponse{})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("token %q: %v, want Unauthenticated", token, err)
		}
	}
	if account := f.account(); account.Connections.Opened != 0 || account.DialsTotal != 3 {
		t.Errorf("account %+v", account)
	}
}

func TestGRPCFaults(t *testing.T) {
	cases := []struct {
		fault     string
		code      codes.Code
		accounted bool
	}{
		{`{"kind":"error","message":"boom","count":1}`, codes.Unknown, false},
		{`{"kind":"error","code":9,"count":1}`, codes.FailedPrecondition, false},
		{`{"kind":"unimplemented","count":1}`, codes.Unimplemented, false},
		{`{"kind":"close_before","count":1}`, codes.Unavailable, false},
		{`{"kind":"close_after","count":1}`, codes.Unavailable, true},
		{`{"kind":"no_reply","count":1}`, codes.DeadlineExceeded, true},
		{`{"kind":"stream_reset","count":1}`, codes.Canceled, true},
		{`{"kind":"oversize_reply","count":1}`, codes.ResourceExhausted, true},
		{`{"kind":"garbage_reply","count":1}`, codes.Internal, true},
		{`{"kind":"delay","ms":20,"count":1}`, codes.OK, true},
		// grpc-go makes a call again that was certainly not handled.
		{`{"kind":"refuse_stream","count":1}`, codes.OK, true},
		{`{"kind":"leave_out","count":1}`, codes.OK, true},
		{`{"kind":"odd_frames","count":20}`, codes.OK, true},
	}
	for _, c := range cases {
		t.Run(c.fault, func(t *testing.T) {
			f := startGRPC(t, nil)
			if err := f.report("before", 0); err != nil {
				t.Fatal(err)
			}
			f.fault(c.fault)
			if err := f.report("s", 0); status.Code(err) != c.code {
				t.Errorf("%v, want %v", err, c.code)
			}
			if got := f.account().Sessions["s"].Logs == 1; got != c.accounted {
				t.Errorf("accounted: %v, want %v", got, c.accounted)
			}
			// A client that was cut off may need to dial again.
			f.eventually("another call", func(Account) bool { return f.report("after", 0) == nil })
		})
	}
}

func TestGRPCConnectionFaults(t *testing.T) {
	for _, fault := range []string{
		`{"kind":"rst"}`, `{"kind":"goaway"}`, `{"kind":"goaway","code":11}`, `{"kind":"restart","down_ms":10}`,
	} {
		t.Run(fault, func(t *testing.T) {
			f := startGRPC(t, nil)
			if err := f.report("before", 0); err != nil {
				t.Fatal(err)
			}
			f.fault(fault)
			f.eventually("a new connection", func(a Account) bool {
				_ = f.report("after", 0)
				return a.Connections.Opened == 2 && a.Connections.Closed == 1
			})
			f.wantClean()
		})
	}
}

func TestGRPCRefusesADial(t *testing.T) {
	f := startGRPC(t, nil)
	f.fault(`{"kind":"refuse","status":503,"count":1}`)
	if err := f.report("s", 0); status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want Unavailable", err)
	}
	if err := f.report("s", 0); err != nil {
		t.Error(err)
	}
}
