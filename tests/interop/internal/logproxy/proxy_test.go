package logproxy

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
)

func listen(t *testing.T) (*Proxy, net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.sock")
	p, err := Listen(path, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return p, conn
}

func frame(t *testing.T, tag uint32, message proto.Message) []byte {
	t.Helper()
	payload, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, tag<<24|uint32(len(payload))), payload...)
}

func page(p *Proxy) string {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/any", nil))
	return w.Body.String()
}

func wantPage(t *testing.T, p *Proxy, lines ...string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		got := page(p)
		missing := ""
		for _, line := range lines {
			if !strings.Contains(got, line+"\n") {
				missing = line
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", missing, got)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestNewestIsDroppedWhenTheQueueIsFull(t *testing.T) {
	p, conn := listen(t)
	request := &pb.ReportBoundaryLogsRequest{Logs: []*pb.BoundaryLog{{}, {}, {}}}
	for range queueLength + 2 {
		if _, err := conn.Write(frame(t, tagV1, request)); err != nil {
			t.Fatal(err)
		}
	}
	wantPage(t, p,
		`agent_boundary_log_proxy_batches_dropped_total{reason="buffer_full"} 2`,
		`agent_boundary_log_proxy_logs_dropped_total{reason="buffer_full"} 6`,
		`agent_boundary_log_proxy_batches_forwarded_total 0`)
}

func TestStatusIsCounted(t *testing.T) {
	p, conn := listen(t)
	if got := page(p); strings.Contains(got, "dropped") {
		t.Errorf("a series before its first count:\n%s", got)
	}
	status, err := hex.DecodeString("02000006120408051003")
	if err != nil {
		t.Fatal(err)
	}
	negative := frame(t, tagV2, &pb.BoundaryMessage{Msg: &pb.BoundaryMessage_Status{
		Status: &pb.BoundaryStatus{DroppedChannelFull: -1, DroppedBatchFull: 1},
	}})
	if _, err := conn.Write(append(status, negative...)); err != nil {
		t.Fatal(err)
	}
	wantPage(t, p,
		`agent_boundary_log_proxy_logs_dropped_total{reason="boundary_channel_full"} 5`,
		`agent_boundary_log_proxy_logs_dropped_total{reason="boundary_batch_full"} 4`)
}

func TestFraming(t *testing.T) {
	cases := []struct {
		name, head string
		closed     bool
	}{
		{"V0", "0000003c", true},
		{"too large", "01008001", true},
		{"undecodable", "01000001ff", false},
		{"empty envelope", "02000000", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, conn := listen(t)
			head, err := hex.DecodeString(c.head)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(head); err != nil {
				t.Fatal(err)
			}
			if c.closed {
				if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("read: %v, want EOF", err)
				}
				return
			}
			if _, err := conn.Write(frame(t, tagV1, &pb.ReportBoundaryLogsRequest{})); err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.queue:
			case <-time.After(5 * time.Second):
				t.Error("the frame behind it never came")
			}
		})
	}
}

func TestRetrySchedule(t *testing.T) {
	r := newRetrier()
	var got []float64
	for range 12 {
		got = append(got, r.advance().Seconds())
	}
	want := []float64{0, 0.162, 0.262, 0.424, 0.685, 1.109, 1.794, 2.903, 4.698, 7.601, 10, 10}
	for i := range want {
		if diff := got[i] - want[i]; diff > 0.002 || diff < -0.002 {
			t.Errorf("wait %d is %.3f s, want %.3f s", i, got[i], want[i])
		}
	}
}
