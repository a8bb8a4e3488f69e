// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"strings"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// Fields of the mesh's own.
const (
	// undelivered marks an answer of a server-side proxy to a request that the application never saw, so that it may be
	// sent to another endpoint whatever its method. It counts on mesh TLS alone, and is taken from what applications send.
	undelivered = "Heddle-Undelivered"
	// callerIdentity tells the application who calls: "URI=<SPIFFE ID>".
	callerIdentity = "X-Forwarded-Client-Cert"
	ownPrefix      = "heddle-"
)

// dropOwn removes the mesh's own fields in every spelling that some server takes for them, and with identity what tells
// who calls, too. The list of names that Trailer announces loses them likewise.
func dropOwn(h *message.Head, identity bool) {
	kept := 0
	for i := range h.Fields {
		f := &h.Fields[i]
		if isOwn(f.Name) || identity && isCallerIdentity(f.Name) {
			continue
		}
		if len(f.Name) == len("trailer") && message.EqualFold(f.Name, "trailer") {
			if f.Value = announced(f.Value, identity); f.Value == "" {
				continue
			}
		}
		if kept != i {
			h.Fields[kept] = *f
		}
		kept++
	}
	clear(h.Fields[kept:])
	h.Fields = h.Fields[:kept]
}

// announced returns the list of names without the mesh's own. It allocates only if there are some.
func announced(list string, identity bool) string {
	bad := func(name string) bool { return isOwn(name) || identity && isCallerIdentity(name) }
	for name := range strings.SplitSeq(list, ",") {
		if !bad(message.Trim(name)) {
			continue
		}
		var kept []string
		for name := range strings.SplitSeq(list, ",") {
			if name = message.Trim(name); name != "" && !bad(name) {
				kept = append(kept, name)
			}
		}
		return strings.Join(kept, ", ")
	}
	return list
}

func isOwn(name string) bool {
	return len(name) >= len(ownPrefix) && fold(name[0]) == ownPrefix[0] && sameName(name[:len(ownPrefix)], ownPrefix)
}

func isCallerIdentity(name string) bool { return sameName(name, callerIdentity) }

// sameName compares as servers do that hand headers on as variables: whatever the case, an underscore for a dash.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	}
	return c
}
