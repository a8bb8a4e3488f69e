// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// Stats is what `shop load` prints, a line of JSON each interval and one for the whole at the end.
type Stats struct {
	Total    bool           `json:"total,omitempty"` // of the whole run
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"` // no answer, or a status of 500 and above
	Versions map[string]int `json:"versions"`
	Statuses map[int]int    `json:"statuses"`
	Callers  []string       `json:"callers"` // whom the server saw
	P50      float64        `json:"p50"`     // milliseconds from when the request was due
	P99      float64        `json:"p99"`
	Max      float64        `json:"max"`
	Errors   []string       `json:"errors,omitempty"` // the first few
}

// collector adds up answers; the zero value is ready.
type collector struct {
	mu        sync.Mutex
	stats     Stats
	callers   map[string]bool
	latencies []float64
}

func (c *collector) add(took time.Duration, status int, p Purchase, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.stats
	if s.Versions == nil {
		s.Versions, s.Statuses, c.callers = map[string]int{}, map[int]int{}, map[string]bool{}
	}
	s.Requests++
	s.Statuses[status]++
	c.latencies = append(c.latencies, float64(took.Microseconds())/1000)
	if err != nil {
		s.Failed++
		if len(s.Errors) < 10 {
			s.Errors = append(s.Errors, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
		}
		return
	}
	if p.Version != "" {
		s.Versions[p.Version]++
	}
	if len(c.callers) < 10 {
		c.callers[p.Caller] = true
	}
}

// take returns what was added up and starts anew.
func (c *collector) take() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Callers = slices.Sorted(maps.Keys(c.callers))
	slices.Sort(c.latencies)
	if n := len(c.latencies); n > 0 {
		s.P50, s.P99, s.Max = c.latencies[n/2], c.latencies[n*99/100], c.latencies[n-1]
	}
	c.stats, c.latencies = Stats{}, nil
	return s
}

// runLoad sends requests at a fixed rate, whether or not earlier ones are answered (open loop), and prints Stats.
func runLoad(ctx context.Context, args []string) error {
	flags := newFlags("load")
	url := flags.String("url", "http://web/buy", "what to get")
	rate := flags.Int("rate", 100, "requests per second")
	duration := flags.Duration("duration", 0, "how long; 0: until told to stop")
	requests := flags.Int("requests", 0, "how many; 0: until the duration is over")
	interval := flags.Duration("interval", time.Second, "between lines; 0: only the last")
	conns := flags.Int("conns", 64, "idle connections kept")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	var whole, part collector
	client := httpClient(*conns)
	out := json.NewEncoder(os.Stdout)
	printing, stop := context.WithCancel(ctx)
	defer stop()
	var printer sync.WaitGroup
	if *interval > 0 {
		printer.Go(func() {
			for waitUntil(printing, time.Now().Add(*interval)) {
				_ = out.Encode(part.take()) // stdout is gone only when nobody listens
			}
		})
	}
	var running sync.WaitGroup
	start := time.Now()
	for i := 0; *requests == 0 || i < *requests; i++ {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(*rate))
		if !waitUntil(ctx, due) {
			break
		}
		running.Go(func() {
			status, p, err := buy(ctx, client, *url)
			took := time.Since(due)
			whole.add(took, status, p, err)
			part.add(took, status, p, err)
		})
	}
	running.Wait()
	stop()
	printer.Wait()
	total := whole.take()
	total.Total = true
	return out.Encode(total)
}

// waitUntil returns false if ctx ends first.
func waitUntil(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// buy makes one request, which ctx does not end: a run that is over lets its last requests finish.
func buy(ctx context.Context, client *http.Client, url string) (int, Purchase, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, nil)
	if err != nil {
		return 0, Purchase{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, Purchase{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, Purchase{}, err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return resp.StatusCode, Purchase{}, fmt.Errorf("%d: %s", resp.StatusCode, body)
	}
	p := Purchase{Version: resp.Header.Get("X-Version"), Caller: resp.Header.Get("X-Caller")}
	if resp.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(body, &p); err != nil {
			return resp.StatusCode, Purchase{}, err
		}
	}
	return resp.StatusCode, p, nil
}
