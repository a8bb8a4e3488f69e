// SPDX-License-Identifier: Apache-2.0

package evaluate

import "strings"

// NormalizePath returns the one spelling of a path that is matched and forwarded. ok is false for a path that must be
// answered 400, because servers disagree about what it means. The argument is a path alone: the query and what stands
// before the path of an absolute form are cut off by the caller, who also knows what to do with "*" (which is no path).
//
// Normalised (RFC 3986 6.2.2): escapes in upper case, escaped unreserved characters decoded, raw characters that a path
// cannot hold escaped, dot segments resolved and repeated slashes merged. Escapes of reserved characters (%2F, %3A) and
// parameters (;v=1) stay, since applications rely on them; Deny rules read through them (see Authorizer).
//
// Refused: what does not start with a slash, broken escapes, raw white space, control characters, backslash, "#" and
// "?", in any number of escapes around each other a control character or an overlong UTF-8 form, dot segments above
// the root, and what only some servers see: dot segments ("..;x", "..%2F", "%252e%252e", "..%5C") and slashes within
// parameters (";x%2Fy").
//
// It allocates only if the path is not normalised already.
func NormalizePath(path string) (normal string, ok bool) {
	if isNormal(path) {
		return path, true
	}
	if path == "" || path[0] != '/' {
		return "", false
	}
	escaped, ok := appendEscaped(make([]byte, 0, len(path)+16), path)
	if !ok {
		return "", false
	}
	resolved, ok := resolveSegments(string(escaped))
	if !ok || !soundToAll(resolved) {
		return "", false
	}
	return resolved, true
}

// What a byte of a path is.
const (
	classRefused byte = iota
	classPlain        // stays as it is
	classEscaped      // must be escaped
	classPercent
)

// classes of raw bytes. Plain is pchar of RFC 3986 and the slash.
var classes = func() (t [256]byte) {
	for c := range t {
		b := byte(c)
		switch {
		case b == '%':
			t[c] = classPercent
		case isUnreserved(b), strings.IndexByte("!$&'()*+,;=:@/", b) >= 0:
			t[c] = classPlain
		case b >= 0x80, strings.IndexByte("\"<>[]^`{|}", b) >= 0:
			t[c] = classEscaped
		}
	}
	return t
}()

func isUnreserved(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '.' || b == '_' || b == '~'
}

// isNormal is the fast path: it says yes to paths that are normalised, and no to some that are.
func isNormal(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	previous := byte(0)
	for i := 0; i < len(path); i++ {
		c := path[i]
		if classes[c] != classPlain || c == ';' || previous == '/' && (c == '/' || c == '.') {
			return false
		}
		previous = c
	}
	return true
}

// appendEscaped gives every character its one spelling.
func appendEscaped(dst []byte, path string) (_ []byte, ok bool) {
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch classes[c] {
		case classPlain:
			dst = append(dst, c)
		case classEscaped:
			dst = appendEscape(dst, c)
		case classPercent:
			decoded, valid := hexPair(path, i+1)
			if !valid {
				return nil, false
			}
			if isUnreserved(decoded) {
				dst = append(dst, decoded)
			} else {
				dst = appendEscape(dst, decoded)
			}
			i += 2
		default:
			return nil, false
		}
	}
	return dst, true
}

func appendEscape(dst []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', digits[c>>4], digits[c&15])
}

// hexPair reads two hexadecimal digits at path[i].
func hexPair(path string, i int) (c byte, ok bool) {
	if i+1 >= len(path) {
		return 0, false
	}
	high, okHigh := hexDigit(path[i])
	low, okLow := hexDigit(path[i+1])
	return high<<4 | low, okHigh && okLow
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// resolveSegments removes dot segments (RFC 3986 5.2.4) and empty ones; what would climb above the root is refused.
func resolveSegments(path string) (_ string, ok bool) {
	out := make([]byte, 0, len(path))
	rest, last := path[1:], false
	for !last {
		var segment string
		segment, rest, last = cutSegment(rest)
		switch segment {
		case "", ".":
			if last {
				out = append(out, '/')
			}
		case "..":
			at := lastSlash(out)
			if at < 0 {
				return "", false
			}
			out = out[:at]
			if last {
				out = append(out, '/')
			}
		default:
			out = append(append(out, '/'), segment...)
		}
	}
	return string(out), true
}

func cutSegment(path string) (segment, rest string, last bool) {
	segment, rest, found := strings.Cut(path, "/")
	return segment, rest, !found
}

func lastSlash(b []byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == '/' {
			return i
		}
	}
	return -1
}
