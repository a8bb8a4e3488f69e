// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// The head may fill one buffer, the trailer another, and the next request go on in a third.
func TestAllBuffersOfARequestAreGivenBack(t *testing.T) {
	for filler := range 200 {
		budget := limits.NewBudget(1 << 20)
		in := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("x", 7<<10) + "\r\n\r\n" +
			strings.Repeat("400\r\n"+strings.Repeat("c", 1<<10)+"\r\n", 18) +
			fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Last: trailer\r\n\r\n", 20*(filler+1), strings.Repeat("c", 20*(filler+1)))
		m := &memory{in: []byte(in)}
		c := New(m, &defaults, nil)
		c.SetBudget(budget)
		var h message.Head
		if err := c.ReadRequest(&h); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); n != int64(18<<10+20*(filler+1)) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		m.in = []byte("GET / HTTP/1.1\r\n")
		if err := c.Watch(); err != nil {
			t.Fatal(err)
		}
		if f := c.Trailer(); len(f) != 1 || f[0] != (message.Field{Name: "X-Last", Value: "trailer"}) || len(h.Fields[1].Value) != 7<<10 {
			t.Fatalf("trailer %q", f)
		}
		c.Free()
		if n := budget.Held(); n != 0 {
			t.Errorf("filler %d: %d bytes are still held", filler, n)
		}
	}
}
