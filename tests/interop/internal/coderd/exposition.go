package coderd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"

	"weir.test/interop/internal/pb"
)

// The HELP of every metric of an agent.
const metricHelp = "Metrics are forwarded from workspace agents connected to this instance of coderd."

// What coderd adds to every metric of an agent.
var agentLabels = []string{"agent_name", "template_name", "username", "workspace_name"}

// Names that coderd exposes itself, and what agents report all the same.
var (
	ownPrefixes = []string{"coderd_", "go_", "process_", "promhttp_"}
	passed      = []string{
		"coderd_agentstats_currently_reachable_peers", "coderd_agentstats_startup_script_seconds",
	}
)

// exposition is coderd's page of metrics: what it counts itself, and what one report
// of an agent adds to it.
type exposition struct {
	registry *prometheus.Registry

	mu     sync.Mutex
	report *reported
}

// reported has no descriptions, as coderd's aggregator has none: the registry looks
// at its metrics only when it is gathered.
type reported struct{ metrics []prometheus.Metric }

// Describe implements prometheus.Collector.
func (*reported) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *reported) Collect(out chan<- prometheus.Metric) {
	for _, metric := range r.metrics {
		out <- metric
	}
}

func newExposition() *exposition {
	e := &exposition{registry: prometheus.NewRegistry(), report: &reported{}}
	e.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coderd_prometheusmetrics_metrics_aggregator_store_size",
			Help: "The number of metrics stored in the aggregator",
		}),
		e.report,
	)
	promhttp.InstrumentMetricHandler(e.registry, promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}))
	return e
}

// check puts the metrics of a report on the page and returns what is wrong with them:
// where coderd would panic, what would turn its page into an error, and what is not
// an agent's to report.
func (e *exposition) check(metrics []*pb.Stats_Metric) (faults []error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report.metrics = nil
	for _, m := range metrics {
		if err := permitted(m); err != nil {
			faults = append(faults, fmt.Errorf("%q: %w", m.GetName(), err))
		}
		metric, err := expose(m)
		if err != nil {
			faults = append(faults, fmt.Errorf("%q: %w", m.GetName(), err))
			continue
		}
		e.report.metrics = append(e.report.metrics, metric)
	}
	if _, err := e.registry.Gather(); err != nil {
		faults = append(faults, fmt.Errorf("the page: %w", err))
	}
	return faults
}

// expose makes what coderd makes of a metric, by a function that does not panic.
func expose(m *pb.Stats_Metric) (prometheus.Metric, error) {
	var kind prometheus.ValueType
	switch m.GetType() {
	case pb.Stats_Metric_COUNTER:
		kind = prometheus.CounterValue
	case pb.Stats_Metric_GAUGE:
		kind = prometheus.GaugeValue
	default:
		return nil, fmt.Errorf("unsupported type %v", m.GetType())
	}
	names := slices.Clone(agentLabels)
	values := []string{"main", "default", "weir", "default"}
	for _, label := range m.GetLabels() {
		names = append(names, label.GetName())
		values = append(values, label.GetValue())
	}
	return prometheus.NewConstMetric(
		prometheus.NewDesc(m.GetName(), metricHelp, names, nil), kind, m.GetValue(), values...)
}

// permitted is stricter than the library, which takes names in UTF-8 by now.
func permitted(m *pb.Stats_Metric) error {
	name := m.GetName()
	if !model.LegacyValidation.IsValidMetricName(name) {
		return errors.New("not a name in the legacy charset")
	}
	own := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	if slices.ContainsFunc(ownPrefixes, own) && !slices.Contains(passed, name) {
		return errors.New("a name of coderd's own")
	}
	for _, label := range m.GetLabels() {
		switch name := label.GetName(); {
		case !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__"):
			return fmt.Errorf("label %q: not a name in the legacy charset", name)
		case slices.Contains(agentLabels, name):
			return fmt.Errorf("label %q: coderd adds it itself", name)
		case label.GetValue() == "":
			return fmt.Errorf("label %q: without a value", name)
		}
	}
	return nil
}
