package coderd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcerr"

	"weir.test/interop/internal/audit"
	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

const testToken = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d"

type fixture struct {
	t       *testing.T
	server  *Server
	url     string
	control *httptest.Server
}

func start(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	config := Config{
		Tokens: map[string]bool{testToken: true}, MaxVersion: [2]int{2, 13}, Refresh: 30 * time.Second,
		Monitor: 15 * time.Second, Strict: true, KeepRaw: true, Audit: true,
	}
	if change != nil {
		change(&config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	url, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t, server, url, httptest.NewServer(server.Control())}
	t.Cleanup(func() {
		f.control.Close()
		_ = server.http.Close()
		server.cutAll()
	})
	return f
}

func (f *fixture) options() peer.Options {
	return peer.Options{URL: f.url, Token: testToken, Version: "2.7", Role: "weir"}
}

func (f *fixture) dial() *peer.Client {
	f.t.Helper()
	client, err := peer.Dial(context.Background(), f.options())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = client.WebSocket.CloseNow() })
	return client
}

func (f *fixture) fault(fault string) {
	f.t.Helper()
	response, err := http.Post(f.control.URL+"/fault", "application/json", strings.NewReader(fault))
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		f.t.Fatalf("fault %s: %s", fault, body)
	}
}

func (f *fixture) clear() {
	f.t.Helper()
	response, err := http.Post(f.control.URL+"/clear", "", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
}

func (f *fixture) account() Account {
	f.t.Helper()
	response, err := http.Get(f.control.URL + "/account")
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var account struct {
		Account
		// These marshal in ways of their own that the tests do not read back.
		Agents json.RawMessage `json:"agents"`
	}
	if err := json.NewDecoder(response.Body).Decode(&account); err != nil {
		f.t.Fatal(err)
	}
	return account.Account
}

// eventually waits until the account is as wanted.
func (f *fixture) eventually(what string, ok func(Account) bool) Account {
	f.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		account := f.account()
		if ok(account) {
			return account
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: never; the account is %+v", what, account)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fixture) wantClean() {
	f.t.Helper()
	if v := f.account().Violations; len(v) > 0 {
		f.t.Errorf("violations %+v, want none", v)
	}
}

func request(session string, sequences ...int32) *pb.ReportBoundaryLogsRequest {
	r := &pb.ReportBoundaryLogsRequest{SessionId: session, ConfinedProcessName: "codex"}
	for _, n := range sequences {
		r.Logs = append(r.Logs, &pb.BoundaryLog{
			Allowed: true, Time: timestamppb.New(time.Unix(1767225600, 0)), SequenceNumber: n,
			Resource: &pb.BoundaryLog_HttpRequest_{HttpRequest: &pb.BoundaryLog_HttpRequest{
				Method: "GET", Url: fmt.Sprintf("https://example.com/%d", n), MatchedRule: "domain=example.com",
			}},
		})
	}
	return r
}

func report(client *peer.Client, r *pb.ReportBoundaryLogsRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return client.Invoke(ctx, "ReportBoundaryLogs", r, &pb.ReportBoundaryLogsResponse{})
}

func TestBoundaryLogsAreAccounted(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	for _, r := range []*pb.ReportBoundaryLogsRequest{
		request("s", 0, 1, 2), request("s", 2, 5), request("s", 4), request("", 7, 7),
	} {
		if err := report(client, r); err != nil {
			t.Fatal(err)
		}
	}
	account := f.account()
	sum := sha256.New()
	for _, n := range []int32{0, 1, 2, 5, 4} {
		log, err := proto.Marshal(request("s", n).Logs[0])
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(log)
	}
	got := account.Sessions["s"]
	want := SessionAccount{
		Batches: 3, Bytes: got.Bytes, Logs: 6, Distinct: 5, Duplicates: 1, OutOfOrder: 1,
		First: 0, Last: 4, Highest: 5, SHA256: hex.EncodeToString(sum.Sum(nil)),
		Processes: map[string]uint64{"codex": 6},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("session s\n got %+v\nwant %+v", got, want)
	}
	if got := account.Sessions[""]; got.Logs != 2 || got.Distinct != 2 {
		t.Errorf("no session: %+v, want 2 logs, both distinct", got)
	}
	if n := account.Calls["ReportBoundaryLogs"]["ok"]; n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 })
	f.wantClean()
}

func TestInvalidUTF8FailsTheCallAlone(t *testing.T) {
	f := start(t, nil)
	client := f.dial()
	bad := request("s", 0)
	raw, err := proto.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.Replace(string(raw), "GET", "G\xffT", 1))
	unchecked := &emptypb.Empty{}
	unchecked.ProtoReflect().SetUnknown(raw)
	err = client.Invoke(context.Background(), "ReportBoundaryLogs", unchecked, &pb.ReportBoundaryLogsResponse{})
	if err == nil || drpcerr.Code(err) != 0 || !strings.Contains(err.Error(), "string field contains invalid UTF-8") {
		t.Errorf("error %v, code %d", err, drpcerr.Code(err))
	}
	if err := report(client, request("s", 1)); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	f := start(t, nil)
	cases := []struct {
		change  func(*peer.Options)
		status  int
		message string
		field   string
	}{
		{func(o *peer.Options) { o.Token = "" }, 401, `Cookie "coder_session_token" must be provided.`, ""},
		{func(o *peer.Options) { o.Token = "nonsense"; o.Version = "9.9" }, 401, "Workspace agent token invalid.", ""},
		{func(o *peer.Options) { o.Token = "00000000-0000-4000-8000-000000000000" }, 401, "Workspace agent not authorized.", ""},
		{func(o *peer.Options) { o.Version = "2.14" }, 400, "Unknown or unsupported API version", "behind requested minor version"},
		{func(o *peer.Options) { o.Version = "3.0" }, 400, "Unknown or unsupported API version", "behind requested major version"},
		{func(o *peer.Options) { o.Version = "1.9" }, 400, "Unknown or unsupported API version", "no longer supported"},
		{func(o *peer.Options) { o.Version = "two" }, 400, "Unknown or unsupported API version", "invalid version string"},
	}
	for _, c := range cases {
		options := f.options()
		c.change(&options)
		_, err := peer.Dial(context.Background(), options)
		var refused *peer.RefusedError
		if !errors.As(err, &refused) || refused.Status != c.status || refused.Message != c.message {
			t.Errorf("%+v: %v, want status %d, %q", options, err, c.status, c.message)
			continue
		}
		if c.field != "" && (len(refused.Validations) != 1 || refused.Validations[0].Field != "version" ||
			!strings.Contains(refused.Validations[0].Detail, c.field)) {
			t.Errorf("%+v: validations %+v, want version: %q", options, refused.Validations, c.field)
		}
	}
	if n := f.account().DialsTotal; n != len(cases) {
		t.Errorf("%d dials in the account, want %d", n, len(cases))
	}
}

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
	_ = client.Close()
	f.eventually("closed", func(a Account) bool { return a.Connections.Closed == 1 })
	f.wantClean()
}
