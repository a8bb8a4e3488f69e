// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
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
	Pods     map[string]int `json:"pods,omitempty"`
	Moves    map[string]int `json:"moves,omitempty"` // of a user from one version to another, "v1>v2"
	Users    map[string]int `json:"users,omitempty"` // of the whole run alone: by the version that they had last
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

// add takes an answer; move says how the user's version changed with it, or is empty.
func (c *collector) add(took time.Duration, status int, p Purchase, move string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.stats
	if s.Versions == nil {
		s.Versions, s.Pods, s.Moves, s.Statuses, c.callers = map[string]int{}, map[string]int{}, map[string]int{}, map[int]int{}, map[string]bool{}
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
	if p.Pod != "" {
		s.Pods[p.Pod]++
	}
	if move != "" {
		s.Moves[move]++
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

// user is one of those who buy. With a jar it keeps its cookies and makes one request at a time, as a person does.
type user struct {
	client *http.Client

	mu      sync.Mutex // with a jar, held during a request
	version string     // of the last answer
}

// loader makes requests and counts what comes of them.
type loader struct {
	method, url string
	users       []*user
	whole, part collector
}

// newLoader makes one for so many users with jars; 0: one without, who makes requests at any time.
func newLoader(method, url string, users, conns int) (*loader, error) {
	l := &loader{method: method, url: url}
	client := httpClient(conns)
	for range users {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return nil, err
		}
		own := *client
		own.Jar = jar
		l.users = append(l.users, &user{client: &own})
	}
	if users == 0 {
		l.users = []*user{{client: client}}
	}
	return l, nil
}

// buy makes the request that was due then, with the user whose turn it is.
func (l *loader) buy(ctx context.Context, turn int, due time.Time) {
	u, move := l.users[turn%len(l.users)], ""
	if u.client.Jar != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
	}
	status, p, err := buy(ctx, u.client, l.method, l.url)
	if u.client.Jar != nil && err == nil {
		if u.version != "" && u.version != p.Version {
			move = u.version + ">" + p.Version
		}
		u.version = p.Version
	}
	took := time.Since(due)
	l.whole.add(took, status, p, move, err)
	l.part.add(took, status, p, move, err)
}

// total is that of the whole run, which is over.
func (l *loader) total() Stats {
	total := l.whole.take()
	total.Total, total.Users = true, map[string]int{}
	for _, u := range l.users {
		if u.version != "" {
			total.Users[u.version]++
		}
	}
	return total
}

// runLoad sends requests at a fixed rate, whether or not earlier ones are answered (open loop), and prints Stats.
func runLoad(ctx context.Context, args []string) error {
	flags := newFlags("load")
	url := flags.String("url", "http://web/buy", "what to ask for")
	method := flags.String("method", http.MethodGet, "how")
	rate := flags.Int("rate", 100, "requests per second")
	duration := flags.Duration("duration", 0, "how long; 0: until told to stop")
	requests := flags.Int("requests", 0, "how many; 0: until the duration is over")
	interval := flags.Duration("interval", time.Second, "between lines; 0: only the last")
	conns := flags.Int("conns", 64, "idle connections kept")
	users := flags.Int("users", 0, "users with cookies of their own, who take turns; 0: nobody keeps cookies")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	load, err := newLoader(*method, *url, *users, *conns)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	printing, stop := context.WithCancel(ctx)
	defer stop()
	var printer sync.WaitGroup
	if *interval > 0 {
		printer.Go(func() {
			for waitUntil(printing, time.Now().Add(*interval)) {
				_ = out.Encode(load.part.take()) // stdout is gone only when nobody listens
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
		running.Go(func() { load.buy(ctx, i, due) })
	}
	running.Wait()
	stop()
	printer.Wait()
	return out.Encode(load.total())
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
func buy(ctx context.Context, client *http.Client, method, url string) (int, Purchase, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, url, nil)
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
