// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"strings"
	"unsafe"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

const (
	maxConnection = 1 << 10 // bytes of Connection fields: each of their names is compared with each field
	fieldOverhead = 32      // what a field counts beside its name and value (RFC 9113, section 6.5.2)
)

// view returns a string of bytes that are not written to as long as it is valid.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// section parses field lines.
type section struct {
	set   *limits.Set
	size  int // as limits.HeaderBytes counts
	over  limits.Name
	first bool // no line has come yet
}

// parse parses field lines from b[i:] up to the empty line, appends them to fields and returns the index behind that line.
// It returns errShort where b ends before it.
func (s *section) parse(b []byte, i int, fields []message.Field) (int, []message.Field, error) {
	for {
		if i >= len(b) {
			return i, fields, errShort
		}
		n := message.TokenEnd(b[i:])
		if i+n == len(b) {
			return i, fields, s.short(len(b) - i)
		}
		if n == 0 {
			end, err := s.lineStart(b[i:])
			return i + end, fields, err
		}
		if b[i+n] != ':' {
			return i, fields, badName(b[i+n])
		}
		name, v := b[i:i+n], i+n+1
		for v < len(b) && (b[v] == ' ' || b[v] == '\t') {
			v++
		}
		end := v + message.ControlIn(b[v:])
		if end+1 >= len(b) {
			if end < len(b) && b[end] != '\r' {
				return i, fields, badControl(b[end])
			}
			return i, fields, s.short(len(b) - i)
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return i, fields, badControl(b[end])
		}
		next := end + 2
		for end > v && (b[end-1] == ' ' || b[end-1] == '\t') {
			end--
		}
		if s.size += n + end - v + fieldOverhead; s.size > s.set.HeaderBytes {
			return i, fields, s.exceeded(limits.HeaderBytes)
		}
		if len(fields) == s.set.HeaderFields {
			return i, fields, s.exceeded(limits.HeaderFields)
		}
		fields = append(fields, message.Field{Name: view(name), Value: view(b[v:end])})
		i, s.first = next, false
	}
}

// lineStart judges a line that does not begin with a name.
func (s *section) lineStart(b []byte) (end int, err error) {
	switch b[0] {
	case '\r':
		if len(b) == 1 {
			return 0, errShort
		}
		if b[1] != '\n' {
			return 0, bad("a carriage return without a line feed in the header")
		}
		return 2, nil
	case '\n':
		return 0, bad("a line feed without a carriage return in the header")
	case ' ', '\t':
		if s.first {
			return 0, bad("white space before the first field")
		}
		return 0, bad("a field that goes on in another line")
	case ':':
		return 0, bad("a field without a name")
	}
	return 0, bad("a field name with a character that it must not have")
}

// short says that more is needed, if there may be more.
func (s *section) short(pending int) error {
	if s.size+pending > s.set.HeaderBytes {
		return s.exceeded(limits.HeaderBytes)
	}
	return errShort
}

func (s *section) exceeded(name limits.Name) error {
	s.over = name
	return &ProtocolError{431, s.set.Over(name)}
}

func badName(c byte) error {
	if c == ' ' || c == '\t' {
		return bad("white space in or after a field name")
	}
	return bad("a field name with a character that it must not have")
}

func badControl(c byte) error {
	switch c {
	case '\r':
		return bad("a carriage return without a line feed in the header")
	case '\n':
		return bad("a line feed without a carriage return in the header")
	}
	return bad("a control character in a field")
}

// framing is what the fields of a head say of the message and the connection.
type framing struct {
	host                     string
	hosts, lengths           int
	length                   int64
	coding                   string
	codings                  int
	upgrade                  string
	upgrades                 int
	expects, wonders         bool // Expect stands there, and has more than 100-continue
	connection               int  // bytes
	close, alive, mayUpgrade bool
}

// note takes what concerns framing and the connection from the fields. Transfer-Encoding leaves them: the writers frame
// anew.
func (f *framing) note(h *message.Head) error {
	n := 0
	for i := range h.Fields {
		field := &h.Fields[i]
		switch len(field.Name) {
		case len("host"):
			if field.Name[0]|0x20 == 'h' && message.EqualFold(field.Name, "host") {
				f.host = field.Value
				f.hosts++
			}
		case len("expect"):
			if message.EqualFold(field.Name, "expect") {
				f.expects = true
				f.wonders = f.wonders || !message.EqualFold(field.Value, "100-continue")
			}
		case len("upgrade"):
			if message.EqualFold(field.Name, "upgrade") {
				f.upgrade = field.Value
				f.upgrades++
			}
		case len("connection"):
			if field.Name[0]|0x20 == 'c' && message.EqualFold(field.Name, "connection") {
				if err := f.connect(field.Value); err != nil {
					return err
				}
			}
		case len("content-length"):
			if message.EqualFold(field.Name, "content-length") {
				if f.lengths++; f.lengths > 1 {
					return bad("Content-Length stands more than once")
				}
				var ok bool
				if f.length, ok = parseLength(field.Value); !ok {
					return bad("Content-Length is not one decimal number")
				}
			}
		case len("transfer-encoding"):
			if message.EqualFold(field.Name, "transfer-encoding") {
				f.coding = field.Value
				f.codings++
				continue
			}
		}
		if n != i {
			h.Fields[n] = *field
		}
		n++
	}
	clear(h.Fields[n:])
	h.Fields = h.Fields[:n]
	return nil
}

// connect takes the options of a Connection field.
func (f *framing) connect(value string) error {
	if f.connection += len(value); f.connection > maxConnection {
		return &ProtocolError{431, "Connection lists too much"}
	}
	switch { // what almost all say
	case message.EqualFold(value, "keep-alive"):
		f.alive = true
		return nil
	case message.EqualFold(value, "close"):
		f.close = true
		return nil
	}
	for item := range message.Items(value) {
		switch {
		case !message.ValidToken(item):
			return bad("Connection is not a list of tokens")
		case message.EqualFold(item, "close"):
			f.close = true
		case message.EqualFold(item, "keep-alive"):
			f.alive = true
		case message.EqualFold(item, "upgrade"):
			f.mayUpgrade = true
		}
	}
	return nil
}

// parseLength takes digits alone: no sign, no list, no white space.
func parseLength(s string) (n int64, ok bool) {
	const most = 1<<63 - 1
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, s != ""
}

// transfer judges Transfer-Encoding: chunked is the only coding, and stands once.
func (f *framing) transfer() error {
	switch {
	case f.codings > 1:
		return bad("Transfer-Encoding stands more than once")
	case f.lengths > 0:
		return bad("both Content-Length and Transfer-Encoding")
	case message.EqualFold(f.coding, "chunked"):
		return nil
	}
	last, items, chunked := "", 0, 0
	for item := range message.Items(f.coding) {
		if !message.ValidToken(item) {
			return bad("Transfer-Encoding is not a list of codings")
		}
		items++
		if last = item; message.EqualFold(item, "chunked") {
			chunked++
		}
	}
	if chunked != 1 || items == 1 || !message.EqualFold(last, "chunked") {
		return bad("chunked is not the last transfer coding, or not once, or not alone")
	}
	return &ProtocolError{501, "a transfer coding besides chunked"}
}

// protocol returns the protocols to which a head upgrades. HTTP/2 is none of them (RFC 9113, section 3.1, has withdrawn
// it): it would hide requests from every rule.
func (f *framing) protocol() string {
	if !f.mayUpgrade || f.upgrades != 1 || f.upgrade == "" {
		return ""
	}
	for item := range message.Items(f.upgrade) {
		name, version, versioned := strings.Cut(item, "/")
		switch {
		case !message.ValidToken(name), versioned && !message.ValidToken(version):
			return ""
		case message.EqualFold(name, "http"), len(name) >= 2 && message.EqualFold(name[:2], "h2"):
			return ""
		}
	}
	return f.upgrade
}
