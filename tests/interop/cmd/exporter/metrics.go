package main

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Label values that some readers get wrong.
var values = []string{
	"", "plain", `quote " quote`, `back\slash`, "line\nfeed", "a,b={}#", "}", " blank ", "tab\t", "é€🦀", "\x00",
}

// fill registers metrics of every kind, with values that stay as they are.
func fill(registry prometheus.Registerer) {
	counters := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "exporter_requests_total", Help: "Requests, \"quoted\" \\ and\nover two lines.",
	}, []string{"path"})
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "exporter_level", Help: "Any number."}, []string{"of"})
	histogram := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "exporter_took_seconds", Help: "Time.", Buckets: []float64{1e-6, 0.005, 0.1, 1, 2.5, 1e6},
	}, []string{"method"})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{
		Name: "exporter_size_bytes", Help: "Sizes.", Objectives: map[float64]float64{0.5: 0.05, 0.99: 0.001},
	})
	empty := prometheus.NewSummary(prometheus.SummaryOpts{
		Name: "exporter_never_bytes", Help: "Nothing yet.", Objectives: map[float64]float64{0.5: 0.05},
	})
	untyped := prometheus.NewUntypedFunc(prometheus.UntypedOpts{
		Name: "exporter_untyped", Help: "Of no type.",
	}, func() float64 { return 3 })
	// What a workspace agent counts.
	agent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "agent_boundary_log_proxy_logs_dropped_total", Help: "As the agent's.",
	}, []string{"reason"})
	scripts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "agent", Subsystem: "scripts", Name: "executed_total",
	}, []string{"success"})
	registry.MustRegister(counters, gauges, histogram, summary, empty, untyped, agent, scripts)

	for i, value := range values {
		counters.WithLabelValues(value).Add(float64(i) + 0.25)
	}
	counters.WithLabelValues("exemplar").(prometheus.ExemplarAdder).AddWithExemplar(
		7, prometheus.Labels{"trace_id": "ab cd", "span": "é"},
	)
	for name, value := range map[string]float64{
		"nan": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1), "max": math.MaxFloat64, "-0": math.Copysign(0, -1),
		"small": math.SmallestNonzeroFloat64, "large": 9007199254740993, "third": 1.0 / 3, "million": 1e6, "e21": 1e21,
	} {
		gauges.WithLabelValues(name).Set(value)
	}
	for _, took := range []float64{1e-7, 0.004, 0.5, 100, 1e7} {
		histogram.WithLabelValues("get").(prometheus.ExemplarObserver).ObserveWithExemplar(
			took, prometheus.Labels{"trace_id": "1234"},
		)
		histogram.WithLabelValues("put").Observe(took)
		summary.Observe(took)
	}
	agent.WithLabelValues("buffer_full").Add(11)
	scripts.WithLabelValues("true").Add(5)
}
