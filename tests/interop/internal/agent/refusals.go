package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcerr"

	"weir.test/interop/internal/pb"
)

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
