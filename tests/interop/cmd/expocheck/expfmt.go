package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"

func readExpfmt(page []byte, format string) (v view) {
	v.Samples, v.Families = []sample{}, []family{}
	defer func() {
		if failed := recover(); failed != nil {
			v.Error = fmt.Sprintf("panic: %v", failed)
		}
	}()
	families, err := decodeExpfmt(page, format)
	if err != nil {
		v.Error = err.Error()
	}
	for _, f := range families {
		v.Families = append(v.Families, family{
			Name: f.GetName(), Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp(), Unit: f.GetUnit(),
		})
		for _, m := range f.Metric {
			v.Samples = append(v.Samples, flatten(f, m)...)
		}
	}
	return v
}

func decodeExpfmt(page []byte, format string) ([]*dto.MetricFamily, error) {
	if format == "text" {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		byName, err := parser.TextToMetricFamilies(bytes.NewReader(page))
		var families []*dto.MetricFamily
		for _, f := range byName {
			families = append(families, f)
		}
		return families, err
	}
	decoder := expfmt.NewDecoder(bytes.NewReader(page), openMetrics)
	var families []*dto.MetricFamily
	for {
		var f dto.MetricFamily
		err := decoder.Decode(&f)
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return families, err
		}
		families = append(families, &f)
	}
}

// flatten turns a metric back into the samples that it was read from. What expfmt has no
// room for, such as `_created`, is not among them.
func flatten(f *dto.MetricFamily, m *dto.Metric) []sample {
	var samples []sample
	add := func(suffix string, value float64, more ...[2]string) {
		s := sample{Name: hexed(f.GetName() + suffix), Labels: [][2]string{}, Value: bits(value), TimestampMS: m.TimestampMs}
		for _, l := range m.Label {
			s.Labels = append(s.Labels, [2]string{hexed(l.GetName()), hexed(l.GetValue())})
		}
		for _, l := range more {
			s.Labels = append(s.Labels, [2]string{hexed(l[0]), hexed(l[1])})
		}
		slices.SortFunc(s.Labels, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
		samples = append(samples, s)
	}
	number := func(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
	switch {
	case m.Counter != nil:
		add("", m.Counter.GetValue())
	case m.Gauge != nil:
		add("", m.Gauge.GetValue())
	case m.Untyped != nil:
		add("", m.Untyped.GetValue())
	case m.Summary != nil:
		for _, q := range m.Summary.Quantile {
			add("", q.GetValue(), [2]string{"quantile", number(q.GetQuantile())})
		}
		if m.Summary.SampleSum != nil {
			add("_sum", m.Summary.GetSampleSum())
		}
		if m.Summary.SampleCount != nil {
			add("_count", float64(m.Summary.GetSampleCount()))
		}
	case m.Histogram != nil:
		h := m.Histogram
		sum, count := "_sum", "_count"
		if f.GetType() == dto.MetricType_GAUGE_HISTOGRAM {
			sum, count = "_gsum", "_gcount"
		}
		for _, b := range h.Bucket {
			value := float64(b.GetCumulativeCount())
			if b.CumulativeCountFloat != nil {
				value = b.GetCumulativeCountFloat()
			}
			add("_bucket", value, [2]string{"le", number(b.GetUpperBound())})
		}
		if h.SampleSum != nil {
			add(sum, h.GetSampleSum())
		}
		if h.SampleCountFloat != nil {
			add(count, h.GetSampleCountFloat())
		} else if h.SampleCount != nil {
			add(count, float64(h.GetSampleCount()))
		}
	}
	return samples
}

// countExpfmt reads a page into families, which hold the label sets.
func countExpfmt(page []byte) (int, error) {
	families, err := decodeExpfmt(page, "text")
	samples := 0
	for _, f := range families {
		for _, m := range f.Metric {
			switch {
			case m.Summary != nil:
				samples += len(m.Summary.Quantile) + 2
			case m.Histogram != nil:
				samples += len(m.Histogram.Bucket) + 2
			default:
				samples++
			}
		}
	}
	return samples, err
}
