package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcerr"

	"weir.test/interop/internal/pb"
)

// How a call fails, whatever the transport.
const (
	refused       = "refused"
	unimplemented = "unimplemented"
)

// faultOf names the way in which a call failed.
func faultOf(err error) string {
	if failed, ok := status.FromError(err); ok {
		switch failed.Code() {
		case codes.Unimplemented:
			return unimplemented
		case codes.InvalidArgument:
			return refused
		default:
			return failed.Code().String()
		}
	}
	code := drpcerr.Code(err)
	switch {
	case code == drpcerr.Unimplemented, code == 0 && strings.Contains(err.Error(), "unknown rpc"):
		return unimplemented
	case code == 0:
		return refused
	default:
		return fmt.Sprintf("code %d", code)
	}
}

// fails wants an error of that kind, and the session still alive.
func (s *script) fails(name, fault, text, method string, in proto.Message) {
	err := s.call(method, in, &emptypb.Empty{})
	s.results.Check(name, s.failed(err, fault, text))
}

func (s *script) failed(err error, fault, text string) error {
	switch {
	case err == nil:
		return errors.New("succeeded")
	case fault != "" && faultOf(err) != fault:
		return fmt.Errorf("%s, want %s: %w", faultOf(err), fault, err)
	case !strings.Contains(err.Error(), text):
		return fmt.Errorf("want the text %q: %w", text, err)
	default:
		return s.alive()
	}
}

func (s *script) alive() error {
	if err := s.call("UpdateStats", &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{}); err != nil {
		return fmt.Errorf("the session did not survive: %w", err)
	}
	return nil
}

func (s *script) refusedRequests() {
	empty := &emptypb.Empty{}
	s.fails("unknown method", unimplemented, "", "Nope", empty)
	for _, method := range []string{"CreateSubAgent", "DeleteSubAgent", "ListSubAgents", "UpdateAppStatus", "PushContextState"} {
		s.fails(method+" is unimplemented", unimplemented, "", method, empty)
	}
	startup := func(change func(*pb.Startup)) *pb.UpdateStartupRequest {
		startup := &pb.Startup{Version: "v2.30.0"}
		change(startup)
		return &pb.UpdateStartupRequest{Startup: startup}
	}
	s.fails("version without v", refused, "invalid agent semver version", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Version = "2.30.0" }))
	s.fails("version that is none", refused, "invalid agent semver version", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Version = "v02.1.0" }))
	s.fails("unknown subsystem", refused, "", "UpdateStartup",
		startup(func(m *pb.Startup) { m.Subsystems = []pb.Startup_Subsystem{9} }))
	for _, state := range []pb.Lifecycle_State{pb.Lifecycle_STATE_UNSPECIFIED, 99} {
		s.fails(fmt.Sprintf("lifecycle state %d", state), refused, "unknown lifecycle state", "UpdateLifecycle",
			&pb.UpdateLifecycleRequest{Lifecycle: &pb.Lifecycle{State: state}})
	}
	s.fails("script without timing", refused, "", "ScriptCompleted", empty)
	for name, change := range map[string]func(*pb.Timing){
		"script id of 15 bytes":    func(t *pb.Timing) { t.ScriptId = make([]byte, 15) },
		"script without start":     func(t *pb.Timing) { t.Start = nil },
		"script without end":       func(t *pb.Timing) { t.End = nil },
		"script that ends early":   func(t *pb.Timing) { t.Start, t.End = t.End, t.Start },
		"script with zero start":   func(t *pb.Timing) { t.Start = timestamppb.New(time.Time{}) },
		"script of unknown status": func(t *pb.Timing) { t.Status = 99 },
	} {
		s.fails(name, refused, "", "ScriptCompleted", scriptCompleted(change))
	}
	equal := scriptCompleted(func(t *pb.Timing) { t.End = t.Start })
	s.results.Check("script of no time", s.call("ScriptCompleted", equal, &emptypb.Empty{}))
	epoch := scriptCompleted(func(t *pb.Timing) { t.Start = timestamppb.New(time.Unix(0, 0)) })
	s.results.Check("script from 1970", s.call("ScriptCompleted", epoch, &emptypb.Empty{}))
	s.fails("invalid UTF-8", refused, "", "ReportBoundaryLogs", unknown([]byte("\x12\x01\xff")))
	s.fails("truncated message", refused, "", "ReportBoundaryLogs", unknown([]byte("\x0a\x05\x08")))
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
	for _, size := range []int{maxPacket - 1, maxPacket} {
		s.results.Check(fmt.Sprintf("message of %d bytes", size),
			s.call("ReportBoundaryLogs", fit(size), &emptypb.Empty{}))
	}
	for _, size := range []int{maxPacket + 1, 5 << 20} {
		err := s.call("ReportBoundaryLogs", fit(size), &emptypb.Empty{})
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("the stream was not ended")
		} else {
			err = s.failed(err, s.tooLarge, "")
		}
		s.results.Check(fmt.Sprintf("message of %d bytes", size), err)
	}
}
