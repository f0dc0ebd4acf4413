package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcerr"
	"storj.io/drpc/drpcmetadata"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

// How long a call may take; far more than any should.
const callTimeout = 20 * time.Second

// The dRPC packet limit, inclusive.
const maxPacket = 4 << 20

// Script runs everything that an agent does, in its order, and then what it should
// not do but a server must survive.
func Script(results *Results, options peer.Options, streams int) {
	s := &script{results: results, options: options}
	client, err := s.dial()
	results.Check("connect", err)
	if err != nil {
		return
	}
	s.client = client
	s.startUp()
	s.manyStreams(streams)
	s.refusedRequests()
	s.limits()
	s.otherWaysToCall()
	s.webSocketOddities()
	results.Check("close cleanly", client.WebSocket.Close(websocket.StatusNormalClosure, ""))
	s.refusedDials()
	s.abruptClose()
}

type script struct {
	results *Results
	options peer.Options
	client  *peer.Client
}

func (s *script) dial() (*peer.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return peer.Dial(ctx, s.options)
}

func (s *script) call(method string, in, out proto.Message) error {
	return call(s.client, method, in, out)
}

func call(client *peer.Client, method string, in, out proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return client.Invoke(ctx, method, in, out)
}

// startUp makes the calls of an agent that starts: a chain from the manifest to the
// stats, and beside it everything else at once.
func (s *script) startUp() {
	var group sync.WaitGroup
	beside := []struct {
		method  string
		in, out proto.Message
	}{
		{"GetServiceBanner", &pb.GetServiceBannerRequest{}, &pb.ServiceBanner{}},
		{"GetAnnouncementBanners", &pb.GetAnnouncementBannersRequest{}, &pb.GetAnnouncementBannersResponse{}},
		{"BatchCreateLogs", &pb.BatchCreateLogsRequest{LogSourceId: make([]byte, 16), Logs: []*pb.Log{
			{CreatedAt: timestamppb.Now(), Output: "hello", Level: pb.Log_INFO},
		}}, &pb.BatchCreateLogsResponse{}},
		{"ReportBoundaryLogs", BoundaryRequest("script", 0, 10), &pb.ReportBoundaryLogsResponse{}},
		{"BatchUpdateMetadata", &pb.BatchUpdateMetadataRequest{}, &pb.BatchUpdateMetadataResponse{}},
		{"BatchUpdateAppHealths", &pb.BatchUpdateAppHealthRequest{}, &pb.BatchUpdateAppHealthResponse{}},
		{"GetResourcesMonitoringConfiguration", &pb.GetResourcesMonitoringConfigurationRequest{},
			&pb.GetResourcesMonitoringConfigurationResponse{}},
		{"PushResourcesMonitoringUsage", &pb.PushResourcesMonitoringUsageRequest{},
			&pb.PushResourcesMonitoringUsageResponse{}},
		{"ReportConnection", &pb.ReportConnectionRequest{Connection: &pb.Connection{
			Id: make([]byte, 16), Action: pb.Connection_CONNECT, Type: pb.Connection_SSH,
			Timestamp: timestamppb.Now(), Ip: "127.0.0.1",
		}}, &emptypb.Empty{}},
	}
	for _, c := range beside {
		group.Go(func() { s.results.Check(c.method, s.call(c.method, c.in, c.out)) })
	}
	group.Go(func() { s.results.Check("UpdateLifecycle STARTING", s.lifecycle(pb.Lifecycle_STARTING)) })
	group.Go(s.chain)
	group.Wait()
	s.results.Check("ScriptCompleted", s.call("ScriptCompleted", scriptCompleted(nil),
		&pb.WorkspaceAgentScriptCompletedResponse{}))
	for _, state := range []pb.Lifecycle_State{pb.Lifecycle_READY, pb.Lifecycle_SHUTTING_DOWN, pb.Lifecycle_OFF} {
		s.results.Check("UpdateLifecycle "+state.String(), s.lifecycle(state))
	}
}

func (s *script) chain() {
	var manifest pb.Manifest
	err := s.call("GetManifest", &pb.GetManifestRequest{}, &manifest)
	if err == nil && len(manifest.AgentId) != 16 {
		err = fmt.Errorf("agent_id of %d bytes, want 16", len(manifest.AgentId))
	}
	s.results.Check("GetManifest", err)

	startup := &pb.Startup{
		Version: "v2.30.0", ExpandedDirectory: "/home/coder", Subsystems: []pb.Startup_Subsystem{pb.Startup_ENVBOX},
	}
	var echo pb.Startup
	err = s.call("UpdateStartup", &pb.UpdateStartupRequest{Startup: startup}, &echo)
	if err == nil && !proto.Equal(startup, &echo) {
		err = fmt.Errorf("echoed %v", &echo)
	}
	s.results.Check("UpdateStartup", err)

	// The first asks for the interval only.
	s.results.Check("UpdateStats without stats", s.stats(nil))
	s.results.Check("UpdateStats", s.stats(agentStats()))
}

func (s *script) stats(stats *pb.Stats) error {
	var reply pb.UpdateStatsResponse
	err := s.call("UpdateStats", &pb.UpdateStatsRequest{Stats: stats}, &reply)
	if err == nil && reply.ReportInterval.AsDuration() <= 0 {
		err = fmt.Errorf("report_interval %v", reply.ReportInterval)
	}
	return err
}

func (s *script) lifecycle(state pb.Lifecycle_State) error {
	lifecycle := &pb.Lifecycle{State: state, ChangedAt: timestamppb.New(time.Unix(1767225600, 5))}
	var echo pb.Lifecycle
	if err := s.call("UpdateLifecycle", &pb.UpdateLifecycleRequest{Lifecycle: lifecycle}, &echo); err != nil {
		return err
	}
	if !proto.Equal(lifecycle, &echo) {
		return fmt.Errorf("echoed %v", &echo)
	}
	return nil
}

func agentStats() *pb.Stats {
	return &pb.Stats{
		ConnectionsByProto: map[string]int64{"TCP": 1}, ConnectionCount: 1, ConnectionMedianLatencyMs: -0.001,
		RxPackets: 2, RxBytes: 300, TxPackets: 4, TxBytes: 500, SessionCountSsh: 1,
		SessionCounts: map[string]int64{"ssh": 1},
		Metrics: []*pb.Stats_Metric{
			{Name: "agent_scripts_executed_total", Type: pb.Stats_Metric_COUNTER, Value: 3,
				Labels: []*pb.Stats_Metric_Label{{Name: "success", Value: "true"}}},
			{Name: "agent_test_gauge", Type: pb.Stats_Metric_GAUGE, Value: -1.5},
		},
	}
}

func scriptCompleted(change func(*pb.Timing)) *pb.WorkspaceAgentScriptCompletedRequest {
	timing := &pb.Timing{
		ScriptId: make([]byte, 16), ExitCode: 1, Stage: pb.Timing_CRON, Status: pb.Timing_EXIT_FAILURE,
		Start: timestamppb.New(time.Unix(1767225600, 0)), End: timestamppb.New(time.Unix(1767225603, 5e8)),
	}
	if change != nil {
		change(timing)
	}
	return &pb.WorkspaceAgentScriptCompletedRequest{Timing: timing}
}

// BoundaryRequest has count logs from a sequence number on.
func BoundaryRequest(session string, from, count int) *pb.ReportBoundaryLogsRequest {
	r := &pb.ReportBoundaryLogsRequest{SessionId: session, ConfinedProcessName: "agent-test"}
	for n := from; n < from+count; n++ {
		r.Logs = append(r.Logs, boundaryLog(n, fmt.Sprintf("https://example.com/items/%d?q=a%%20b", n)))
	}
	return r
}

func boundaryLog(sequence int, url string) *pb.BoundaryLog {
	return &pb.BoundaryLog{
		Allowed: true, Time: timestamppb.New(time.Unix(1767225600, 0)), SequenceNumber: int32(sequence),
		Resource: &pb.BoundaryLog_HttpRequest_{HttpRequest: &pb.BoundaryLog_HttpRequest{
			Method: "GET", Url: url, MatchedRule: "domain=example.com",
		}},
	}
}

func (s *script) manyStreams(streams int) {
	failed := make(chan error, streams)
	var group sync.WaitGroup
	for n := range streams {
		group.Go(func() {
			session := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
			for batch := range 20 {
				err := s.call("ReportBoundaryLogs", BoundaryRequest(session, batch*100, 100),
					&pb.ReportBoundaryLogsResponse{})
				if err != nil {
					failed <- fmt.Errorf("stream %d, batch %d: %w", n, batch, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	s.results.Check(fmt.Sprintf("%d streams at once", streams), <-failed)
}

// fails wants an error with the code, and the session still alive.
func (s *script) fails(name string, code uint64, text, method string, in proto.Message) {
	err := s.call(method, in, &emptypb.Empty{})
	switch {
	case err == nil:
		err = errors.New("succeeded")
	case drpcerr.Code(err) != code:
		err = fmt.Errorf("code %d, want %d: %w", drpcerr.Code(err), code, err)
	case !strings.Contains(err.Error(), text):
		err = fmt.Errorf("want the text %q: %w", text, err)
	default:
		err = s.alive()
	}
	s.results.Check(name, err)
}

func (s *script) alive() error {
	if err := s.call("UpdateStats", &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{}); err != nil {
		return fmt.Errorf("the session did not survive: %w", err)
	}
	return nil
}

func (s *script) refusedRequests() {
	empty := &emptypb.Empty{}
	if err := s.call("Nope", empty, &emptypb.Empty{}); err == nil {
		s.results.Check("unknown method", errors.New("succeeded"))
	} else if code := drpcerr.Code(err); code != drpcerr.Unimplemented &&
		(code != 0 || !strings.Contains(err.Error(), "unknown rpc")) {
		s.results.Check("unknown method", fmt.Errorf("code %d: %w", code, err))
	} else {
		s.results.Check("unknown method", s.alive())
	}
	for _, method := range []string{"CreateSubAgent", "DeleteSubAgent", "ListSubAgents", "UpdateAppStatus", "PushContextState"} {
		s.fails(method+" is unimplemented", drpcerr.Unimplemented, "", method, empty)
	}
	startup := func(change func(*pb.Startup)) *pb.UpdateStartupRequest {
		startup := &pb.Startup{Version: "v2.30.0"}
		change(startup)
		return &pb.UpdateStartupRequest{Startup: startup}
	}
	s.fails("version without v", 0, "invalid agent semver version", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Version = "2.30.0" }))
	s.fails("version that is none", 0, "invalid agent semver version", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Version = "v02.1.0" }))
	s.fails("unknown subsystem", 0, "", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Subsystems = []pb.Startup_Subsystem{9} }))
	for _, state := range []pb.Lifecycle_State{pb.Lifecycle_STATE_UNSPECIFIED, 99} {
		s.fails(fmt.Sprintf("lifecycle state %d", state), 0, "unknown lifecycle state", "UpdateLifecycle",
			&pb.UpdateLifecycleRequest{Lifecycle: &pb.Lifecycle{State: state}})
	}
	s.fails("script without timing", 0, "", "ScriptCompleted", empty)
	for name, change := range map[string]func(*pb.Timing){
		"script id of 15 bytes":    func(t *pb.Timing) { t.ScriptId = make([]byte, 15) },
		"script without start":     func(t *pb.Timing) { t.Start = nil },
		"script without end":       func(t *pb.Timing) { t.End = nil },
		"script that ends early":   func(t *pb.Timing) { t.Start, t.End = t.End, t.Start },
		"script with zero start":   func(t *pb.Timing) { t.Start = timestamppb.New(time.Time{}) },
		"script of unknown status": func(t *pb.Timing) { t.Status = 99 },
	} {
		s.fails(name, 0, "", "ScriptCompleted", scriptCompleted(change))
	}
	equal := scriptCompleted(func(t *pb.Timing) { t.End = t.Start })
	s.results.Check("script of no time", s.call("ScriptCompleted", equal, &emptypb.Empty{}))
	epoch := scriptCompleted(func(t *pb.Timing) { t.Start = timestamppb.New(time.Unix(0, 0)) })
	s.results.Check("script from 1970", s.call("ScriptCompleted", epoch, &emptypb.Empty{}))
	s.fails("invalid UTF-8", 0, "", "ReportBoundaryLogs", unknown([]byte("\x12\x01\xff")))
	s.fails("truncated message", 0, "", "ReportBoundaryLogs", unknown([]byte("\x0a\x05\x08")))
	var reply pb.BatchCreateLogsResponse
	err := s.call("BatchCreateLogs", &pb.BatchCreateLogsRequest{LogSourceId: make([]byte, 16),
		Logs: []*pb.Log{{Output: strings.Repeat("x", 1<<20+1)}}}, &reply)
	if err == nil && !reply.LogLimitExceeded {
		err = errors.New("log_limit_exceeded is not set")
	}
	s.results.Check("more logs than 1 MiB", err)
}

// unknown is a message that marshals to the given bytes.
func unknown(raw []byte) proto.Message {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(raw)
	return m
}

func (s *script) limits() {
	fit := func(size int) proto.Message {
		r := &pb.ReportBoundaryLogsRequest{SessionId: "large", Logs: []*pb.BoundaryLog{boundaryLog(0, "")}}
		url := r.Logs[0].GetHttpRequest()
		for n := 0; n < 2; n++ {
			// The second time the lengths have as many digits as in the end.
			url.Url = strings.Repeat("u", max(size-(proto.Size(r)-len(url.Url)), 0))
		}
		if got := proto.Size(r); got != size {
			panic(fmt.Sprintf("a message of %d bytes, want %d", got, size))
		}
		return r
	}
	s.results.Check("message of exactly 4 MiB", s.call("ReportBoundaryLogs", fit(maxPacket), &emptypb.Empty{}))
	for _, size := range []int{maxPacket + 1, 5 << 20} {
		err := s.call("ReportBoundaryLogs", fit(size), &emptypb.Empty{})
		switch {
		case err == nil:
			err = errors.New("succeeded")
		case errors.Is(err, context.DeadlineExceeded):
			err = errors.New("the stream was not ended")
		default:
			err = s.alive()
		}
		s.results.Check(fmt.Sprintf("message of %d bytes", size), err)
	}
}

func (s *script) otherWaysToCall() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s.results.Check("two calls on one stream", func() error {
		stream, err := s.client.Session.OpenStream()
		if err != nil {
			return err
		}
		conn := drpcconn.New(stream)
		defer conn.Close()
		for range 2 {
			err := conn.Invoke(ctx, peer.ServicePrefix+"UpdateStats", peer.Encoding{},
				&pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{})
			if err != nil {
				return err
			}
		}
		return nil
	}())
	s.results.Check("call with metadata", s.client.Invoke(drpcmetadata.Add(ctx, "traceparent", "00-01"),
		"UpdateStats", &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{}))
	s.results.Check("stream without a call", func() error {
		stream, err := s.client.Session.OpenStream()
		if err != nil {
			return err
		}
		if err := stream.Close(); err != nil {
			return err
		}
		return s.alive()
	}())
	_, err := s.client.Session.Ping()
	s.results.Check("yamux ping", err)
	s.results.Check("cancelled call", func() error {
		cancelled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Millisecond, cancel)
		// Whether it ended before that is a matter of luck.
		_ = s.client.Invoke(cancelled, "ReportBoundaryLogs", BoundaryRequest("cancelled", 0, 5000), &emptypb.Empty{})
		return s.alive()
	}())
}

func (s *script) webSocketOddities() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s.results.Check("WebSocket ping", s.client.WebSocket.Ping(ctx))
	s.results.Check("messages of length 0", func() error {
		for range 3 {
			if err := s.client.WebSocket.Write(ctx, websocket.MessageBinary, nil); err != nil {
				return err
			}
		}
		return s.alive()
	}())
	s.results.Check("yamux ping in fragments", func() error {
		w, err := s.client.WebSocket.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			return err
		}
		frame := []byte{0, 2, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
		for _, b := range frame {
			if _, err := w.Write([]byte{b}); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		return s.alive()
	}())
}

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
