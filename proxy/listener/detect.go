// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"

	"github.com/heddle-mesh/heddle/proxy/forward"
)

// Bounds of what is looked at.
const (
	// maxPeek holds the largest ClientHello that is read; browsers' and post-quantum ones are about 2 KiB.
	maxPeek = 16 << 10
	// maxMethod is the longest method, and maxBlank the most empty lines or spaces, before something is no HTTP.
	maxMethod = 64
	maxBlank  = 16
)

// preface is the part of the connection preface that tells HTTP/2 from a request (RFC 9113, 3.4).
const preface = "PRI * HTTP/2.0"

// methods are those of RFC 9110, 9.3 and RFC 5789, which may have another target than a path. The rest of IANA's
// registry comes with a path, like any other token.
var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// Classify says what protocol the first bytes of a connection are, and while it returns Unknown, how many bytes there
// have to be before it is worth asking again.
//
// It is as generous as a lenient server is (RFC 9112, 2.2 and 3): empty lines before the request, several spaces or
// tabs. Otherwise a caller could have a request taken for bytes that no rule about requests applies to.
func Classify(b []byte) (p forward.Protocol, need int) {
	if len(b) == 0 {
		return forward.Unknown, 1
	}
	if b[0] == recordHandshake {
		return classifyTLS(b[:min(len(b), maxPeek)])
	}
	if short := min(len(b), len(preface)); string(b[:short]) == preface[:short] {
		if short == len(preface) {
			return forward.HTTP2, 0
		}
		return forward.Unknown, len(b) + 1
	}
	return classifyHTTP1(b)
}

func classifyHTTP1(b []byte) (forward.Protocol, int) {
	more := len(b) + 1
	line := bytes.TrimLeft(b, "\r\n")
	switch blank := len(b) - len(line); {
	case blank > maxBlank:
		return forward.Opaque, 0
	case len(line) == 0:
		return forward.Unknown, more
	}
	end := bytes.IndexFunc(line, func(r rune) bool { return !isTokenChar(r) })
	switch {
	case end == 0 || end > maxMethod || (end < 0 && len(line) > maxMethod):
		return forward.Opaque, 0
	case end < 0:
		return forward.Unknown, more
	}
	method := string(line[:end])
	target := bytes.TrimLeft(line[end:], " \t\v\f")
	switch blank := len(line) - end - len(target); {
	case blank == 0 || blank > maxBlank:
		return forward.Opaque, 0
	case len(target) == 0:
		return forward.Unknown, more
	}
	return classifyTarget(method, target, more)
}

// classifyTarget tells a request's target (RFC 9112, 3.2) from the second word of another protocol's command, such as
// "GET key" of Redis or "CONNECT {}" of NATS.
func classifyTarget(method string, target []byte, more int) (forward.Protocol, int) {
	if target[0] == '/' {
		return forward.HTTP1, 0
	}
	known := false
	for _, m := range methods {
		known = known || m == method
	}
	if known && (target[0] == '*' || (method == "CONNECT" && isAuthorityChar(target[0]))) {
		return forward.HTTP1, 0
	}
	for _, scheme := range []string{"http://", "https://"} {
		short := min(len(target), len(scheme))
		if bytes.EqualFold(target[:short], []byte(scheme[:short])) {
			if short == len(scheme) {
				return forward.HTTP1, 0
			}
			return forward.Unknown, more
		}
	}
	return forward.Opaque, 0
}

func isAuthorityChar(c byte) bool {
	return c == '[' || (c >= '0' && c <= '9') || (c|0x20 >= 'a' && c|0x20 <= 'z')
}

// isTokenChar is tchar of RFC 9110, 5.6.2.
func isTokenChar(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return true
	default:
		return r < 0x80 && r > ' ' && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(r)) >= 0
	}
}
