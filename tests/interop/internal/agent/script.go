package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcconn"
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
	s.client, s.caller = client, client
	s.anyTransport(streams)
	s.otherWaysToCall()
	s.webSocketOddities()
	results.Check("close cleanly", client.WebSocket.Close(websocket.StatusNormalClosure, ""))
	s.refusedDials()
	s.abruptClose()
}

type script struct {
	results *Results
	options peer.Options
	caller  peer.Caller
	// The same, of a WebSocket.
	client *peer.Client
	// What a message beyond the limit fails as, where the transport has a word for it.
	tooLarge string
}

// anyTransport does what is the same on both transports.
func (s *script) anyTransport(streams int) {
	s.startUp()
	s.manyStreams(streams)
	s.refusedRequests()
	s.limits()
}

func (s *script) dial() (*peer.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return peer.Dial(ctx, s.options)
}

func (s *script) call(method string, in, out proto.Message) error {
	return call(s.caller, method, in, out)
}

func call(client peer.Caller, method string, in, out proto.Message) error {
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
		stream, err := s.client.Session.OpenStream()
		if err != nil {
			return err
		}
		conn := drpcconn.New(stream)
		defer conn.Close()
		cancelled, cancel := context.WithCancel(ctx)
		defer cancel()
		call, err := conn.NewStream(cancelled, peer.ServicePrefix+"UpdateStats", peer.Encoding{})
		if err != nil {
			return err
		}
		// The invoke leaves, the request never does.
		if err := call.(interface{ RawFlush() error }).RawFlush(); err != nil {
			return err
		}
		cancel()
		<-conn.Closed()
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
