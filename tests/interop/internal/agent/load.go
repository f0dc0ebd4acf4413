package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"weir.test/interop/internal/peer"
)

// LoadResult is what the server acknowledged.
type LoadResult struct {
	Logs          int     `json:"logs"`
	Requests      int     `json:"requests"`
	Bytes         int     `json:"bytes"`
	Seconds       float64 `json:"seconds"`
	LogsPerSecond float64 `json:"logs_per_second"`
}

// Load sends coalesced requests over one connection as fast as they are answered,
// one at a time in each lane. Every lane is a session of its own, so numbers do not
// repeat.
func Load(ctx context.Context, options peer.Options, duration time.Duration, lanes, requestBytes, urlBytes int) (LoadResult, error) {
	client, err := peer.Connect(ctx, options)
	if err != nil {
		return LoadResult{}, err
	}
	defer client.Close()
	var (
		mu     sync.Mutex
		result LoadResult
		failed error
		group  sync.WaitGroup
	)
	run := time.Now().UnixNano() & 0xffffffffffff
	began := time.Now()
	for lane := range lanes {
		group.Go(func() {
			template, err := newTemplate(fmt.Sprintf("%08x-0000-4000-8000-%012x", lane, run), requestBytes, urlBytes)
			for err == nil && time.Since(began) < duration {
				message := unknown(template.next())
				if err = client.Invoke(ctx, "ReportBoundaryLogs", message, &emptypb.Empty{}); err != nil {
					break
				}
				mu.Lock()
				result.Requests++
				result.Logs += len(template.offsets)
				result.Bytes += len(template.raw)
				mu.Unlock()
			}
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	group.Wait()
	result.Seconds = time.Since(began).Seconds()
	result.LogsPerSecond = float64(result.Logs) / result.Seconds
	return result, failed
}

// template is an encoded request whose sequence numbers are written in place, so
// that the client costs next to nothing beside the server.
type template struct {
	raw     []byte
	offsets []int
	base    uint32
}

// A varint of fixed length; decoders take the leading zero groups.
const paddedVarint = 5

func newTemplate(session string, requestBytes, urlBytes int) (*template, error) {
	log := boundaryLog(0, "https://example.com/"+strings.Repeat("u", urlBytes))
	encoded, err := proto.Marshal(log)
	if err != nil {
		return nil, err
	}
	t := &template{}
	for {
		before := len(t.raw)
		t.raw = protowire.AppendTag(t.raw, 1, protowire.BytesType)
		t.raw = protowire.AppendVarint(t.raw, uint64(len(encoded)+1+paddedVarint))
		t.raw = append(t.raw, encoded...)
		t.raw = protowire.AppendTag(t.raw, 4, protowire.VarintType)
		t.offsets = append(t.offsets, len(t.raw))
		t.raw = append(t.raw, make([]byte, paddedVarint)...)
		if 2*len(t.raw)-before > requestBytes {
			break
		}
	}
	t.raw = protowire.AppendTag(t.raw, 2, protowire.BytesType)
	t.raw = protowire.AppendString(t.raw, session)
	return t, nil
}

// next returns the request with the next numbers, valid until the next call.
func (t *template) next() []byte {
	for i, offset := range t.offsets {
		n := uint64(t.base + uint32(i))
		var groups [8]byte
		binary.LittleEndian.PutUint64(groups[:],
			n&0x7f|n>>7&0x7f<<8|n>>14&0x7f<<16|n>>21&0x7f<<24|n>>28<<32|0x80808080)
		copy(t.raw[offset:], groups[:paddedVarint])
	}
	t.base += uint32(len(t.offsets))
	return t.raw
}
