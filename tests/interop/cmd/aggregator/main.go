// Command aggregator keeps the metrics of agents on prometheus/client_golang: for
// benches as coderd does, for tests by the rules of Weir's control plane. See the
// README of this module.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"weir.test/interop/internal/aggregate"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "aggregator:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		mode    = flag.String("mode", "model", "model, keyed or scanned")
		reports = flag.String("reports", "", "keyed, scanned: file of reports")
		seconds = flag.Float64("seconds", 1, "keyed, scanned: how long updates are measured")
		rate    = flag.Int("rate", 0, "keyed, scanned: reports a second while scraping; 0 scrapes nothing")
	)
	flag.Parse()
	load := aggregate.Load{For: time.Duration(*seconds * float64(time.Second)), Rate: *rate}
	var aggregator aggregate.Aggregator
	switch *mode {
	case "model":
		return aggregate.Serve(os.Stdin, os.Stdout)
	case "keyed":
		aggregator = aggregate.NewKeyed()
	case "scanned":
		aggregator = aggregate.NewScanned()
	default:
		return fmt.Errorf("unknown mode %q", *mode)
	}
	measured, err := aggregate.Bench(aggregator, *reports, load)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(measured)
}
