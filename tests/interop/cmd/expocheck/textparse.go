package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func newTextparse(page []byte, format string) textparse.Parser {
	if format == "openmetrics" {
		return textparse.NewOpenMetricsParser(page, labels.NewSymbolTable())
	}
	return textparse.NewPromParser(page, labels.NewSymbolTable(), false)
}

func readTextparse(page []byte, format string) (v view) {
	v.Samples, v.Families = []sample{}, []family{}
	defer func() {
		if failed := recover(); failed != nil {
			v.Error = fmt.Sprintf("panic: %v", failed)
		}
	}()
	p := newTextparse(page, format)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return v
		}
		if err != nil {
			v.Error = err.Error()
			return v
		}
		switch entry {
		case textparse.EntryType:
			name, kind := p.Type()
			v.Families = append(v.Families, family{Name: string(name), Type: string(kind)})
		case textparse.EntryHelp:
			name, help := p.Help()
			v.Families = append(v.Families, family{Name: string(name), Help: string(help)})
		case textparse.EntryUnit:
			name, unit := p.Unit()
			v.Families = append(v.Families, family{Name: string(name), Unit: string(unit)})
		case textparse.EntrySeries:
			v.Samples = append(v.Samples, seriesOf(p))
		}
	}
}

func seriesOf(p textparse.Parser) sample {
	_, timestamp, value := p.Series()
	s := sample{Labels: [][2]string{}, Value: bits(value)}
	if timestamp != nil {
		ms := *timestamp
		s.TimestampMS = &ms
	}
	var set labels.Labels
	p.Labels(&set)
	named := false
	set.Range(func(l labels.Label) {
		// A label of that name beside the metric's own is left for the other side to see.
		if l.Name == labels.MetricName && !named {
			s.Name, named = hexed(l.Value), true
			return
		}
		s.Labels = append(s.Labels, [2]string{hexed(l.Name), hexed(l.Value)})
	})
	var e exemplar.Exemplar
	if p.Exemplar(&e) {
		s.Exemplar = exemplarOf(e)
	}
	return s
}

func exemplarOf(e exemplar.Exemplar) *exemplarView {
	v := &exemplarView{Labels: [][2]string{}, Value: bits(e.Value)}
	if e.HasTs {
		v.TimestampMS = &e.Ts
	}
	e.Labels.Range(func(l labels.Label) {
		v.Labels = append(v.Labels, [2]string{hexed(l.Name), hexed(l.Value)})
	})
	return v
}

// countTextparse reads a page as a scrape does, label sets included.
func countTextparse(page []byte) (int, error) {
	p := newTextparse(page, "text")
	samples := 0
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return samples, err
		}
		if entry == textparse.EntrySeries {
			var set labels.Labels
			p.Series()
			p.Labels(&set)
			samples++
		}
	}
}

func hexed(text string) string {
	return hex.EncodeToString([]byte(text))
}

// bits is the exact value; every NaN is the same.
func bits(value float64) string {
	if math.IsNaN(value) {
		return "NaN"
	}
	return strconv.FormatUint(math.Float64bits(value), 16)
}
