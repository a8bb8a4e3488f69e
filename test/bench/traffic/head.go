// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bytes"
	"strconv"
)

// sizeOf finds the last segment of the path in a request line, or in a path alone.
func sizeOf(line []byte) string {
	if i := bytes.LastIndexByte(line, ' '); i > 0 {
		line = line[:i]
	}
	switch {
	case bytes.HasSuffix(line, []byte("/16k")):
		return "16k"
	case bytes.HasSuffix(line, []byte("/1m")):
		return "1m"
	default:
		return "1k"
	}
}

var lengthField = []byte("\r\ncontent-length:")

// contentLength returns the length that a head declares, 0 if none, -1 if it is no number.
func contentLength(head []byte) int {
	for i := 0; ; {
		j := bytes.IndexByte(head[i:], '\r')
		if j < 0 || i+j+len(lengthField) > len(head) {
			return 0
		}
		i += j
		if field := head[i : i+len(lengthField)]; bytes.EqualFold(field, lengthField) {
			value := head[i+len(lengthField):]
			if k := bytes.IndexByte(value, '\r'); k >= 0 {
				value = value[:k]
			}
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return -1
			}
			return n
		}
		i++
	}
}
