package logproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir.test/interop/internal/coderd"
	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

const token = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d"

func TestForwardsInOrderAndLosesWhatFails(t *testing.T) {
	server, err := coderd.New(coderd.Config{
		Tokens: map[string]bool{token: true}, MaxVersion: [2]int{2, 13}, Monitor: time.Minute, Strict: true, Audit: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	url, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	control := httptest.NewServer(server.Control())
	defer control.Close()
	p, conn := listen(t)
	fault := `{"kind":"error","message":"boom","match":"https://example.com/13"}`
	response, err := control.Client().Post(control.URL+"/fault", "", strings.NewReader(fault))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Forward(ctx, peer.Options{URL: url, Token: token, Version: "2.11", Role: "goproxy"})
	}()
	const batches = 50
	for n := range int32(batches) {
		request := &pb.ReportBoundaryLogsRequest{SessionId: "s", Logs: []*pb.BoundaryLog{{
			SequenceNumber: n,
			Resource: &pb.BoundaryLog_HttpRequest_{HttpRequest: &pb.BoundaryLog_HttpRequest{
				Url: fmt.Sprintf("https://example.com/%d", n),
			}},
		}}}
		message := &pb.BoundaryMessage{Msg: &pb.BoundaryMessage_Logs{Logs: request}}
		if _, err := conn.Write(frame(t, tagV2, message)); err != nil {
			t.Fatal(err)
		}
	}
	wantPage(t, p,
		`agent_boundary_log_proxy_batches_forwarded_total 49`,
		`agent_boundary_log_proxy_batches_dropped_total{reason="forward_failed"} 1`,
		`agent_boundary_log_proxy_logs_dropped_total{reason="forward_failed"} 1`)
	stop()
	<-done
	response, err = control.Client().Get(control.URL + "/account")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var account struct {
		Sessions   map[string]coderd.SessionAccount `json:"sessions"`
		Violations []coderd.Violation               `json:"violations"`
	}
	if err := json.NewDecoder(response.Body).Decode(&account); err != nil {
		t.Fatal(err)
	}
	if s := account.Sessions["s"]; s.Logs != 49 || s.Distinct != 49 || s.OutOfOrder != 0 || s.Batches != 49 {
		t.Errorf("received %+v, want 49 logs in order, one a call", s)
	}
	if len(account.Violations) > 0 {
		t.Errorf("violations %+v", account.Violations)
	}
}
