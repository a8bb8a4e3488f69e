// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/peers"
)

// pooled counts the connections between the two sides of a pair that are open.
func pooled(i *peers.Instance) (int, error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	return established(string(table), i.Between), nil
}

// established counts the lines of /proc/net/tcp whose remote port is one of those and whose state is ESTABLISHED.
func established(table string, ports []int) int {
	const remote, state, isEstablished = 2, 3, "01"
	n := 0
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) <= state || fields[state] != isEstablished {
			continue
		}
		_, hex, ok := strings.Cut(fields[remote], ":")
		port, err := strconv.ParseInt(hex, 16, 32)
		if ok && err == nil && slices.Contains(ports, int(port)) {
			n++
		}
	}
	return n
}

// bytesText writes a size for people.
func bytesText(n float64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
}
