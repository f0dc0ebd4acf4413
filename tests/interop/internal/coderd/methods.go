package coderd

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc"
	"storj.io/drpc/drpcerr"

	"weir.test/interop/internal/audit"
	"weir.test/interop/internal/pb"
)

const servicePrefix = "/coder.agent.v2.Agent/"

// All logs of one agent together.
const maxLogBytes = 1 << 20

// What golang.org/x/mod/semver accepts.
var semver = regexp.MustCompile(`^v(0|[1-9]\d*)(\.(0|[1-9]\d*)(\.(0|[1-9]\d*)` +
	`(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?$`)

// agentAPI answers the calls of one connection.
type agentAPI struct {
	server     *Server
	token      string
	connection uint64
}

// method is one row of the service's description.
type method struct {
	name     string
	receiver drpc.Receiver
	function any
	// The same for a request in bytes.
	raw func(*agentAPI, context.Context, []byte) (proto.Message, error)
}

func unary[In, Out any](name string, f func(*agentAPI, context.Context, *In) (*Out, error)) method {
	receiver := func(srv any, ctx context.Context, in, _ any) (drpc.Message, error) {
		out, err := f(srv.(*agentAPI), ctx, in.(*In))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
	raw := func(a *agentAPI, ctx context.Context, request []byte) (proto.Message, error) {
		in := new(In)
		if err := (encoding{}).Unmarshal(request, in); err != nil {
			return nil, err
		}
		out, err := f(a, ctx, in)
		if err != nil {
			return nil, err
		}
		return any(out).(proto.Message), nil
	}
	return method{name, receiver, f, raw}
}

// unimplemented answers as the stubs of protoc-gen-go-drpc do.
func unimplemented(name string) method {
	return unary(name, func(*agentAPI, context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
		return nil, errUnimplemented
	})
}

func isUnimplemented(err error) bool { return drpcerr.Code(err) == drpcerr.Unimplemented }

var errUnimplemented = drpcerr.WithCode(errors.New("Unimplemented"), drpcerr.Unimplemented)

var service = description{
	unary("GetManifest", (*agentAPI).getManifest),
	unary("GetServiceBanner", accept[pb.GetServiceBannerRequest, pb.ServiceBanner]),
	unary("GetAnnouncementBanners", accept[pb.GetAnnouncementBannersRequest, pb.GetAnnouncementBannersResponse]),
	unary("UpdateStats", (*agentAPI).updateStats),
	unary("UpdateLifecycle", (*agentAPI).updateLifecycle),
	unary("UpdateStartup", (*agentAPI).updateStartup),
	unary("BatchUpdateAppHealths", accept[pb.BatchUpdateAppHealthRequest, pb.BatchUpdateAppHealthResponse]),
	unary("BatchUpdateMetadata", accept[pb.BatchUpdateMetadataRequest, pb.BatchUpdateMetadataResponse]),
	unary("BatchCreateLogs", (*agentAPI).batchCreateLogs),
	unary("ScriptCompleted", (*agentAPI).scriptCompleted),
	unary("GetResourcesMonitoringConfiguration",
		accept[pb.GetResourcesMonitoringConfigurationRequest, pb.GetResourcesMonitoringConfigurationResponse]),
	unary("PushResourcesMonitoringUsage",
		accept[pb.PushResourcesMonitoringUsageRequest, pb.PushResourcesMonitoringUsageResponse]),
	unary("ReportConnection", (*agentAPI).reportConnection),
	unary("ReportBoundaryLogs", (*agentAPI).reportBoundaryLogs),
	unimplemented("CreateSubAgent"),
	unimplemented("DeleteSubAgent"),
	unimplemented("ListSubAgents"),
	unimplemented("UpdateAppStatus"),
	unimplemented("PushContextState"),
}

// description makes a list of methods a drpc.Description.
type description []method

// NumMethods implements drpc.Description.
func (d description) NumMethods() int { return len(d) }

// Method implements drpc.Description.
func (d description) Method(n int) (string, drpc.Encoding, drpc.Receiver, any, bool) {
	if n < 0 || n >= len(d) {
		return "", nil, nil, nil, false
	}
	return servicePrefix + d[n].name, encoding{}, d[n].receiver, d[n].function, true
}

// encoding is protobuf, but keeps the bytes of a ReportBoundaryLogsRequest.
type encoding struct{}

// Marshal implements drpc.Encoding.
func (encoding) Marshal(message drpc.Message) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("no protobuf message: %v", reflect.TypeOf(message))
	}
	return proto.Marshal(m)
}

// Unmarshal implements drpc.Encoding. It keeps buf.
func (encoding) Unmarshal(buf []byte, message drpc.Message) error {
	switch m := message.(type) {
	case *boundaryRequest:
		m.raw = buf
		return nil
	case proto.Message:
		return proto.Unmarshal(buf, m)
	default:
		return fmt.Errorf("no protobuf message: %v", reflect.TypeOf(message))
	}
}

// accept answers a request that needs no account with an empty success.
func accept[In, Out any](*agentAPI, context.Context, *In) (*Out, error) { return new(Out), nil }

func (a *agentAPI) getManifest(context.Context, *pb.GetManifestRequest) (*pb.Manifest, error) {
	return a.server.manifest.Load(), nil
}

func (a *agentAPI) updateStats(_ context.Context, in *pb.UpdateStatsRequest) (*pb.UpdateStatsResponse, error) {
	var encoded json.RawMessage
	if in.Stats != nil {
		var err error
		if encoded, err = (protoMessage{in.Stats}).MarshalJSON(); err != nil {
			return nil, err
		}
	}
	a.server.account.agent(a.token, func(account *AgentAccount) {
		account.StatsRequests++
		if in.Stats != nil {
			account.StatsReports++
			account.LastStats = encoded
			account.Metrics = metrics(in.Stats)
		}
	})
	for _, fault := range a.server.exposition.check(in.GetStats().GetMetrics()) {
		a.server.account.violation(Violation{a.connection, audit.RuleMetric, 0, fault.Error()})
	}
	return &pb.UpdateStatsResponse{ReportInterval: durationpb.New(a.server.config.Refresh)}, nil
}

func (a *agentAPI) updateLifecycle(_ context.Context, in *pb.UpdateLifecycleRequest) (*pb.Lifecycle, error) {
	lifecycle := in.GetLifecycle()
	if _, known := pb.Lifecycle_State_name[int32(lifecycle.GetState())]; !known ||
		lifecycle.GetState() == pb.Lifecycle_STATE_UNSPECIFIED {
		return nil, fmt.Errorf("unknown lifecycle state %q", lifecycle.GetState())
	}
	if lifecycle.ChangedAt == nil {
		lifecycle.ChangedAt = timestamppb.Now()
	}
	a.server.account.agent(a.token, func(account *AgentAccount) {
		account.Lifecycles = list(account.Lifecycles, lifecycle)
	})
	return lifecycle, nil
}

func (a *agentAPI) updateStartup(_ context.Context, in *pb.UpdateStartupRequest) (*pb.Startup, error) {
	startup := in.GetStartup()
	if !semver.MatchString(startup.GetVersion()) {
		return nil, fmt.Errorf("invalid agent semver version %q", startup.GetVersion())
	}
	for _, subsystem := range startup.GetSubsystems() {
		if _, known := pb.Startup_Subsystem_name[int32(subsystem)]; !known ||
			subsystem == pb.Startup_SUBSYSTEM_UNSPECIFIED {
			return nil, fmt.Errorf("invalid agent subsystem %q", subsystem)
		}
	}
	a.server.account.agent(a.token, func(account *AgentAccount) {
		account.Startups = list(account.Startups, startup)
	})
	return startup, nil
}

func (a *agentAPI) batchCreateLogs(_ context.Context, in *pb.BatchCreateLogsRequest) (*pb.BatchCreateLogsResponse, error) {
	if len(in.GetLogSourceId()) != 16 {
		return nil, fmt.Errorf("parse log source id: %d bytes, want 16", len(in.GetLogSourceId()))
	}
	size := 0
	lines := make([]Log, 0, len(in.GetLogs()))
	for _, log := range in.GetLogs() {
		level := log.GetLevel()
		if level == pb.Log_LEVEL_UNSPECIFIED {
			level = pb.Log_INFO
		}
		size += len(log.GetOutput())
		lines = append(lines, Log{level.String(), log.GetOutput()})
	}
	over := false
	a.server.account.agent(a.token, func(account *AgentAccount) {
		if over = account.LogBytes+size > maxLogBytes; over {
			account.LogsRefused += len(lines)
			return
		}
		account.LogBytes += size
		source := hex.EncodeToString(in.GetLogSourceId())
		account.Logs[source] = append(account.Logs[source], lines...)
	})
	return &pb.BatchCreateLogsResponse{LogLimitExceeded: over}, nil
}

func (a *agentAPI) scriptCompleted(_ context.Context, in *pb.WorkspaceAgentScriptCompletedRequest) (*pb.WorkspaceAgentScriptCompletedResponse, error) {
	timing := in.GetTiming()
	start, end := timing.GetStart(), timing.GetEnd()
	switch {
	case timing == nil:
		return nil, errors.New("script timing is required")
	case len(timing.GetScriptId()) != 16:
		return nil, fmt.Errorf("script id from bytes: %d bytes, want 16", len(timing.GetScriptId()))
	case start == nil || start.AsTime().IsZero():
		return nil, errors.New("script start time is required and cannot be zero")
	case end == nil || end.AsTime().IsZero():
		return nil, errors.New("script end time is required and cannot be zero")
	case start.AsTime().After(end.AsTime()):
		return nil, errors.New("script start time cannot be after end time")
	case pb.Timing_Stage_name[int32(timing.GetStage())] == "":
		return nil, fmt.Errorf("insert workspace agent script timings: unknown stage %d", timing.GetStage())
	case pb.Timing_Status_name[int32(timing.GetStatus())] == "":
		return nil, fmt.Errorf("insert workspace agent script timings: unknown status %d", timing.GetStatus())
	}
	a.server.account.agent(a.token, func(account *AgentAccount) {
		account.Scripts = list(account.Scripts, timing)
	})
	return &pb.WorkspaceAgentScriptCompletedResponse{}, nil
}

func (a *agentAPI) reportConnection(_ context.Context, in *pb.ReportConnectionRequest) (*emptypb.Empty, error) {
	a.server.account.agent(a.token, func(account *AgentAccount) {
		account.Connections = list(account.Connections, in.GetConnection())
	})
	return &emptypb.Empty{}, nil
}

func (a *agentAPI) reportBoundaryLogs(_ context.Context, in *boundaryRequest) (*pb.ReportBoundaryLogsResponse, error) {
	if err := in.decode(in.raw, a.server.config.Strict); err != nil {
		return nil, err
	}
	if err := a.server.account.boundary(in); err != nil {
		return nil, err
	}
	return &pb.ReportBoundaryLogsResponse{}, nil
}

func list(messages []protoMessage, m proto.Message) []protoMessage {
	if len(messages) < maxListed {
		messages = append(messages, protoMessage{m})
	}
	return messages
}

// manifest is the default one, with what the test set put over it.
func manifest(overrides []byte) (*pb.Manifest, error) {
	m := &pb.Manifest{
		AgentId:       []byte("weir-test-agent0"),
		AgentName:     "main",
		OwnerUsername: "weir",
		WorkspaceId:   []byte("weir-test-space0"),
		WorkspaceName: "default",
		Directory:     "/tmp",
	}
	if len(overrides) > 0 {
		var set pb.Manifest
		if err := protojson.Unmarshal(overrides, &set); err != nil {
			return nil, err
		}
		proto.Merge(m, &set)
	}
	return m, nil
}

// jsonFloat writes the values that JSON has no number for as strings.
type jsonFloat float64

// MarshalJSON implements json.Marshaler.
func (f jsonFloat) MarshalJSON() ([]byte, error) {
	v := float64(f)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(v, 'g', -1, 64)), nil
	}
	return json.Marshal(v)
}
