// Package agent plays the workspace agent against a control plane and says what
// was not as it should be.
package agent

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
)

// Results prints one JSON line per case and remembers those that failed.
type Results struct {
	mu     sync.Mutex
	out    *json.Encoder
	failed []string
}

// NewResults prints to w.
func NewResults(w io.Writer) *Results { return &Results{out: json.NewEncoder(w)} }

// Line is the outcome of one case.
type Line struct {
	Case string `json:"case"`
	OK   bool   `json:"ok"`
	// What was expected, where the case leaves a choice.
	Want string `json:"want,omitempty"`
	// What the server did.
	Server string `json:"server,omitempty"`
}

// Add prints a line.
func (r *Results) Add(line Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !line.OK {
		r.failed = append(r.failed, line.Case)
	}
	// A broken stdout shows in the exit code of whoever reads it.
	_ = r.out.Encode(line)
}

// Check adds a case that holds when err is nil.
func (r *Results) Check(name string, err error) {
	line := Line{Case: name, OK: err == nil}
	if err != nil {
		line.Server = err.Error()
	}
	r.Add(line)
}

// Failed names the cases that failed, or is empty.
func (r *Results) Failed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.failed, ", ")
}
