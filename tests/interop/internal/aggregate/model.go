package aggregate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir.test/interop/internal/pb"
)

// Settings are those of an aggregator.
type Settings struct {
	// Names of agents by which series are told apart.
	By        []string `json:"by"`
	Agents    []Labels `json:"agents"`
	ExpiryMS  int64    `json:"expiry_ms"`
	MaxSeries int      `json:"max_series"`
}

// Model keeps series by the rules of Weir's control plane, and looks at all of them for
// every question.
type Model struct {
	settings Settings
	now      time.Duration
	members  map[memberKey]*member
	totals   map[rowKey]float64
	updates  int
}

type memberKey struct {
	agent int
	name  string
	// The other labels, sorted, each quoted.
	extra string
}

type rowKey struct{ name, agents, extra string }

type member struct {
	kind    pb.Stats_Metric_Type
	labels  map[string]string
	value   float64
	program string
	at      time.Duration
	update  int
}

// NewModel has no series yet.
func NewModel(settings Settings) *Model {
	return &Model{
		settings: settings,
		members:  make(map[memberKey]*member),
		totals:   make(map[rowKey]float64),
	}
}

// Report takes samples one by one, and says how many were refused for which reason.
func (m *Model) Report(agent int, program string, metrics []*pb.Stats_Metric) map[string]int {
	refused := map[string]int{}
	for _, metric := range metrics {
		if reason := m.take(agent, program, metric); reason != "" {
			refused[reason]++
		}
	}
	return refused
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]{0,255}$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	reserved   = regexp.MustCompile(`^(go|process|promhttp|coderd|weir_control)_`)
	allowed    = []string{
		"coderd_agentstats_startup_script_seconds",
		"coderd_agentstats_currently_reachable_peers",
	}
	additive = regexp.MustCompile(`_(batches|bytes|connected|connections|count|in_flight|` +
		`in_memory|info|logs|on_disk|peers|senders|series|sessions)$`)
)

func (m *Model) take(agent int, program string, metric *pb.Stats_Metric) (reason string) {
	if metric.Type != pb.Stats_Metric_COUNTER && metric.Type != pb.Stats_Metric_GAUGE {
		return "type"
	}
	if !metricName.MatchString(metric.Name) {
		return "invalid_name"
	}
	if reserved.MatchString(metric.Name) && !slices.Contains(allowed, metric.Name) {
		return "reserved_name"
	}
	labels, reason := labelsOf(metric)
	if reason != "" {
		return reason
	}
	counter := metric.Type == pb.Stats_Metric_COUNTER
	if counter && !(metric.Value >= 0 && metric.Value <= maxFloat) {
		return "invalid_value"
	}
	own := 0
	for key, other := range m.members {
		if key.name == metric.Name && other.kind != metric.Type {
			return "type"
		}
		if key.agent == agent {
			own++
		}
	}
	key := memberKey{agent, metric.Name, quote(labels)}
	former := 0.0
	if known := m.members[key]; known != nil {
		former = known.value
	} else {
		share := max(m.settings.MaxSeries/len(m.settings.Agents), m.settings.MaxSeries/10, 1)
		if len(m.members) >= m.settings.MaxSeries || own >= share {
			return "max_series"
		}
	}
	if counter {
		more := metric.Value
		if more >= former {
			more -= former
		}
		m.totals[m.row(key)] += more
	}
	m.updates++
	m.members[key] = &member{metric.Type, labels, metric.Value, program, m.now, m.updates}
	return ""
}

const maxFloat = 0x1p1023 * (1 + (1 - 0x1p-52))

func labelsOf(metric *pb.Stats_Metric) (labels map[string]string, reason string) {
	labels = map[string]string{}
	size, count := 0, 0
	for _, label := range metric.Labels {
		if label.Value == "" {
			continue
		}
		if _, twice := labels[label.Name]; twice || !labelName.MatchString(label.Name) ||
			strings.HasPrefix(label.Name, "__") {
			return nil, "invalid_label"
		}
		labels[label.Name] = label.Value
		size += len(label.Name) + len(label.Value)
		count++
	}
	if count > 64 || size > 4096 {
		return nil, "invalid_label"
	}
	for _, name := range agentLabels {
		if _, there := labels[name]; there {
			return nil, "reserved_label"
		}
	}
	return labels, ""
}

// Rebuilt takes the series away that the program was the last to report.
func (m *Model) Rebuilt(agent int, program string) {
	m.drop(func(key memberKey, member *member) bool {
		return key.agent == agent && member.program == program
	})
}

// Pass lets time pass.
func (m *Model) Pass(by time.Duration) { m.now += by }

// Expire takes away what is too old, and says how many series that were.
func (m *Model) Expire() int {
	before := len(m.members)
	m.drop(func(_ memberKey, member *member) bool {
		return m.now-member.at > time.Duration(m.settings.ExpiryMS)*time.Millisecond
	})
	return before - len(m.members)
}

func (m *Model) drop(gone func(memberKey, *member) bool) {
	maps.DeleteFunc(m.members, gone)
	rows := map[rowKey]bool{}
	for key := range m.members {
		rows[m.row(key)] = true
	}
	maps.DeleteFunc(m.totals, func(key rowKey, _ float64) bool { return !rows[key] })
}

func (m *Model) row(key memberKey) rowKey {
	return rowKey{key.name, quote(m.agentLabels(key.agent)), key.extra}
}

// agentLabels are the names of an agent that its series have.
func (m *Model) agentLabels(agent int) map[string]string {
	labels := m.settings.Agents[agent]
	all := map[string]string{
		"username": labels.Username, "workspace_name": labels.WorkspaceName,
		"agent_name": labels.AgentName, "template_name": labels.TemplateName,
	}
	maps.DeleteFunc(all, func(name, _ string) bool {
		return !slices.Contains(m.settings.By, name)
	})
	return all
}

// Describe sends nothing: the series are not known before.
func (*Model) Describe(chan<- *prometheus.Desc) {}

// Collect sends each row once.
func (m *Model) Collect(to chan<- prometheus.Metric) {
	rows := map[rowKey][]memberKey{}
	for key := range m.members {
		rows[m.row(key)] = append(rows[m.row(key)], key)
	}
	for row, keys := range rows {
		latest, sum := m.members[keys[0]], 0.0
		for _, key := range keys {
			member := m.members[key]
			sum += member.value
			if member.update > latest.update {
				latest = member
			}
		}
		value, kind := latest.value, prometheus.GaugeValue
		if latest.kind == pb.Stats_Metric_COUNTER {
			kind = prometheus.CounterValue
		}
		switch {
		case len(m.settings.By) == len(agentLabels):
		case latest.kind == pb.Stats_Metric_COUNTER:
			value = m.totals[row]
		case additive.MatchString(row.name):
			value = sum
		}
		var names, values []string
		for _, labels := range []map[string]string{m.agentLabels(keys[0].agent), latest.labels} {
			for name, value := range labels {
				names, values = append(names, name), append(values, value)
			}
		}
		to <- prometheus.MustNewConstMetric(
			prometheus.NewDesc(row.name, help, names, nil), kind, value, values...)
	}
}

func quote(labels map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&text, "%q=%q,", name, labels[name])
	}
	return text.String()
}
