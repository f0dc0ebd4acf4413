// Command expocheck says what Prometheus's own parsers read from a page: one page a line
// on stdin, one JSON object a line on stdout. With -bench it says how fast they are
// instead. See the README of this module.
package main

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"weir.test/interop/internal/lines"
)

// A line holds at most a page of 32 MiB, in hex.
const maxLine = 65 << 20

func main() {
	page := flag.String("bench", "", "measure the parsers on this file, in the text format")
	rounds := flag.Int("rounds", 10, "how often each parser reads the page")
	flag.Parse()
	err := error(nil)
	if *page == "" {
		err = lines.Answer(os.Stdin, os.Stdout, maxLine, func(line string) any { return answer(line) })
	} else {
		err = bench(*page, *rounds, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "expocheck:", err)
		os.Exit(1)
	}
}

// verdict is what both parsers make of a page.
type verdict struct {
	Textparse view `json:"textparse"`
	Expfmt    view `json:"expfmt"`
}

// view is what one parser read of a page before it stopped.
type view struct {
	// Why it stopped; empty at the end of the page.
	Error    string   `json:"error"`
	Samples  []sample `json:"samples"`
	Families []family `json:"families"`
}

// sample is one value. Names and values of labels are in hex, since JSON has no
// invalid UTF-8.
type sample struct {
	Name        string        `json:"name"`
	Labels      [][2]string   `json:"labels"`
	Value       string        `json:"value"`
	TimestampMS *int64        `json:"timestamp_ms"`
	Exemplar    *exemplarView `json:"exemplar,omitempty"`
}

type exemplarView struct {
	Labels      [][2]string `json:"labels"`
	Value       string      `json:"value"`
	TimestampMS *int64      `json:"timestamp_ms"`
}

// family is what metadata says.
type family struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Help string `json:"help,omitempty"`
	Unit string `json:"unit,omitempty"`
}

func answer(line string) any {
	format, argument, _ := strings.Cut(line, " ")
	page, err := hex.DecodeString(argument)
	if err != nil {
		return map[string]string{"error": fmt.Sprintf("hex: %v", err)}
	}
	switch format {
	case "text", "openmetrics":
		return verdict{Textparse: readTextparse(page, format), Expfmt: readExpfmt(page, format)}
	default:
		return map[string]string{"error": fmt.Sprintf("unknown format %q", format)}
	}
}

// bench prints how long each parser takes for the page, the best of some rounds.
func bench(path string, rounds int, out io.Writer) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	result := struct {
		Samples   int     `json:"samples"`
		Textparse float64 `json:"textparse_seconds"`
		Expfmt    float64 `json:"expfmt_seconds"`
	}{}
	best := func(read func() (int, error)) (float64, error) {
		least := time.Duration(1<<63 - 1)
		for range rounds {
			began := time.Now()
			samples, err := read()
			if err != nil {
				return 0, err
			}
			least = min(least, time.Since(began))
			result.Samples = samples
		}
		return least.Seconds(), nil
	}
	if result.Textparse, err = best(func() (int, error) { return countTextparse(page) }); err != nil {
		return err
	}
	if result.Expfmt, err = best(func() (int, error) { return countExpfmt(page) }); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
