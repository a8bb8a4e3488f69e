// SPDX-License-Identifier: Apache-2.0

package message

import "iter"

// Items yields the members of a list of tokens (RFC 9110, section 5.6.1) without the white space around them, and passes
// over empty ones.
func Items(list string) iter.Seq[string] {
	return func(yield func(item string) bool) {
		for list := list; list != ""; {
			end := 0
			for end < len(list) && list[end] != ',' {
				end++
			}
			item := Trim(list[:end])
			if item != "" && !yield(item) {
				return
			}
			list = list[min(end+1, len(list)):]
		}
	}
}

// HasItem says whether a list of tokens has one, whatever its case. Parameters after it do not count.
func HasItem(list, token string) bool {
	for list != "" {
		end, semicolon := 0, -1
		for end < len(list) && list[end] != ',' {
			if list[end] == ';' && semicolon < 0 {
				semicolon = end
			}
			end++
		}
		item := list[:end]
		if semicolon >= 0 {
			item = list[:semicolon]
		}
		if EqualFold(Trim(item), token) {
			return true
		}
		list = list[min(end+1, len(list)):]
	}
	return false
}

// Trim takes white space from both ends.
func Trim(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// Get returns the value of the first field of a name, whatever its case.
func (h *Head) Get(name string) (value string, ok bool) {
	for i := range h.Fields {
		if EqualFold(h.Fields[i].Name, name) {
			return h.Fields[i].Value, true
		}
	}
	return "", false
}

// Set sets the value of the first field of a name, which keeps its place and case, and removes the others; or adds one.
func (h *Head) Set(name, value string) {
	n, found := 0, false
	for _, f := range h.Fields {
		if EqualFold(f.Name, name) {
			if found {
				continue
			}
			found, f.Value = true, value
		}
		h.Fields[n] = f
		n++
	}
	h.truncate(n)
	if !found {
		h.Add(name, value)
	}
}

// Del removes all fields of a name, whatever its case.
func (h *Head) Del(name string) {
	n := 0
	for _, f := range h.Fields {
		if !EqualFold(f.Name, name) {
			h.Fields[n] = f
			n++
		}
	}
	h.truncate(n)
}

// truncate keeps the first n fields and forgets the strings of the others.
func (h *Head) truncate(n int) {
	clear(h.Fields[n:])
	h.Fields = h.Fields[:n]
}

// DropHopByHop removes what concerns one connection alone (RFC 9110, section 7.6.1): Connection and what it lists,
// Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade, and TE but for "trailers", which it leaves as "TE: trailers".
// Trailer stays: it tells of the message. Upgrade, Close and Length of the head are what the codecs write instead.
//
// Connection cannot take Host and Content-Length away: which message this is, is not for a peer to hide from the next.
func DropHopByHop(h *Head) {
	listed := false
	for i := range h.Fields {
		if isConnection(h.Fields[i].Name) && listsFields(h.Fields[i].Value) {
			listed = true
		}
	}
	if listed {
		h.dropListed()
	}
	n := 0
	for i := range h.Fields {
		f := &h.Fields[i]
		switch len(f.Name) {
		case len("te"):
			if EqualFold(f.Name, "te") {
				if !HasItem(f.Value, "trailers") {
					continue
				}
				f.Value = "trailers"
			}
		case len("upgrade"), len("connection"), len("proxy-connection"), len("transfer-encoding"): // see IsHopByHop
			if IsHopByHop(f.Name) {
				continue
			}
		}
		if n != i {
			h.Fields[n] = *f
		}
		n++
	}
	h.truncate(n)
}

// dropListed removes the fields that a Connection field lists. The codec bounds the length of those lists.
func (h *Head) dropListed() {
	n := 0
	for i := range h.Fields {
		if f := &h.Fields[i]; !isConnection(f.Name) && h.isListed(f.Name) {
			continue
		}
		h.Fields[n] = h.Fields[i]
		n++
	}
	h.truncate(n)
}

func (h *Head) isListed(name string) bool {
	switch {
	case EqualFold(name, "te"), EqualFold(name, "host"), EqualFold(name, "content-length"):
		return false
	}
	for i := range h.Fields {
		if isConnection(h.Fields[i].Name) && HasItem(h.Fields[i].Value, name) {
			return true
		}
	}
	return false
}

func isConnection(name string) bool {
	return len(name) == len("connection") && name[0]|0x20 == 'c' && EqualFold(name, "connection")
}

// listsFields says whether a Connection field lists anything but the options that everybody sends.
func listsFields(value string) bool {
	if EqualFold(value, "keep-alive") || EqualFold(value, "close") {
		return false
	}
	for item := range Items(value) {
		switch {
		case EqualFold(item, "close"), EqualFold(item, "keep-alive"), EqualFold(item, "upgrade"), EqualFold(item, "te"):
		default:
			return true
		}
	}
	return false
}

// IsHopByHop says whether a field of this name, whatever its case, never passes a proxy: Connection, Keep-Alive,
// Proxy-Connection, Transfer-Encoding and Upgrade. TE is not one: see DropHopByHop.
func IsHopByHop(name string) bool {
	switch len(name) {
	case len("upgrade"):
		return EqualFold(name, "upgrade")
	case len("connection"): // and keep-alive
		return isConnection(name) || EqualFold(name, "keep-alive")
	case len("proxy-connection"):
		return EqualFold(name, "proxy-connection")
	case len("transfer-encoding"):
		return EqualFold(name, "transfer-encoding")
	}
	return false
}

// ForbiddenTrailer says whether a trailer of this name, whatever its case, must be refused (RFC 9110, section 6.5.1): it
// would frame the message, route it, say who sent it, or how to take it, after that was decided.
func ForbiddenTrailer(name string) bool {
	for _, forbidden := range forbiddenTrailers {
		if EqualFold(name, forbidden) {
			return true
		}
	}
	return false
}

var forbiddenTrailers = [...]string{
	"authorization", "connection", "content-encoding", "content-length", "content-range", "content-type", "cookie",
	"expect", "host", "keep-alive", "max-forwards", "proxy-authorization", "proxy-connection", "range", "te", "trailer",
	"transfer-encoding", "upgrade",
}
