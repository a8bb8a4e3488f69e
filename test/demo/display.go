// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// display writes for a reader: bold titles on a terminal, plain lines elsewhere.
type display struct {
	out      io.Writer
	terminal bool
}

func newDisplay(out *os.File) *display {
	info, err := out.Stat()
	return &display{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (d *display) bold(s string) string {
	if d.terminal {
		return "\x1b[1m" + s + "\x1b[0m"
	}
	return s
}

func (d *display) section(title, detail string) {
	fmt.Fprintf(d.out, "\n%s  %s\n", d.bold("== "+title), detail)
}

func (d *display) line(s string) { fmt.Fprintln(d.out, s) }

// stage says what begins and how long it took.
func (d *display) stage(title string, do func() error) error {
	d.section(title, "...")
	start := time.Now()
	if err := do(); err != nil {
		return err
	}
	d.line(fmt.Sprintf("   %s: ready in %s", title, time.Since(start).Round(100*time.Millisecond)))
	return nil
}

func (d *display) header() {
	d.line(d.bold("weights      v1    v2  share of v2          success     p50      p99   caller that checkout saw"))
}

func (d *display) stats(s step, st stats) {
	if st.Requests == 0 {
		return
	}
	v1, v2 := st.Versions["v1"], st.Versions["v2"]
	share := 0
	if v1+v2 > 0 {
		share = 10 * v2 / (v1 + v2)
	}
	bar := strings.Repeat("#", share) + strings.Repeat(".", 10-share)
	fmt.Fprintf(d.out, "%3d/%-3d   %5d %5d  [%s]  %8.2f %%  %5.1f ms %5.1f ms  %s\n", s.v1, s.v2, v1, v2, bar,
		100*float64(st.Requests-st.Failed)/float64(st.Requests), st.P50, st.P99, strings.Join(st.Callers, " "))
}
