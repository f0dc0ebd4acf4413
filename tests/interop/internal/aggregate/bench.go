package aggregate

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Reports that are on their way at a time while throughput is measured.
const inFlight = 256

// Load is what a bench asks for.
type Load struct {
	// Each is measured for about so long.
	For time.Duration
	// Reports a second while a scrape is under way.
	Rate int
}

// Measured is what it gets.
type Measured struct {
	Series           int     `json:"series"`
	DecodesPerSecond float64 `json:"decodes_per_second"`
	UpdatesPerSecond float64 `json:"updates_per_second"`
	BytesPerSeries   float64 `json:"bytes_per_series"`
	// Of a scrape on its own.
	ScrapeSeconds float64 `json:"scrape_seconds"`
	PageBytes     int     `json:"page_bytes"`
	// Of reports that came at the rate while another scrape was under way.
	LoadedScrapeSeconds float64 `json:"loaded_scrape_seconds"`
	P99WaitSeconds      float64 `json:"p99_wait_seconds"`
	MaxWaitSeconds      float64 `json:"max_wait_seconds"`
	Offered             int     `json:"offered"`
	Dropped             int     `json:"dropped"`
}

// Bench measures an aggregator with the reports of a file.
func Bench(aggregator Aggregator, path string, load Load) (*Measured, error) {
	var stored atomic.Int64
	aggregator.OnDone(func(time.Duration) { stored.Add(1) })
	stop := aggregator.Run()
	defer stop()

	// Memory first: what was decoded stays only as far as the aggregator keeps it.
	before := resident()
	var m Measured
	sent := int64(0)
	err := EachReport(path, func(report Report) error {
		m.Series += len(report.Metrics)
		sent++
		return offer(aggregator, report, sent, &stored)
	})
	if err != nil {
		return nil, err
	}
	await(&stored, sent)
	m.BytesPerSeries = float64(resident()-before) / float64(m.Series)

	var payloads []Payload
	err = EachPayload(path, func(payload Payload) error {
		payloads = append(payloads, payload)
		return nil
	})
	if err != nil {
		return nil, err
	}
	reports := make([]Report, len(payloads))
	began := time.Now()
	for i, payload := range payloads {
		if reports[i], err = payload.Decode(); err != nil {
			return nil, err
		}
	}
	m.DecodesPerSecond = float64(m.Series) / time.Since(began).Seconds()
	samples := 0
	began = time.Now()
	for time.Since(began) < load.For {
		for _, report := range reports {
			sent++
			samples += len(report.Metrics)
			if err := offer(aggregator, report, sent, &stored); err != nil {
				return nil, err
			}
		}
	}
	await(&stored, sent)
	m.UpdatesPerSecond = float64(samples) / time.Since(began).Seconds()
	if load.Rate == 0 {
		return &m, nil
	}
	if m.ScrapeSeconds, m.PageBytes, err = scrape(aggregator); err != nil {
		return nil, err
	}
	return &m, underLoad(&m, aggregator, reports, load.Rate)
}

// offer hands a report over as soon as not too many are on their way.
func offer(aggregator Aggregator, report Report, number int64, stored *atomic.Int64) error {
	await(stored, number-inFlight)
	if !aggregator.Update(report) {
		return fmt.Errorf("report %d was dropped", number)
	}
	return nil
}

func await(stored *atomic.Int64, number int64) {
	for stored.Load() < number {
		runtime.Gosched()
	}
}

// scrape asks for the page as a scraper does, without compression.
func scrape(collector prometheus.Collector) (seconds float64, size int, err error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return 0, 0, err
	}
	defer registry.Unregister(collector)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	page := &counted{header: http.Header{}}
	began := time.Now()
	handler.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if page.status != 0 && page.status != http.StatusOK {
		return 0, 0, fmt.Errorf("scrape: status %d", page.status)
	}
	return time.Since(began).Seconds(), page.size, nil
}

// counted is a page of which only the size is kept.
type counted struct {
	header http.Header
	status int
	size   int
}

func (c *counted) Header() http.Header    { return c.header }
func (c *counted) WriteHeader(status int) { c.status = status }
func (c *counted) Write(data []byte) (int, error) {
	c.size += len(data)
	return len(data), nil
}

// underLoad scrapes, again and again for a second at least, while reports come at a steady
// rate.
func underLoad(m *Measured, aggregator Aggregator, reports []Report, rate int) error {
	var lock sync.Mutex
	var waits []time.Duration
	var done atomic.Int64
	aggregator.OnDone(func(waited time.Duration) {
		lock.Lock()
		waits = append(waits, waited)
		lock.Unlock()
		done.Add(1)
	})
	scraped := make(chan error, 1)
	began := time.Now()
	go func() {
		var err error
		scrapes := 0
		for ; err == nil && time.Since(began) < time.Second; scrapes++ {
			_, _, err = scrape(aggregator)
		}
		m.LoadedScrapeSeconds = time.Since(began).Seconds() / float64(scrapes)
		scraped <- err
	}()
	var failed error
	for running := true; running; m.Offered++ {
		select {
		case failed = <-scraped:
			running = false
		case <-time.After(time.Until(began.Add(time.Duration(m.Offered) * time.Second / time.Duration(rate)))):
		}
		if !aggregator.Update(reports[m.Offered%len(reports)]) {
			m.Dropped++
		}
	}
	await(&done, int64(m.Offered-m.Dropped))
	lock.Lock()
	defer lock.Unlock()
	slices.Sort(waits)
	if len(waits) > 0 {
		m.P99WaitSeconds = waits[len(waits)*99/100].Seconds()
		m.MaxWaitSeconds = waits[len(waits)-1].Seconds()
	}
	return failed
}

// resident is the memory of the process, without what is garbage.
func resident() int {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	var kib int
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		panic(err)
	}
	return kib << 10
}
