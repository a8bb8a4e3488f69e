// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/heddle-mesh/heddle/internal/probe"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// Bounds of a scrape of the application.
const (
	maxScrape     = 10 << 20
	scrapeTimeout = 5 * time.Second
	maxScraping   = 4 // at a time; more wait
)

// scraper reads the application's metrics.
type scraper struct {
	url    string
	client *http.Client
	busy   chan struct{}
}

func newScraper(ip netip.Addr, s probe.Scrape) *scraper {
	target, err := url.Parse(s.Path)
	if err != nil {
		target = &url.URL{Path: s.Path}
	}
	target.Scheme, target.Host = "http", netip.AddrPortFrom(ip, s.Port).String()
	return &scraper{
		url: target.String(),
		client: &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		busy: make(chan struct{}, maxScraping),
	}
}

// errTooLarge says that an application has more metrics than are merged.
var errTooLarge = fmt.Errorf("more than %d MiB", maxScrape>>20)

// merge writes the application's metrics to w and returns what to count. Whatever is wrong with them, what was written
// is whole lines of the format.
func (s *scraper) merge(ctx context.Context, w io.Writer) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return "unreachable", ctx.Err()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return "unreachable", err
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	request.Header.Set("User-Agent", "heddle-proxy")
	response, err := s.client.Do(request)
	if err != nil {
		return "unreachable", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "unreachable", fmt.Errorf("GET %s: status %d", s.url, response.StatusCode)
	}
	switch err := telemetry.Merge(w, &bounded{response.Body, maxScrape}); {
	case err == nil:
		return "ok", nil
	case errors.Is(err, telemetry.ErrMalformed):
		return "malformed", err
	case errors.Is(err, errTooLarge):
		return "too_large", err
	default:
		return "unreachable", err
	}
}

// bounded fails after so many bytes.
type bounded struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
