// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// queryMatcher compares the parameters of one name; any of them may match. The query is read as
// application/x-www-form-urlencoded (WHATWG URL, section 5.1): pairs between "&", "+" for a space, escapes decoded. A
// parameter with a broken escape matches nothing.
type queryMatcher struct {
	name  string
	value string
	regex *regexp.Regexp // nil: exact
}

func newQueryMatcher(p *meshconfig.HeaderMatch) (queryMatcher, error) {
	m := queryMatcher{name: p.GetName(), value: p.GetValue()}
	if m.name == "" {
		return m, errors.New("name is empty")
	}
	var err error
	switch p.GetType() {
	case meshconfig.HeaderMatch_TYPE_EXACT:
	case meshconfig.HeaderMatch_TYPE_REGEX:
		m.regex, err = compileRegex(m.value)
	default:
		err = fmt.Errorf("unknown type %d", p.GetType())
	}
	return m, err
}

func (m *queryMatcher) match(query string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if formEqual(name, m.name) && m.matchValue(value) {
			return true
		}
	}
	return false
}

func (m *queryMatcher) matchValue(encoded string) bool {
	switch {
	case m.regex == nil:
		return formEqual(encoded, m.value)
	case strings.IndexByte(encoded, '%') < 0 && strings.IndexByte(encoded, '+') < 0:
		return len(encoded) <= maxFormValue && m.regex.MatchString(encoded)
	}
	buffer := formBuffers.Get().(*formBuffer)
	defer formBuffers.Put(buffer)
	n, ok := formDecode(buffer, encoded)
	return ok && m.regex.Match(buffer[:n])
}

// maxFormValue bounds, in bytes and decoded, the value that a regular expression reads. A longer one matches none.
const maxFormValue = 1024

type formBuffer [maxFormValue]byte

// formBuffers are for regular expressions, whose input never stays on the stack.
var formBuffers = sync.Pool{New: func() any { return new(formBuffer) }}

// formByte decodes the byte at s[i] and returns where the next one starts.
func formByte(s string, i int) (c byte, next int, ok bool) {
	switch s[i] {
	case '+':
		return ' ', i + 1, true
	case '%':
		c, ok = hexPair(s, i+1)
		return c, i + 3, ok
	}
	return s[i], i + 1, true
}

// formEqual says whether an encoded name or value is plain.
func formEqual(encoded, plain string) bool {
	if len(encoded) < len(plain) {
		return false
	}
	n := 0
	for i := 0; i < len(encoded); n++ {
		c, next, ok := formByte(encoded, i)
		if !ok || n == len(plain) || plain[n] != c {
			return false
		}
		i = next
	}
	return n == len(plain)
}

// formDecode decodes a value. It is not ok if that is broken or does not fit.
func formDecode(buffer *formBuffer, encoded string) (n int, ok bool) {
	for i := 0; i < len(encoded); n++ {
		c, next, valid := formByte(encoded, i)
		if !valid || n == len(buffer) {
			return 0, false
		}
		buffer[n], i = c, next
	}
	return n, true
}
