package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

// SwarmResult is how reports of many agents fared.
type SwarmResult struct {
	Agents  int `json:"agents"`
	Reports int `json:"reports"`
	// Milliseconds from a report to its answer.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// SwarmToken is the token of one agent of a swarm.
func SwarmToken(agent int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", agent) }

// Swarm connects agents with tokens of their own, calls ready, and has each report
// series every so often, spread over the interval, until the duration is over.
func Swarm(ctx context.Context, options peer.Options, agents, series int, every, duration time.Duration, ready func()) (SwarmResult, error) {
	clients, err := dialAll(ctx, agents, func(n int) peer.Options {
		options.Token = SwarmToken(n)
		return options
	})
	if err != nil {
		return SwarmResult{}, err
	}
	ready()
	var (
		mu    sync.Mutex
		delay []time.Duration
		errs  []error
		group sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(ctx, duration+every)
	defer cancel()
	end := time.Now().Add(duration)
	for n, client := range clients {
		group.Go(func() {
			defer client.Close()
			time.Sleep(every * time.Duration(n) / time.Duration(agents))
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			stats := swarmStats(series)
			var own []time.Duration
			var err error
			for value := 1; time.Now().Before(end) && err == nil; value++ {
				for _, metric := range stats.Metrics {
					metric.Value = float64(value)
				}
				began := time.Now()
				err = client.Invoke(ctx, "UpdateStats", &pb.UpdateStatsRequest{Stats: stats}, &pb.UpdateStatsResponse{})
				own = append(own, time.Since(began))
				<-ticker.C
			}
			mu.Lock()
			defer mu.Unlock()
			delay = append(delay, own...)
			errs = append(errs, err)
		})
	}
	group.Wait()
	slices.Sort(delay)
	at := func(share float64) float64 {
		return float64(delay[int(share*float64(len(delay)-1))].Microseconds()) / 1000
	}
	return SwarmResult{Agents: agents, Reports: len(delay), P50: at(0.5), P99: at(0.99)}, errors.Join(errs...)
}

// swarmStats is a report as a sidecar makes it: families with some reasons each.
func swarmStats(series int) *pb.Stats {
	stats := &pb.Stats{
		ConnectionsByProto: map[string]int64{"TCP": 1}, ConnectionCount: 1, ConnectionMedianLatencyMs: 1,
		RxBytes: 100, TxBytes: 100,
	}
	reasons := []string{"buffer_full", "forward_failed", "expired", "shutdown"}
	for n := range series {
		stats.Metrics = append(stats.Metrics, &pb.Stats_Metric{
			Name: fmt.Sprintf("swarm_family_%02d_events_total", n/len(reasons)), Type: pb.Stats_Metric_COUNTER,
			Labels: []*pb.Stats_Metric_Label{{Name: "reason", Value: reasons[n%len(reasons)]}},
		})
	}
	return stats
}
