package aggregate

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir.test/interop/internal/pb"
)

const help = "Metrics are forwarded from workspace agents connected to this instance of coderd."

// Sizes and times of the reference.
const (
	updateQueue  = 4096
	collectQueue = 10
	expiry       = 2 * time.Minute
)

var agentLabels = []string{"username", "workspace_name", "agent_name", "template_name"}

// Aggregator is what a bench drives.
type Aggregator interface {
	prometheus.Collector
	// Update hands a report over; false when it was dropped.
	Update(Report) bool
	// OnDone says what to call with how long a report waited, when it is stored.
	OnDone(func(waited time.Duration))
	// Run starts the goroutine.
	Run() (stop func())
}

type update struct {
	Report
	at time.Time
}

// engine is what both generations share: a goroutine that owns the series, and its channels.
type engine struct {
	updates  chan update
	collects chan chan []prometheus.Metric
	done     atomic.Pointer[func(time.Duration)]
}

func newEngine() *engine {
	return &engine{
		updates:  make(chan update, updateQueue),
		collects: make(chan chan []prometheus.Metric, collectQueue),
	}
}

func (e *engine) OnDone(done func(time.Duration)) { e.done.Store(&done) }

func (e *engine) Update(report Report) bool {
	select {
	case e.updates <- update{report, time.Now()}:
		return true
	default:
		return false
	}
}

// Describe sends nothing: the series are not known before.
func (*engine) Describe(chan<- *prometheus.Desc) {}

func (e *engine) Collect(to chan<- prometheus.Metric) {
	answer := make(chan []prometheus.Metric, 1)
	select {
	case e.collects <- answer:
	default:
		return
	}
	for _, metric := range <-answer {
		to <- metric
	}
}

func (e *engine) run(store func(update), collect func() []prometheus.Metric, expire func(time.Time)) func() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		cleanup := time.NewTicker(expiry)
		defer cleanup.Stop()
		for {
			select {
			case update := <-e.updates:
				store(update)
				(*e.done.Load())(time.Since(update.at))
			case answer := <-e.collects:
				answer <- collect()
			case now := <-cleanup.C:
				expire(now)
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// Keyed is the second generation: a map by everything that makes a series.
type Keyed struct {
	*engine
	series map[seriesKey]entry
}

type seriesKey struct {
	labels Labels
	name   string
	extra  string
}

type entry struct {
	metric  *pb.Stats_Metric
	labels  Labels
	expires time.Time
}

// NewKeyed is an empty one.
func NewKeyed() *Keyed {
	return &Keyed{newEngine(), make(map[seriesKey]entry)}
}

var escape = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `,`, `\,`, `=`, `\=`)

func keyOf(labels Labels, metric *pb.Stats_Metric) seriesKey {
	extra := make([]string, 0, len(metric.Labels))
	for _, label := range metric.Labels {
		if label.Value != "" {
			extra = append(extra, fmt.Sprintf("%s=%s", label.Name, escape.Replace(label.Value)))
		}
	}
	slices.Sort(extra)
	return seriesKey{labels, metric.Name, strings.Join(extra, ",")}
}

// Run starts the goroutine.
func (k *Keyed) Run() func() { return k.run(k.store, k.collect, k.expire) }

func (k *Keyed) store(update update) {
	expires := update.at.Add(expiry)
	for _, metric := range update.Metrics {
		key := keyOf(update.Labels, metric)
		known, ok := k.series[key]
		if ok {
			known.metric.Value = metric.Value
			known.expires = expires
		} else {
			known = entry{metric, update.Labels, expires}
		}
		k.series[key] = known
	}
}

func (k *Keyed) collect() []prometheus.Metric {
	metrics := make([]prometheus.Metric, 0, len(k.series))
	for _, known := range k.series {
		metrics = append(metrics, constMetric(known.metric, known.labels))
	}
	return metrics
}

func (k *Keyed) expire(now time.Time) {
	for key, known := range k.series {
		if now.After(known.expires) {
			delete(k.series, key)
		}
	}
}

func constMetric(metric *pb.Stats_Metric, labels Labels) prometheus.Metric {
	names := append(make([]string, 0, len(agentLabels)+len(metric.Labels)), agentLabels...)
	values := []string{labels.Username, labels.WorkspaceName, labels.AgentName, labels.TemplateName}
	for _, label := range metric.Labels {
		names = append(names, label.Name)
		values = append(values, label.Value)
	}
	kind := prometheus.CounterValue
	if metric.Type == pb.Stats_Metric_GAUGE {
		kind = prometheus.GaugeValue
	}
	return prometheus.MustNewConstMetric(
		prometheus.NewDesc(metric.Name, help, names, nil), kind, metric.Value, values...)
}
