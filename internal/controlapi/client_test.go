// SPDX-License-Identifier: Apache-2.0

package controlapi

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

func TestPausesDoubleAndAreSpread(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for round := range 2 {
		full := b.Min
		for range 10 {
			if got := b.Next(); got < full/2 || got > full {
				t.Errorf("round %d: pause of %s: want half to all of %s", round, got, full)
			}
			full = min(2*full, b.Max)
		}
		b.Reset()
	}
	if got := (&Backoff{}).Next(); got != 0 {
		t.Errorf("the zero backoff pauses for %s", got)
	}
}

func TestAListIsSplitToFitRequests(t *testing.T) {
	var list []*Subscription
	for i := range 20_000 {
		list = append(list, &Subscription{Name: strings.Repeat("x", i%600), Held: []*Held{{Digest: make([]byte, 32)}}})
	}
	n := 0
	for _, part := range Chunks(list) {
		n += len(part)
		if size := proto.Size(&StreamRequest{Message: &StreamRequest_Subscribe{Subscribe: &Subscribe{Subscriptions: part}}}); size > MaxRequest {
			t.Errorf("a part of %d bytes", size)
		}
	}
	if n != len(list) {
		t.Errorf("%d items in all parts: want %d", n, len(list))
	}
	if parts := Chunks[*Subscription](nil); len(parts) != 0 {
		t.Errorf("nothing makes %d parts", len(parts))
	}
}
