package coderd

import (
	"encoding/json"
	"net/http"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
)

// Lists in the account are cut at this length; the totals beside them are not.
const maxListed = 1000

// Account is everything that the server received, as GET /account shows it.
type Account struct {
	Connections    ConnectionAccount            `json:"connections"`
	Dials          []Dial                       `json:"dials"`
	DialsTotal     int                          `json:"dials_total"`
	Calls          map[string]map[string]uint64 `json:"calls"`
	RequestBytes   uint64                       `json:"request_bytes"`
	Sessions       map[string]SessionAccount    `json:"sessions"`
	Agents         map[string]*AgentAccount     `json:"agents"`
	Cancelled      int                          `json:"cancelled_calls"`
	FaultsFired    map[string]int               `json:"faults_fired"`
	Violations     []Violation                  `json:"violations"`
	ViolationCount int                          `json:"violations_total"`
	LibraryErrors  []LibraryError               `json:"library_errors"`
}

// ConnectionAccount counts the sessions that were accepted.
type ConnectionAccount struct {
	Opened int `json:"opened"`
	Closed int `json:"closed"`
	// Those that the client ended with WebSocket close 1000 or 1001.
	ClosedCleanly int        `json:"closed_cleanly"`
	By            []Identity `json:"by"`
}

// Identity counts connections of one role and version.
type Identity struct {
	Role    string `json:"role"`
	Version string `json:"version"`
	Opened  int    `json:"opened"`
}

// Dial is one HTTP request at the RPC path.
type Dial struct {
	Role    string      `json:"role"`
	Version string      `json:"version"`
	Status  int         `json:"status"`
	Message string      `json:"message,omitempty"`
	Header  http.Header `json:"headers"`
}

// Violation is one thing that a client did against the protocol.
type Violation struct {
	Connection uint64 `json:"connection"`
	Rule       string `json:"rule"`
	Stream     uint32 `json:"stream,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

// LibraryError is what one of the libraries said about a connection.
type LibraryError struct {
	Connection uint64 `json:"connection"`
	Library    string `json:"library"`
	Error      string `json:"error"`
}

// AgentAccount is what one token sent beside boundary logs.
type AgentAccount struct {
	// UpdateStats calls with stats; those without only ask for the interval.
	StatsReports  int              `json:"stats_reports"`
	StatsRequests int              `json:"stats_requests"`
	LastStats     json.RawMessage  `json:"last_stats"`
	Metrics       []Metric         `json:"metrics"`
	Startups      []protoMessage   `json:"startups"`
	Lifecycles    []protoMessage   `json:"lifecycles"`
	Scripts       []protoMessage   `json:"scripts_completed"`
	Connections   []protoMessage   `json:"connection_reports"`
	Logs          map[string][]Log `json:"logs"`
	LogBytes      int              `json:"log_bytes"`
	LogsRefused   int              `json:"logs_over_limit"`
}

// Metric is one sample of the latest report.
type Metric struct {
	Name   string            `json:"name"`
	Type   string            `json:"type"`
	Value  jsonFloat         `json:"value"`
	Labels map[string]string `json:"labels"`
}

// Log is one line of a script.
type Log struct {
	Level  string `json:"level"`
	Output string `json:"output"`
}

// protoMessage shows a message in the JSON form of protobuf.
type protoMessage struct{ proto.Message }

// MarshalJSON implements json.Marshaler.
func (m protoMessage) MarshalJSON() ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Message)
}

// account collects. Boundary logs have a lock per session, so that they do not wait
// for each other; everything else shares one.
type account struct {
	keepRaw bool

	sessionsMu sync.Mutex
	sessions   map[string]*session

	mu    sync.Mutex
	state Account
	by    map[Identity]int
}

func newAccount(keepRaw bool) *account {
	a := &account{keepRaw: keepRaw}
	a.reset()
	return a
}

func (a *account) reset() {
	a.sessionsMu.Lock()
	a.sessions = make(map[string]*session)
	a.sessionsMu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = Account{
		Dials:         []Dial{},
		Calls:         make(map[string]map[string]uint64),
		Agents:        make(map[string]*AgentAccount),
		Violations:    []Violation{},
		LibraryErrors: []LibraryError{},
	}
	a.by = make(map[Identity]int)
}

func (a *account) session(id string) *session {
	a.sessionsMu.Lock()
	defer a.sessionsMu.Unlock()
	s := a.sessions[id]
	if s == nil {
		s = newSession(id)
		a.sessions[id] = s
	}
	return s
}

func (a *account) boundary(r *boundaryRequest) error {
	return a.session(r.session).add(r, a.keepRaw)
}

// raw returns the requests of a session as they came.
func (a *account) raw(id string) [][]byte {
	a.sessionsMu.Lock()
	s := a.sessions[id]
	a.sessionsMu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.raw...)
}

// update changes everything that is not a session.
func (a *account) update(f func(*Account)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.state)
}

func (a *account) agent(token string, f func(*AgentAccount)) {
	a.update(func(state *Account) {
		agent := state.Agents[token]
		if agent == nil {
			agent = &AgentAccount{
				Metrics: []Metric{}, Startups: []protoMessage{}, Lifecycles: []protoMessage{},
				Scripts: []protoMessage{}, Connections: []protoMessage{}, Logs: make(map[string][]Log),
			}
			state.Agents[token] = agent
		}
		f(agent)
	})
}

func (a *account) dial(d Dial) {
	a.update(func(state *Account) {
		state.DialsTotal++
		if len(state.Dials) < maxListed {
			state.Dials = append(state.Dials, d)
		}
	})
}

func (a *account) opened(role, version string) {
	a.update(func(state *Account) {
		state.Connections.Opened++
		a.by[Identity{Role: role, Version: version}]++
	})
}

func (a *account) call(method, outcome string, size int) {
	a.update(func(state *Account) {
		outcomes := state.Calls[method]
		if outcomes == nil {
			outcomes = make(map[string]uint64)
			state.Calls[method] = outcomes
		}
		outcomes[outcome]++
		state.RequestBytes += uint64(size)
	})
}

func (a *account) violation(v Violation) {
	a.update(func(state *Account) {
		state.ViolationCount++
		if len(state.Violations) < maxListed {
			state.Violations = append(state.Violations, v)
		}
	})
}

func (a *account) libraryError(e LibraryError) {
	a.update(func(state *Account) {
		if len(state.LibraryErrors) < maxListed {
			state.LibraryErrors = append(state.LibraryErrors, e)
		}
	})
}

// encode returns the account as JSON, as of one moment for all but the sessions.
func (a *account) encode(faultsFired map[string]int, cancelled int) ([]byte, error) {
	a.sessionsMu.Lock()
	sessions := make([]*session, 0, len(a.sessions))
	for _, s := range a.sessions {
		sessions = append(sessions, s)
	}
	a.sessionsMu.Unlock()
	accounts := make(map[string]SessionAccount, len(sessions))
	for _, s := range sessions {
		accounts[s.id] = s.account()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	state := a.state
	state.Sessions = accounts
	state.FaultsFired = faultsFired
	state.Cancelled += cancelled
	state.Connections.By = []Identity{}
	for identity, n := range a.by {
		identity.Opened = n
		state.Connections.By = append(state.Connections.By, identity)
	}
	return json.Marshal(state)
}

func metrics(stats *pb.Stats) []Metric {
	out := make([]Metric, 0, len(stats.GetMetrics()))
	for _, m := range stats.GetMetrics() {
		labels := make(map[string]string, len(m.GetLabels()))
		for _, label := range m.GetLabels() {
			labels[label.GetName()] = label.GetValue()
		}
		out = append(out, Metric{m.GetName(), m.GetType().String(), jsonFloat(m.GetValue()), labels})
	}
	return out
}
