package coderd

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/seqset"
)

// Field numbers of ReportBoundaryLogsRequest and BoundaryLog.
const (
	fieldLogs     = 1
	fieldSession  = 2
	fieldProcess  = 3
	fieldSequence = 4
)

// boundaryRequest is a ReportBoundaryLogsRequest as it came, and what of it the
// account needs. A real coderd decodes all of it, and so does Unmarshal when strict.
type boundaryRequest struct {
	raw     []byte
	session string
	process string
}

func (r *boundaryRequest) decode(raw []byte, strict bool) error {
	if strict {
		if err := proto.Unmarshal(raw, new(pb.ReportBoundaryLogsRequest)); err != nil {
			return err
		}
	}
	r.raw = raw
	return fields(raw, func(number protowire.Number, kind protowire.Type, value []byte) error {
		if kind != protowire.BytesType {
			return nil
		}
		switch number {
		case fieldSession:
			r.session = string(value)
		case fieldProcess:
			r.process = string(value)
		}
		return nil
	})
}

// eachLog calls f with each BoundaryLog as it stands on the wire.
func (r *boundaryRequest) eachLog(f func(log []byte, sequence int32)) error {
	return fields(r.raw, func(number protowire.Number, kind protowire.Type, value []byte) error {
		if number != fieldLogs || kind != protowire.BytesType {
			return nil
		}
		var sequence int32
		err := fields(value, func(number protowire.Number, kind protowire.Type, value []byte) error {
			if number == fieldSequence && kind == protowire.VarintType {
				v, _ := protowire.ConsumeVarint(value)
				sequence = int32(v)
			}
			return nil
		})
		if err == nil {
			f(value, sequence)
		}
		return err
	})
}

// fields walks one message. The value of a length-delimited field comes without
// its length, every other value as it stands.
func fields(message []byte, f func(protowire.Number, protowire.Type, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		n = protowire.ConsumeFieldValue(number, kind, message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		value := message[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := f(number, kind, value); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}

// session is the account of one session id.
type session struct {
	mu         sync.Mutex
	id         string
	requests   uint64
	bytes      uint64
	logs       uint64
	distinct   uint64
	duplicates uint64
	outOfOrder uint64
	first      int32
	last       int32
	highest    int32
	seen       seqset.Set
	sum        hash.Hash
	processes  map[string]uint64
	raw        [][]byte
}

func newSession(id string) *session {
	return &session{id: id, highest: math.MinInt32, sum: sha256.New(), processes: make(map[string]uint64)}
}

func (s *session) add(r *boundaryRequest, keepRaw bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.bytes += uint64(len(r.raw))
	if keepRaw {
		s.raw = append(s.raw, r.raw)
	}
	return r.eachLog(func(log []byte, sequence int32) {
		s.processes[r.process]++
		if s.logs++; s.logs == 1 {
			s.first = sequence
		}
		s.last = sequence
		// Without a session id the numbers of many senders mix.
		if s.id != "" {
			if !s.seen.Add(uint32(sequence)) {
				s.duplicates++
				return
			}
			if sequence < s.highest {
				s.outOfOrder++
			}
			s.highest = max(s.highest, sequence)
		}
		s.distinct++
		s.sum.Write(log)
	})
}

// SessionAccount is what arrived for one session id.
type SessionAccount struct {
	// RPCs.
	Batches uint64 `json:"batches"`
	Bytes   uint64 `json:"bytes"`
	Logs    uint64 `json:"logs"`
	// Distinct + duplicates = logs. Without a session id every log is distinct.
	Distinct   uint64 `json:"distinct"`
	Duplicates uint64 `json:"duplicates"`
	// First deliveries whose number is lower than one that was seen before.
	OutOfOrder uint64 `json:"out_of_order"`
	First      int32  `json:"first"`
	Last       int32  `json:"last"`
	Highest    int32  `json:"highest"`
	// Over the BoundaryLog messages as they stood on the wire, on first delivery,
	// in the order of arrival.
	SHA256 string `json:"sha256"`
	// Logs by confined_process_name.
	Processes map[string]uint64 `json:"processes"`
}

func (s *session) account() SessionAccount {
	s.mu.Lock()
	defer s.mu.Unlock()
	processes := make(map[string]uint64, len(s.processes))
	for name, n := range s.processes {
		processes[name] = n
	}
	return SessionAccount{
		Batches: s.requests, Bytes: s.bytes, Logs: s.logs, Distinct: s.distinct, Duplicates: s.duplicates,
		OutOfOrder: s.outOfOrder, First: s.first, Last: s.last, Highest: max(s.highest, 0),
		SHA256: hex.EncodeToString(s.sum.Sum(nil)), Processes: processes,
	}
}
