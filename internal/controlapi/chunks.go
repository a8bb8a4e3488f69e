// SPDX-License-Identifier: Apache-2.0

package controlapi

import "google.golang.org/protobuf/proto"

// maxChunk leaves room for a last item and for the wrapping.
const maxChunk = MaxRequest / 2

// Chunks splits a list, of subscriptions or of reports, so that each part fits a request. No item is near the bound.
func Chunks[M proto.Message](items []M) [][]M {
	var out [][]M
	start, size := 0, 0
	for i, item := range items {
		n := proto.Size(item) + 8 // tag and length
		if size > 0 && size+n > maxChunk {
			out = append(out, items[start:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(items) {
		out = append(out, items[start:])
	}
	return out
}
