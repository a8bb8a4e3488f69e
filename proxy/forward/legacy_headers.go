// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the fields of RFC 9110, section 7.6.1, that concern one connection alone. Trailer is net/http's to write;
// what authenticates with proxies goes on, since the proxy that it is for is behind this one.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// dropHopByHop removes what concerns one connection alone, also what Connection lists. It keeps "TE: trailers".
func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				delete(h, http.CanonicalHeaderKey(name))
			}
		}
	}
	trailers := hasToken(h["Te"], "trailers")
	for _, name := range hopByHop {
		delete(h, name)
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
}

// hasToken says whether a list of tokens has one, whatever its case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item, _, _ = strings.Cut(item, ";")
			if strings.EqualFold(textproto.TrimString(item), token) {
				return true
			}
		}
	}
	return false
}

// upgradeOfOld returns the protocol to which a request or answer of HTTP/1.1 upgrades, or "". That of HTTP/2 is none
// (RFC 9113, section 3.1, has withdrawn it): it would hide requests from every rule.
func upgradeOfOld(h http.Header) string {
	upgrade := h.Get("Upgrade")
	if upgrade == "" || !hasToken(h["Connection"], "upgrade") || strings.Contains(strings.ToLower(upgrade), "h2c") {
		return ""
	}
	return upgrade
}

// dropOwnOld removes the mesh's own fields in every spelling that some server takes for them, and with identity what tells
// who calls, too.
func dropOwnOld(h http.Header, identity bool) {
	for name := range h {
		if isOwn(name) || identity && isCallerIdentity(name) {
			delete(h, name)
		}
	}
}

// addAll adds all fields of one header to another.
func addAll(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}
