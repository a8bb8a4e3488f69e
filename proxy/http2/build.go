// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"math"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// What a message may have of pseudo-fields, as bits of kinds (RFC 9113, section 8.3).
const (
	requestPseudos = 1<<kindMethod | 1<<kindScheme | 1<<kindAuthority | 1<<kindPath | 1<<kindProtocol
	answerPseudos  = 1 << kindStatus
)

// build moves what was decoded to a head and checks it. It returns what is wrong, if anything.
type build struct {
	head    *message.Head
	allowed uint32 // pseudo-fields
	answer  bool
	seen    uint32 // kinds
	host    string
	status  string
}

func (b *build) fields(fields []decoded) (wrong string) {
	b.head.Reset()
	b.head.Length = message.Unknown
	plain := false
	for i := range fields {
		f := &fields[i]
		switch {
		case f.bad:
			return "the value of a field has a control character, or white space around it"
		case !f.kind.pseudo():
			plain = true
			if f.kind == kindPlain {
				b.head.Fields = append(b.head.Fields, message.Field{Name: f.name, Value: f.value, NeverIndexed: f.never})
			} else if wrong = b.special(f); wrong != "" {
				return wrong
			}
			continue
		case plain:
			return "a pseudo-field after a field"
		case b.allowed&(1<<f.kind) == 0:
			return "a pseudo-field that has no place here"
		case b.seen&(1<<f.kind) != 0:
			return "a pseudo-field twice"
		}
		b.seen |= 1 << f.kind
		b.pseudo(f)
	}
	return ""
}

func (b *build) has(k kind) bool { return b.seen&(1<<k) != 0 }

func (b *build) pseudo(f *decoded) {
	switch f.kind {
	case kindMethod:
		b.head.Method = f.value
	case kindScheme:
		b.head.Scheme = f.value
	case kindAuthority:
		b.head.Authority = f.value
	case kindPath:
		b.head.Path = f.value
	case kindProtocol:
		b.head.Protocol = f.value
	default:
		b.status = f.value
	}
}

// special takes a field that means something to the engine.
func (b *build) special(f *decoded) (wrong string) {
	switch f.kind {
	default:
	case kindInvalid:
		return "the name of a field is not a token in lower case"
	case kindForbidden:
		return "a field of one connection: " + f.name
	case kindTE:
		if f.value != "trailers" || b.answer {
			return "a field of one connection: te"
		}
	case kindHost:
		if b.has(kindHost) {
			return "host twice"
		}
		b.host = f.value
		b.seen |= 1 << kindHost
		if !b.answer {
			return ""
		}
	case kindLength:
		length, ok := parseLength(f.value)
		if !ok || b.has(kindLength) {
			return "content-length that is not one number"
		}
		b.head.Length = length
		b.seen |= 1 << kindLength
	case kindExpect:
		b.head.Expect = !b.answer && message.EqualFold(f.value, "100-continue")
	}
	b.head.Fields = append(b.head.Fields, message.Field{Name: f.name, Value: f.value, NeverIndexed: f.never})
	return ""
}

// parseLength reads a content-length.
func parseLength(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		digit := int64(s[i]) - '0'
		if digit < 0 || digit > 9 || n > (math.MaxInt64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

// request makes the head of a request (RFC 9113, section 8.3.1). It returns what is wrong, if anything.
func (d *decoder) request(h *message.Head, extended, end bool) (wrong string) {
	b := build{head: h, allowed: requestPseudos}
	if wrong = b.fields(d.fields); wrong != "" {
		return wrong
	}
	if wrong = b.target(extended); wrong != "" {
		return wrong
	}
	switch {
	case b.has(kindHost) && !b.has(kindAuthority):
		h.Authority = b.host
	case b.has(kindHost) && !message.EqualFold(h.Authority, b.host):
		return "host is not :authority"
	}
	switch {
	case !message.ValidAuthority(h.Authority):
		return "no valid :authority or host"
	case end && h.Length > 0:
		return "no content, but a content-length"
	case end:
		h.Length = 0
	}
	return ""
}

// target checks the pseudo-fields of a request.
func (b *build) target(extended bool) (wrong string) {
	h := b.head
	connect := h.Method == connectMethod
	switch {
	case !message.ValidToken(h.Method):
		return "no valid :method"
	case b.has(kindProtocol) && (!extended || !connect || !message.ValidToken(h.Protocol)):
		return ":protocol that has no place here"
	case connect && !b.has(kindProtocol):
		if b.has(kindScheme) || b.has(kindPath) || !b.has(kindAuthority) {
			return "CONNECT has :authority alone"
		}
		return ""
	case h.Scheme != "http" && h.Scheme != "https":
		return ":scheme that is neither http nor https"
	case !message.ValidTarget(h.Path) && (h.Path != "*" || h.Method != optionsMethod):
		return "no valid :path"
	}
	return ""
}

// answer makes the head of an answer to s (RFC 9113, section 8.3.2). It returns what is wrong, if anything.
func (d *decoder) answer(h *message.Head, s *Stream, end bool) (wrong string) {
	b := build{head: h, allowed: answerPseudos, answer: true}
	if wrong = b.fields(d.fields); wrong != "" {
		return wrong
	}
	if len(b.status) != 3 || b.status[0] < '1' || b.status[0] > '9' || !digit(b.status[1]) || !digit(b.status[2]) {
		return "no valid :status"
	}
	h.Status = int(b.status[0]-'0')*100 + int(b.status[1]-'0')*10 + int(b.status[2]-'0')
	switch {
	case h.Status == 101:
		return "101, which HTTP/2 does not have"
	case h.Status < 200:
		h.Length = 0
		if end {
			return "an interim answer that ends the stream"
		}
		return ""
	case s.connect && h.Status < 300:
		h.Length = message.Unknown
		h.Del("content-length")
	case h.Status == 204 || h.Status == 304 || s.noContent:
		if h.Status == 204 && h.Length > 0 {
			return "204 with a content-length"
		}
		s.noContent = true
		h.Length = 0
	case end && h.Length > 0:
		return "no content, but a content-length"
	}
	if end {
		h.Length = 0
	}
	return ""
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// trailer makes trailer fields. It returns what is wrong, if anything.
func (d *decoder) trailer(h *message.Head) (wrong string) {
	b := build{head: h, answer: true}
	if wrong = b.fields(d.fields); wrong != "" {
		return wrong
	}
	for i := range h.Fields {
		if message.ForbiddenTrailer(h.Fields[i].Name) {
			return "a trailer field that would change the message: " + h.Fields[i].Name
		}
	}
	return ""
}
