// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Runtime is what a proxy holds of its machine: what grows if something leaks.
type Runtime struct {
	Goroutines int `json:"goroutines"`
	// Descriptors are the files and sockets that are open; -1 where that cannot be told.
	Descriptors int `json:"descriptors"`
	// HeapBytes are those of live objects: what a collection has left, that was made for this answer.
	HeapBytes uint64 `json:"heapBytes"`
	// StackBytes are those of goroutines' stacks.
	StackBytes uint64 `json:"stackBytes"`
}

// showRuntime collects garbage twice, since what the first finds in pools is free to the second, and answers with what is
// left. That takes some milliseconds of the processor, and only whoever can open the socket can ask for it.
func showRuntime(w http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	debug.FreeOSMemory() // collects again
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	writeJSON(w, Runtime{
		Goroutines: runtime.NumGoroutine(), Descriptors: descriptors(),
		HeapBytes: samples[0].Value.Uint64(), StackBytes: samples[1].Value.Uint64(),
	})
}

func descriptors() int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(files)
}

// Runtime asks the proxy what it holds of its machine.
func (c *Client) Runtime(ctx context.Context) (Runtime, error) {
	var r Runtime
	err := c.decode(ctx, http.MethodGet, "/runtime", &r)
	return r, err
}
