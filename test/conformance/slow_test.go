// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What slowhttptest does: so many connections, at a rate, for so long.
const (
	slowConnections = 500
	slowRate        = "200"
	slowSeconds     = 30
	// slowInterval is between the bytes of an attacker: below every limit of a pause, so that only one of the whole helps.
	slowInterval = "5"
)

// Other callers are served all through each of slowhttptest's attacks, by slowhttptest's own probes and by ours, and those
// that never finish the head of a request are closed in time.
func TestSlowHTTPTest(t *testing.T) {
	if _, err := exec.LookPath("slowhttptest"); err != nil {
		unmeasured(t, "slowhttptest", "there is no slowhttptest here (a Debian package)")
	}
	app := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/probe" {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	secure, open := behind(t, app, service{protocol: "http1"}), behind(t, app, service{protocol: "http1", plaintext: true})
	t.Run("attacks", func(t *testing.T) {
		for flag, name := range map[string]string{"-H": "slow headers", "-B": "slow body", "-X": "slow read"} {
			for face, address := range map[string]netip.AddrPort{"client face": secure.client, "server face": open.server} {
				t.Run(name+", "+face, func(t *testing.T) {
					t.Parallel()
					attack(t, "slowhttptest "+flag+", "+name+", "+face, flag, address)
				})
			}
		}
	})
}

// attack runs one attack. What is counted is the seconds in which slowhttptest found the service available.
func attack(t *testing.T, suite, flag string, to netip.AddrPort) {
	t.Helper()
	begun := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	probes := make(chan string, 1)
	go func() { probes <- probe(ctx, to) }()
	prefix := filepath.Join(t.TempDir(), "out")
	out, err := run(t, slowSeconds*time.Second+30*time.Second, "slowhttptest", flag, "-c", strconv.Itoa(slowConnections),
		"-r", slowRate, "-i", slowInterval, "-l", strconv.Itoa(slowSeconds), "-p", "3", "-g", "-o", prefix, "-u", "http://"+to.String()+"/")
	cancel()
	told := <-probes
	if strings.HasPrefix(told, "FAIL") {
		t.Error(told)
	}
	t.Log(told)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out, 40))
	}
	file, err := os.Open(prefix + ".csv")
	check(t, err)
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	check(t, err)
	if len(rows) < 6 {
		t.Fatalf("%d rows:\n%s", len(rows), tail(out, 40))
	}
	rows = rows[1:] // seconds, closed, pending, connected, service available
	available := 0
	for _, row := range rows {
		if row[4] != "0" {
			available++
		}
	}
	score(t, suite, begun, available, len(rows), fmt.Sprint(rows))
	last := rows[len(rows)-1]
	if flag == "-H" && !strings.Contains(out, "No open connections left") {
		t.Errorf("%s of %d slow callers are connected still after %s s", last[3], slowConnections, last[0])
	}
}

// probe asks ten times a second, on connections of its own, and says how that went.
func probe(ctx context.Context, to netip.AddrPort) string {
	client := http.Client{
		Timeout: 3 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to.String())
		}},
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var took []time.Duration
	for {
		select {
		case <-ctx.Done():
			if len(took) == 0 {
				return "FAIL: nothing was probed"
			}
			slices.Sort(took)
			return fmt.Sprintf("%d probes, p50 %v, longest %v", len(took), took[len(took)/2], took[len(took)-1])
		case <-tick.C:
		}
		begun := time.Now()
		answer, err := client.Get("http://a/probe")
		if err != nil {
			return fmt.Sprintf("FAIL: probe %d: %v", len(took), err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Sprintf("FAIL: probe %d: status %d", len(took), answer.StatusCode)
		}
		took = append(took, time.Since(begun))
	}
}
