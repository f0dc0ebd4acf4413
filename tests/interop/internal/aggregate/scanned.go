package aggregate

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir.test/interop/internal/pb"
)

// Scanned is the first generation: a slice that is looked through for every sample.
type Scanned struct {
	*engine
	series []entry
}

// NewScanned is an empty one.
func NewScanned() *Scanned { return &Scanned{engine: newEngine()} }

// Run starts the goroutine.
func (s *Scanned) Run() func() { return s.run(s.store, s.collect, s.expire) }

func (s *Scanned) store(update update) {
	expires := update.at.Add(expiry)
	for _, metric := range update.Metrics {
		index := slices.IndexFunc(s.series, func(known entry) bool {
			return known.labels == update.Labels && known.metric.Name == metric.Name &&
				slices.EqualFunc(known.metric.Labels, metric.Labels, sameLabel)
		})
		if index < 0 {
			s.series = append(s.series, entry{metric, update.Labels, expires})
			continue
		}
		s.series[index].metric.Value = metric.Value
		s.series[index].expires = expires
	}
}

// sameLabel compares by value. The first generation compared pointers, and so never met a
// series with labels again.
func sameLabel(a, b *pb.Stats_Metric_Label) bool {
	return a.Name == b.Name && a.Value == b.Value
}

func (s *Scanned) collect() []prometheus.Metric {
	metrics := make([]prometheus.Metric, 0, len(s.series))
	for _, known := range s.series {
		metrics = append(metrics, constMetric(known.metric, known.labels))
	}
	return metrics
}

func (s *Scanned) expire(now time.Time) {
	s.series = slices.DeleteFunc(s.series, func(known entry) bool {
		return now.After(known.expires)
	})
}
