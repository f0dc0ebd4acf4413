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

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcerr"

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

// dial connects and waits until the server has the session, which is a moment after
// the client has it.
func (f *fixture) dial() *peer.Client {
	f.t.Helper()
	before := f.account().Connections.Opened
	client, err := peer.Dial(context.Background(), f.options())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = client.WebSocket.CloseNow() })
	f.eventually("session", func(a Account) bool { return a.Connections.Opened > before })
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
