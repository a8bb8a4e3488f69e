// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"net/netip"
	"strings"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Request is what matchers see of an HTTP request; of a connection that is not HTTP, Caller and Source alone.
type Request struct {
	Method string
	// Path is the path without query, as NormalizePath returned it.
	Path string
	// Query is what follows the question mark, undecoded.
	Query string
	// Authority is the Host header of HTTP/1.1 or the :authority of HTTP/2. A match of header "host" reads it.
	Authority string
	// Headers may be nil.
	Headers Headers
	// Caller is who asks: of a request that leaves a workload, the workload itself. Nil is nobody.
	Caller *identity.ID
	// Source is where it comes from: the calling pod, or what stands before that where it is trusted to say so.
	Source netip.Addr
}

// Headers is a list of headers, kept as the caller likes. The strings must stay valid until the decision is made.
type Headers interface {
	// Value returns the value of line i, from 0, of those whose name is equal to name but for case; ok is false when
	// there are not so many. The name is in lower case; the value comes without the white space around it.
	Value(name string, i int) (value string, ok bool)
}

// HeaderField is one header line.
type HeaderField struct {
	Name  string
	Value string
}

// HeaderList is the plain form of Headers.
type HeaderList []HeaderField

var _ Headers = HeaderList(nil)

// Value implements Headers.
func (l HeaderList) Value(name string, i int) (string, bool) {
	for _, f := range l {
		if !strings.EqualFold(f.Name, name) {
			continue
		}
		if i == 0 {
			return strings.Trim(f.Value, " \t"), true
		}
		i--
	}
	return "", false
}
