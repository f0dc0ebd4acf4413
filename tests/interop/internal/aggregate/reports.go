// Package aggregate keeps the metrics that agents report, as coderd does it in two
// generations, for benches; and as Weir's control plane says that it does it, slowly,
// for its tests. Everything is built on prometheus/client_golang.
package aggregate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
)

// Labels are the names of an agent.
type Labels struct {
	Username      string `json:"username"`
	WorkspaceName string `json:"workspace_name"`
	AgentName     string `json:"agent_name"`
	TemplateName  string `json:"template_name"`
}

// Report is what one agent says at one time.
type Report struct {
	Labels  Labels
	Metrics []*pb.Stats_Metric
}

// Payload is a report as it was sent.
type Payload struct {
	Agent uint32
	Bytes []byte
}

// Decode reads a report as coderd does.
func (p Payload) Decode() (Report, error) {
	var request pb.UpdateStatsRequest
	err := proto.Unmarshal(p.Bytes, &request)
	return Report{benchLabels(p.Agent), request.GetStats().GetMetrics()}, err
}

// EachPayload reads a file of reports: the number of the agent and the length of an
// UpdateStatsRequest, 32 bits each with the highest byte first, then the request.
func EachPayload(path string, take func(Payload) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		var head [8]byte
		if _, err := io.ReadFull(reader, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		bytes := make([]byte, binary.BigEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(reader, bytes); err != nil {
			return err
		}
		if err := take(Payload{binary.BigEndian.Uint32(head[:4]), bytes}); err != nil {
			return err
		}
	}
}

// EachReport reads a file of reports and decodes them.
func EachReport(path string, take func(Report) error) error {
	return EachPayload(path, func(payload Payload) error {
		report, err := payload.Decode()
		if err != nil {
			return err
		}
		return take(report)
	})
}

// benchLabels are the names of an agent of the bench; those on the other side are the same.
func benchLabels(agent uint32) Labels {
	return Labels{
		Username:      fmt.Sprintf("user-%05d", agent),
		WorkspaceName: fmt.Sprintf("workspace-%05d", agent),
		AgentName:     "main",
		TemplateName:  fmt.Sprintf("template-%02d", agent%20),
	}
}
