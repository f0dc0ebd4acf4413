package aggregate

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
)

// A line holds at most a request or a page, in hex.
const maxLine = 64 << 20

// Serve drives a model: a line on in, a JSON line on out. The first line is Settings.
func Serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return lines.Err()
	}
	var settings Settings
	if err := json.Unmarshal(lines.Bytes(), &settings); err != nil {
		return err
	}
	m := NewModel(settings)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		answer, err := m.answer(lines.Text())
		if err != nil {
			return fmt.Errorf("%.80s: %w", lines.Text(), err)
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (m *Model) answer(line string) (any, error) {
	verb, rest, _ := strings.Cut(line, " ")
	var (
		agent   int
		program string
		text    string
		ms      int64
	)
	switch verb {
	case "report":
		if _, err := fmt.Sscanf(rest, "%d %s %s", &agent, &program, &text); err != nil {
			return nil, err
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		var request pb.UpdateStatsRequest
		if err := proto.Unmarshal(raw, &request); err != nil {
			return nil, err
		}
		return m.Report(agent, program, request.GetStats().GetMetrics()), nil
	case "rebuilt":
		if _, err := fmt.Sscanf(rest, "%d %s", &agent, &program); err != nil {
			return nil, err
		}
		m.Rebuilt(agent, program)
		return struct{}{}, nil
	case "pass":
		if _, err := fmt.Sscanf(rest, "%d", &ms); err != nil {
			return nil, err
		}
		m.Pass(time.Duration(ms) * time.Millisecond)
		return struct{}{}, nil
	case "expire":
		return m.Expire(), nil
	case "compare":
		page, err := hex.DecodeString(rest)
		if err != nil {
			return nil, err
		}
		return m.Compare(page)
	default:
		return nil, fmt.Errorf("unknown verb %q", verb)
	}
}

// Compare gathers the model through a registry and says in what a page differs from that.
func (m *Model) Compare(page []byte) (differences []string, err error) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(m); err != nil {
		return nil, err
	}
	want, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	got, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return []string{fmt.Sprintf("the page does not parse: %v", err)}, nil
	}
	differences = []string{}
	differ := func(format string, of ...any) {
		differences = append(differences, fmt.Sprintf(format, of...))
	}
	for _, family := range want {
		other := got[family.GetName()]
		delete(got, family.GetName())
		if family.GetType() != other.GetType() || family.GetHelp() != other.GetHelp() {
			differ("%s: %v %q", family.GetName(), other.GetType(), other.GetHelp())
		}
		rows := map[string]float64{}
		for _, metric := range other.GetMetric() {
			rows[labelText(metric)] = valueOf(metric)
		}
		if len(rows) != len(other.GetMetric()) {
			differ("%s: a series is twice there", family.GetName())
		}
		for _, metric := range family.GetMetric() {
			labels := labelText(metric)
			value, there := rows[labels]
			delete(rows, labels)
			want := valueOf(metric)
			if !there || value != want && !(math.IsNaN(value) && math.IsNaN(want)) {
				differ("%s{%s}: %v, there: %v, want %v", family.GetName(), labels, value, there, want)
			}
		}
		for labels := range rows {
			differ("%s{%s}: not wanted", family.GetName(), labels)
		}
	}
	for name := range got {
		differ("%s: not wanted", name)
	}
	return differences, nil
}

func labelText(metric *dto.Metric) string {
	labels := map[string]string{}
	for _, label := range metric.GetLabel() {
		labels[label.GetName()] = label.GetValue()
	}
	return quote(labels)
}

func valueOf(metric *dto.Metric) float64 {
	if metric.Counter != nil {
		return metric.Counter.GetValue()
	}
	return metric.Gauge.GetValue()
}
