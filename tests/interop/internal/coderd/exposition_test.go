package coderd

import (
	"strings"
	"testing"

	"weir.test/interop/internal/pb"
)

func TestExposition(t *testing.T) {
	sample := func(kind pb.Stats_Metric_Type, name string, labels ...string) *pb.Stats_Metric {
		m := &pb.Stats_Metric{Name: name, Type: kind, Value: 1}
		for i := 0; i < len(labels); i += 2 {
			m.Labels = append(m.Labels, &pb.Stats_Metric_Label{Name: labels[i], Value: labels[i+1]})
		}
		return m
	}
	const counter, gauge = pb.Stats_Metric_COUNTER, pb.Stats_Metric_GAUGE
	cases := map[string]struct {
		metrics []*pb.Stats_Metric
		// In the faults; empty is none.
		want string
	}{
		"good": {[]*pb.Stats_Metric{
			sample(counter, "a_total", "reason", "x"), sample(counter, "a_total", "reason", "y"),
			sample(gauge, "coderd_agentstats_startup_script_seconds", "success", "true"), sample(gauge, "agent_a"),
		}, ""},
		"type":            {[]*pb.Stats_Metric{sample(0, "a")}, "unsupported type"},
		"empty name":      {[]*pb.Stats_Metric{sample(gauge, "")}, "not a valid metric name"},
		"legacy name":     {[]*pb.Stats_Metric{sample(gauge, "bad-name")}, "legacy charset"},
		"reserved name":   {[]*pb.Stats_Metric{sample(gauge, "coderd_x")}, "coderd's own"},
		"another's help":  {[]*pb.Stats_Metric{sample(gauge, "go_goroutines")}, "the page"},
		"reserved label":  {[]*pb.Stats_Metric{sample(gauge, "a", "username", "x")}, "coderd adds it"},
		"duplicate label": {[]*pb.Stats_Metric{sample(gauge, "a", "l", "x", "l", "y")}, "duplicate label names"},
		"internal label":  {[]*pb.Stats_Metric{sample(gauge, "a", "__l", "x")}, "not a valid label name"},
		"empty label":     {[]*pb.Stats_Metric{sample(gauge, "a", "l", "")}, "without a value"},
		"no UTF-8":        {[]*pb.Stats_Metric{sample(gauge, "a", "l", "\xff")}, "UTF-8"},
		"twice":           {[]*pb.Stats_Metric{sample(gauge, "a"), sample(gauge, "a")}, "the page"},
		"two types":       {[]*pb.Stats_Metric{sample(gauge, "a"), sample(counter, "a", "l", "x")}, "the page"},
	}
	page := newExposition()
	for name, c := range cases {
		var said strings.Builder
		for _, fault := range page.check(c.metrics) {
			said.WriteString(fault.Error())
		}
		if c.want == "" && said.Len() > 0 || !strings.Contains(said.String(), c.want) {
			t.Errorf("%s: %q, want %q", name, said.String(), c.want)
		}
	}
}
