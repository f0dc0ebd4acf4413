package coderd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"storj.io/drpc/drpcerr"

	"weir.test/interop/internal/audit"
	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

func TestCallFaults(t *testing.T) {
	cases := []struct {
		fault     string
		accounted bool
		survives  bool
		code      uint64
	}{
		{`{"kind":"close_before","method":"ReportBoundaryLogs","count":1}`, false, false, 0},
		{`{"kind":"close_after","method":"ReportBoundaryLogs","count":1}`, true, false, 0},
		{`{"kind":"error","code":0,"message":"boom","count":1,"match":"example.com/0"}`, false, true, 0},
		{`{"kind":"unimplemented","count":1}`, false, true, 12},
		{`{"kind":"oversize_reply","count":1}`, true, true, 0},
		{`{"kind":"garbage_reply","count":1}`, true, true, 0},
		{`{"kind":"garbage_reply","form":"frame","count":1}`, true, true, 0},
		{`{"kind":"no_reply","count":1}`, true, true, 0},
		{`{"kind":"stream_reset","count":1}`, true, true, 0},
	}
	for _, c := range cases {
		t.Run(c.fault, func(t *testing.T) {
			f := start(t, nil)
			client := f.dial()
			f.fault(c.fault)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := client.Invoke(ctx, "ReportBoundaryLogs", request("s", 0), &pb.ReportBoundaryLogsResponse{})
			if err == nil {
				t.Fatal("the call succeeded")
			}
			if code := drpcerr.Code(err); code != c.code {
				t.Errorf("error %v has code %d, want %d", err, code, c.code)
			}
			account := f.account()
			if got := account.Sessions["s"].Logs == 1; got != c.accounted {
				t.Errorf("accounted: %v, want %v", got, c.accounted)
			}
			again := report(client, request("s", 1))
			if (again == nil) != c.survives {
				t.Errorf("next call on the connection: %v, want survival %v", again, c.survives)
			}
			if c.survives {
				_ = client.Close()
			}
			f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 })
			f.wantClean()
		})
	}
}

func TestFaultWithMatchSparesOtherRequests(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	f.fault(`{"kind":"error","message":"boom","match":"/13"}`)
	if err := report(client, request("s", 12)); err != nil {
		t.Errorf("a request without the bytes: %v", err)
	}
	if err := report(client, request("s", 13)); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("the request with the bytes: %v, want boom", err)
	}
}

func TestConnectionFaults(t *testing.T) {
	for _, fault := range []string{`{"kind":"rst"}`, `{"kind":"close_ws","code":1011}`, `{"kind":"restart","down_ms":10}`} {
		t.Run(fault, func(t *testing.T) {
			f := start(t, nil)
			client := f.dial()
			f.fault(fault)
			select {
			case <-client.Session.CloseChan():
			case <-time.After(5 * time.Second):
				t.Fatal("the session lives")
			}
			f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 })
			deadline := time.Now().Add(5 * time.Second)
			for {
				client, err := peer.Dial(context.Background(), f.options())
				if err == nil {
					err = report(client, request("s", 0))
					_ = client.Close()
				}
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("no way back: %v", err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			f.wantClean()
		})
	}
}

func TestToleratedOddities(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	for _, fault := range []string{
		`{"kind":"zero_messages","count":5}`, `{"kind":"fragments","count":5}`, `{"kind":"ws_ping"}`,
		`{"kind":"delay","ms":20,"count":1}`, `{"kind":"slow_read","bytes_per_second":100000}`,
	} {
		f.fault(fault)
		if err := report(client, request("s", 0)); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
	f.wantClean()
}

func TestTextFrameEndsTheSession(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	f.fault(`{"kind":"text_frame"}`)
	select {
	case <-client.Session.CloseChan():
	case <-time.After(5 * time.Second):
		t.Fatal("the session lives")
	}
}

func TestTextFrameFromTheClientIsAViolation(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	if err := client.WebSocket.Write(context.Background(), websocket.MessageText, []byte("x")); err != nil {
		t.Fatal(err)
	}
	f.eventually("violation", func(a Account) bool {
		return len(a.Violations) == 1 && a.Violations[0].Rule == audit.RuleText
	})
}

func TestGoAwayLetsNoStreamIn(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	f.fault(`{"kind":"goaway"}`)
	deadline := time.Now().Add(5 * time.Second)
	for report(client, request("s", 0)) == nil {
		if time.Now().After(deadline) {
			t.Fatal("calls still succeed")
		}
	}
	select {
	case <-client.Session.CloseChan():
		t.Error("the session closed")
	default:
	}
}

func TestBlackholeAndHalfOpenUntilClear(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	f.fault(`{"kind":"blackhole"}`)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := peer.Dial(ctx, f.options()); err == nil {
		t.Error("a dial got through")
	}
	result := make(chan error, 1)
	go func() { result <- report(client, request("s", 0)) }()
	select {
	case err := <-result:
		t.Errorf("a call got through: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	f.clear()
	if err := <-result; err != nil {
		t.Errorf("after clear: %v", err)
	}

	f.fault(`{"kind":"half_open","count":1}`)
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := peer.Dial(ctx, f.options()); err == nil {
		t.Error("a dial got through a half-open connection")
	}
	if _, err := peer.Dial(context.Background(), f.options()); err != nil {
		t.Errorf("after the only half-open connection: %v", err)
	}
	f.wantClean()
}

func TestUpgradeFaults(t *testing.T) {
	f := start(t, nil)
	for _, status := range []int{400, 401, 403, 404, 429, 503} {
		f.fault(fmt.Sprintf(`{"kind":"refuse","status":%d,"count":1}`, status))
		_, err := peer.Dial(context.Background(), f.options())
		var refused *peer.RefusedError
		if !errors.As(err, &refused) || refused.Status != status || !refused.IsJSON {
			t.Errorf("refuse %d: %v", status, err)
		}
	}
	other := start(t, nil)
	f.fault(fmt.Sprintf(`{"kind":"redirect","to":%q,"count":1}`, other.url+RPCPath+"?version=2.7"))
	client, err := peer.Dial(context.Background(), f.options())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := report(client, request("s", 0)); err != nil || other.account().Sessions["s"].Logs != 1 {
		t.Errorf("through the redirect: %v", err)
	}
	f.fault(`{"kind":"extension_header","count":1}`)
	if _, err := peer.Dial(context.Background(), f.options()); err == nil {
		t.Error("the extension that was not offered was accepted")
	}
}

func TestRTTDelaysWithoutThrottling(t *testing.T) {
	const rtt = 100 * time.Millisecond
	f := start(t, func(c *Config) { c.RTT = rtt })
	client := f.dial()
	began := time.Now()
	const calls = 20
	done := make(chan error, calls)
	for n := range calls {
		go func() { done <- report(client, request("s", int32(n))) }()
	}
	for range calls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// One round trip for all of them, and perhaps one more for drpc's close.
	if took := time.Since(began); took < rtt || took > 4*rtt {
		t.Errorf("%d parallel calls took %v, want about %v", calls, took, rtt)
	}
	if err := client.WebSocket.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close: %v", err)
	}
	f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 && a.Connections.ClosedCleanly == 1 })
	f.wantClean()
}
