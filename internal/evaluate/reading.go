// SPDX-License-Identifier: Apache-2.0

package evaluate

// Servers read a path in different ways: some decode escapes twice, take a backslash or an escaped slash for a slash,
// cut parameters (";x") off a segment, or trim white space and dots at its ends. The reading of this file does all of
// that at once. Nothing is forwarded like that: it is what a Deny rule compares too, so that no spelling gets past it.

// readByte decodes the character at path[i], through any number of escapes around each other ("%252F"), and returns
// where the next one starts. Broken escapes are read as they stand.
func readByte(path string, i int) (c byte, next int) {
	if path[i] != '%' {
		return path[i], i + 1
	}
	at := i + 1
	for {
		decoded, ok := hexPair(path, at)
		if !ok {
			return '%', at
		}
		at += 2
		if decoded != '%' {
			return decoded, at
		}
	}
}

// soundToAll says whether no server finds a dot segment, a control character or an overlong form of ASCII in the path,
// and all agree where the parameters of a segment end (";x%2Fy" ends at the slash for some, behind the y for others).
func soundToAll(path string) bool {
	var previous byte
	dots, other, params := 0, false, false
	isDots := func() bool { return (dots == 1 || dots == 2) && !other }
	for i := 0; i < len(path); {
		c, next := readByte(path, i)
		if c < ' ' || c == 0x7f || isOverlong(previous, c) {
			return false
		}
		isRawSlash := c == '/' && next == i+1
		previous, i = c, next
		switch {
		case c == '/' || c == '\\':
			if isDots() || params && !isRawSlash {
				return false
			}
			dots, other, params = 0, false, false
		case params:
		case c == ';':
			params = true
		case c == '.':
			dots++
		default:
			other = true
		}
	}
	return !isDots()
}

// isOverlong recognises the start of a UTF-8 sequence that spells a character with more bytes than it needs
// (RFC 3629 3): some decoders take C0 AF for a slash.
func isOverlong(first, second byte) bool {
	return second == 0xC0 || second == 0xC1 ||
		second >= 0x80 && (first == 0xE0 && second < 0xA0 || first == 0xF0 && second < 0x90)
}

// maxReading is how much of a reading is looked at: more than any path of a rule.
const maxReading = 1024 + 64

// reading is a path as the most lenient of servers would see it: "/segment/segment" without a slash at its end.
type reading struct {
	buf [maxReading]byte
	n   int
	cut bool // what follows did not fit
}

func (r *reading) bytes() []byte { return r.buf[:r.n] }

// read fills r with the reading of a normalised path.
func (r *reading) read(path string) {
	r.n, r.cut = 0, false
	start, params := 0, false // of the segment, in buf
	for i := 0; i < len(path); {
		var c byte
		c, i = readByte(path, i)
		if c == '/' || c == '\\' {
			r.endSegment(start)
			start, params = r.n, false
			c = '/'
		}
		if params || c == ';' {
			params = true
			continue
		}
		if c == ' ' && r.n == start+1 { // white space at the start of a segment
			continue
		}
		if r.cut = r.n == len(r.buf); r.cut {
			break
		}
		r.buf[r.n] = c
		r.n++
	}
	r.endSegment(start)
}

// endSegment trims the segment that starts at the slash buf[start], and drops it when nothing is left.
func (r *reading) endSegment(start int) {
	for r.n > start+1 && (r.buf[r.n-1] == ' ' || r.buf[r.n-1] == '.') {
		r.n--
	}
	if r.n == start+1 {
		r.n = start
	}
}
