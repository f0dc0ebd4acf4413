package coderd

import (
	"bytes"
	"slices"
	"sync"
)

// Fault is one thing that a test asks the server to do wrong.
type Fault struct {
	Kind string `json:"kind"`
	// The RPC that it applies to, without the service name; empty is any.
	Method string `json:"method,omitempty"`
	// How many times it fires; 0 is until cleared.
	Count int `json:"count,omitempty"`
	// A call is hit only when its request contains these bytes.
	Match string `json:"match,omitempty"`

	Status         int     `json:"status,omitempty"`
	Body           *string `json:"body,omitempty"`
	To             string  `json:"to,omitempty"`
	Code           uint64  `json:"code,omitempty"`
	Message        string  `json:"message,omitempty"`
	Form           string  `json:"form,omitempty"`
	Milliseconds   int     `json:"ms,omitempty"`
	DownMS         int     `json:"down_ms,omitempty"`
	Bytes          int     `json:"bytes,omitempty"`
	BytesPerSecond int64   `json:"bytes_per_second,omitempty"`
}

// The moments at which an armed fault can strike.
const (
	faultRefuse          = "refuse"
	faultRedirect        = "redirect"
	faultExtensionHeader = "extension_header"
	faultHalfOpen        = "half_open"

	faultCloseBefore   = "close_before"
	faultCloseAfter    = "close_after"
	faultError         = "error"
	faultUnimplemented = "unimplemented"
	faultOversizeReply = "oversize_reply"
	faultGarbageReply  = "garbage_reply"
	faultNoReply       = "no_reply"
	faultStreamReset   = "stream_reset"
	faultRefuseStream  = "refuse_stream"
	faultLeaveOut      = "leave_out"
	faultLongReply     = "long_reply"
	faultDelay         = "delay"

	faultZeroMessages = "zero_messages"
	faultFragments    = "fragments"
	faultOddFrames    = "odd_frames"

	faultRST       = "rst"
	faultBlackhole = "blackhole"
	faultSlowRead  = "slow_read"
	faultGoAway    = "goaway"
	faultTextFrame = "text_frame"
	faultPing      = "ws_ping"
	faultCloseWS   = "close_ws"
	faultRestart   = "restart"
)

var (
	upgradeFaults = []string{faultRefuse, faultRedirect}
	callFaults    = []string{
		faultCloseBefore, faultCloseAfter, faultError, faultUnimplemented, faultOversizeReply,
		faultGarbageReply, faultNoReply, faultStreamReset, faultRefuseStream, faultLeaveOut,
		faultLongReply,
	}
	armedFaults = slices.Concat(upgradeFaults, callFaults, []string{
		faultExtensionHeader, faultHalfOpen, faultDelay, faultZeroMessages, faultFragments, faultOddFrames,
	})
	immediateFaults = []string{
		faultRST, faultBlackhole, faultSlowRead, faultGoAway, faultTextFrame, faultPing,
		faultCloseWS, faultRestart,
	}
)

// faults are those that are armed, and how often each kind has struck.
type faults struct {
	mu    sync.Mutex
	armed []Fault
	fired map[string]int
}

func (f *faults) arm(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = append(f.armed, fault)
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = nil
}

func (f *faults) count(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.countLocked(kind)
}

func (f *faults) countLocked(kind string) {
	if f.fired == nil {
		f.fired = make(map[string]int)
	}
	f.fired[kind]++
}

func (f *faults) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[string]int, len(f.fired))
	for kind, n := range f.fired {
		counts[kind] = n
	}
	return counts
}

// take returns the first armed fault of the given kinds that fits the call, and
// uses it up by one.
func (f *faults) take(method string, request []byte, kinds ...string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.armed {
		if !slices.Contains(kinds, fault.Kind) ||
			fault.Method != "" && fault.Method != method ||
			!bytes.Contains(request, []byte(fault.Match)) {
			continue
		}
		if fault.Count > 0 {
			if f.armed[i].Count--; f.armed[i].Count == 0 {
				f.armed = slices.Delete(f.armed, i, i+1)
			}
		}
		f.countLocked(fault.Kind)
		return fault, true
	}
	return Fault{}, false
}
