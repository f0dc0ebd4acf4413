// Command wirecheck says what the real libraries make of some bytes: one request a
// line on stdin, one JSON object a line on stdout. See the README of this module.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"
	"storj.io/drpc/drpcwire"

	"weir.test/interop/internal/lines"
	"weir.test/interop/internal/pb"
)

// A line holds at most a dRPC packet and some frames more, in hex.
const maxLine = 32 << 20

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "wirecheck:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	return lines.Answer(in, out, maxLine, func(line string) any {
		verb, argument, _ := strings.Cut(line, " ")
		return answer(verb, argument)
	})
}

// failure is the answer to what could not be decoded.
type failure struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

func answer(verb, argument string) any {
	if verb == "drpc-encode" {
		return or(drpcEncode(argument))
	}
	raw, err := hex.DecodeString(argument)
	if err != nil {
		return failure{Error: fmt.Sprintf("hex: %v", err)}
	}
	switch verb {
	case "request":
		return or(request(raw))
	case "envelope":
		return or(envelope(raw))
	case "stats":
		return or(stats(raw))
	case "drpc":
		return drpc(raw)
	default:
		return failure{Error: fmt.Sprintf("unknown verb %q", verb)}
	}
}

func or(result any, err error) any {
	if err != nil {
		return failure{Error: err.Error()}
	}
	return result
}

// requestView is a ReportBoundaryLogsRequest as decoded.
type requestView struct {
	OK        bool    `json:"ok"`
	Logs      int     `json:"logs"`
	SessionID string  `json:"session_id"`
	Process   string  `json:"process"`
	Sequences []int32 `json:"sequences"`
	// SHA-256 of the message marshalled again, deterministically.
	SHA256 string `json:"sha256"`
}

func request(raw []byte) (*requestView, error) {
	var r pb.ReportBoundaryLogsRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	return view(&r)
}

func view(r *pb.ReportBoundaryLogsRequest) (*requestView, error) {
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(again)
	v := &requestView{
		OK: true, Logs: len(r.Logs), SessionID: r.SessionId, Process: r.ConfinedProcessName,
		Sequences: []int32{}, SHA256: hex.EncodeToString(sum[:]),
	}
	for _, log := range r.Logs {
		v.Sequences = append(v.Sequences, log.SequenceNumber)
	}
	return v, nil
}

// envelopeView is a BoundaryMessage as decoded.
type envelopeView struct {
	OK   bool   `json:"ok"`
	Kind string `json:"kind"`
	// Of kind logs.
	Request *requestView `json:"request,omitempty"`
	// Of kind status.
	DroppedChannelFull *int64 `json:"dropped_channel_full,omitempty"`
	DroppedBatchFull   *int64 `json:"dropped_batch_full,omitempty"`
}

func envelope(raw []byte) (*envelopeView, error) {
	var m pb.BoundaryMessage
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	switch message := m.Msg.(type) {
	case *pb.BoundaryMessage_Logs:
		r, err := view(message.Logs)
		return &envelopeView{OK: true, Kind: "logs", Request: r}, err
	case *pb.BoundaryMessage_Status:
		status := message.Status
		return &envelopeView{
			OK: true, Kind: "status",
			DroppedChannelFull: &status.DroppedChannelFull, DroppedBatchFull: &status.DroppedBatchFull,
		}, nil
	default:
		return &envelopeView{OK: true, Kind: "empty"}, nil
	}
}

// statsView is an UpdateStatsRequest as decoded, of which the metrics.
type statsView struct {
	OK      bool         `json:"ok"`
	Metrics []metricView `json:"metrics"`
}

type metricView struct {
	Name string `json:"name"`
	Type int32  `json:"type"`
	// The bits of the value, in hex.
	Value string `json:"value"`
	// Names and values, in order; without those whose value is empty.
	Labels [][2]string `json:"labels"`
}

func stats(raw []byte) (*statsView, error) {
	var r pb.UpdateStatsRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	v := &statsView{OK: true, Metrics: []metricView{}}
	for _, metric := range r.GetStats().GetMetrics() {
		labels := [][2]string{}
		for _, label := range metric.Labels {
			if label.Value != "" {
				labels = append(labels, [2]string{label.Name, label.Value})
			}
		}
		bits := fmt.Sprintf("%016x", math.Float64bits(metric.Value))
		v.Metrics = append(v.Metrics, metricView{metric.Name, int32(metric.Type), bits, labels})
	}
	return v, nil
}

// packet is one dRPC packet.
type packet struct {
	Stream  uint64 `json:"stream"`
	Message uint64 `json:"message"`
	Kind    uint8  `json:"kind"`
	Control bool   `json:"control"`
	Data    string `json:"data"`
}

// drpcView is what the reader of the library found before it stopped.
type drpcView struct {
	// The bytes ended without an error.
	OK      bool     `json:"ok"`
	Packets []packet `json:"packets"`
	Error   string   `json:"error,omitempty"`
}

func drpc(raw []byte) *drpcView {
	reader := drpcwire.NewReader(bytes.NewReader(raw))
	v := &drpcView{Packets: []packet{}}
	for {
		p, err := reader.ReadPacket()
		if errors.Is(err, io.EOF) {
			v.OK = true
			return v
		}
		if err != nil {
			v.Error = err.Error()
			return v
		}
		v.Packets = append(v.Packets, packet{
			p.ID.Stream, p.ID.Message, uint8(p.Kind), p.Control, hex.EncodeToString(p.Data),
		})
	}
}

// drpcEncode takes a list of packets, each with an optional split size (0: as the
// library does by itself), and returns the frames.
func drpcEncode(argument string) (any, error) {
	var packets []struct {
		packet
		Split int `json:"split"`
	}
	if err := json.Unmarshal([]byte(argument), &packets); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	writer := drpcwire.NewWriter(&out, 0)
	for _, p := range packets {
		data, err := hex.DecodeString(p.Data)
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		whole := drpcwire.Packet{
			ID: drpcwire.ID{Stream: p.Stream, Message: p.Message}, Kind: drpcwire.Kind(p.Kind),
			Control: p.Control, Data: data,
		}
		if err := drpcwire.SplitN(whole, p.Split, writer.WriteFrame); err != nil {
			return nil, err
		}
	}
	if err := writer.Flush(); err != nil {
		return nil, err
	}
	return struct {
		OK    bool   `json:"ok"`
		Bytes string `json:"bytes"`
	}{true, hex.EncodeToString(out.Bytes())}, nil
}
