// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// hostMatcher compares the host of an authority: the name or address without port, whatever its case and without the dot
// that ends an absolute name.
type hostMatcher struct {
	name    string     // in lower case
	below   bool       // every name below: name starts with a dot
	address netip.Addr // of an IPv6 literal, which has many spellings; then name is empty
}

// newHostMatcher reads a host of config: a name, "*." and a name, or an address. IPv6 may stand in brackets.
func newHostMatcher(host string) (hostMatcher, error) {
	if literal := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); strings.Contains(literal, ":") {
		address, err := netip.ParseAddr(literal)
		if err != nil || address.Zone() != "" || len(host)-len(literal) == 1 {
			return hostMatcher{}, errors.New("neither a name nor an IPv6 address: leave the port out")
		}
		return hostMatcher{address: address}, nil
	}
	name, below := strings.CutPrefix(strings.ToLower(host), "*.")
	name = strings.TrimSuffix(name, ".")
	if !isHostName(name) {
		return hostMatcher{}, errors.New(`not a host: a name, an address, or "*." and a name`)
	}
	if below {
		name = "." + name
	}
	return hostMatcher{name: name, below: below}, nil
}

// isHostName says whether s is labels of letters, digits, "-" and "_" between dots. An IPv4 address is one.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	previous := byte('.')
	for i := range len(s) {
		c := s[i]
		if c == '.' && previous == '.' || c != '.' && (!isUnreserved(c) || c == '~') {
			return false
		}
		previous = c
	}
	return previous != '.'
}

// matchHosts says whether one of the hosts is that of an authority.
func matchHosts(hosts []hostMatcher, authority string) bool {
	host, _ := cutPort(authority)
	var address netip.Addr
	if strings.HasPrefix(host, "[") {
		if address, _ = parseIPv6(host[1 : len(host)-1]); !address.IsValid() {
			return false
		}
	}
	host = strings.TrimSuffix(host, ".")
	for i := range hosts {
		h := &hosts[i]
		switch {
		case address.IsValid() || h.address.IsValid():
			if address == h.address {
				return true
			}
		case h.below:
			if n := len(host) - len(h.name); n > 0 && equalFold(host[n:], h.name) {
				return true
			}
		case equalFold(host, h.name):
			return true
		}
	}
	return false
}

// cutPort cuts the port, without its colon, from an authority. An IPv6 literal keeps its brackets. What is malformed has
// the host "".
func cutPort(authority string) (host, port string) {
	if !strings.HasPrefix(authority, "[") {
		host, port, _ = strings.Cut(authority, ":")
		return host, port
	}
	end := strings.IndexByte(authority, ']')
	if end < 0 || end+1 < len(authority) && authority[end+1] != ':' {
		return "", ""
	}
	return authority[:end+1], strings.TrimPrefix(authority[end+1:], ":")
}

// CheckAuthority says why s is not a host with or without a port.
func CheckAuthority(s string) error {
	host, port := cutPort(s)
	if strings.Contains(host, "*") || strings.HasSuffix(s, ":") {
		return fmt.Errorf("%.80q: not a host", s)
	}
	if _, err := newHostMatcher(host); err != nil {
		return fmt.Errorf("%.80q: %w", s, err)
	}
	if port == "" {
		return nil
	}
	n := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' || i == 5 {
			return fmt.Errorf("%.80q: port: want 1 to 65535", s)
		}
		n = n*10 + int(port[i]-'0')
	}
	if n == 0 || n > 65535 {
		return fmt.Errorf("%.80q: port: want 1 to 65535", s)
	}
	return nil
}

// parseIPv6 reads an address as RFC 4291, section 2.2, spells it. Unlike netip.ParseAddr it does not allocate for what is
// none.
func parseIPv6(s string) (netip.Addr, bool) {
	var words [8]uint16
	n, gap := 0, -1
	if strings.HasPrefix(s, "::") {
		gap, s = 0, s[2:]
	}
	for s != "" {
		if n == len(words) {
			return netip.Addr{}, false
		}
		if strings.IndexByte(s, ':') < 0 && strings.IndexByte(s, '.') >= 0 {
			high, low, ok := parseIPv4(s)
			if !ok || n > len(words)-2 {
				return netip.Addr{}, false
			}
			words[n], words[n+1] = high, low
			n += 2
			break
		}
		word, rest, ok := hexWord(s)
		if !ok {
			return netip.Addr{}, false
		}
		words[n], s = word, rest
		n++
		switch {
		case s == "":
		case gap < 0 && strings.HasPrefix(s, "::"):
			gap, s = n, s[2:]
		case len(s) > 1 && s[1] != ':':
			s = s[1:]
		default:
			return netip.Addr{}, false
		}
	}
	if gap < 0 && n < len(words) || gap >= 0 && n == len(words) {
		return netip.Addr{}, false
	}
	if gap >= 0 {
		copy(words[len(words)-(n-gap):], words[gap:n])
		clear(words[gap : len(words)-(n-gap)])
	}
	var address [16]byte
	for i, w := range words {
		address[2*i], address[2*i+1] = byte(w>>8), byte(w)
	}
	return netip.AddrFrom16(address), true
}

// hexWord reads one to four hexadecimal digits, up to a colon or the end.
func hexWord(s string) (word uint16, rest string, ok bool) {
	for i := range len(s) {
		if s[i] == ':' {
			return word, s[i:], i > 0
		}
		digit, valid := hexDigit(s[i])
		if !valid || i == 4 {
			return 0, "", false
		}
		word = word<<4 | uint16(digit)
	}
	return word, "", s != ""
}

// parseIPv4 reads four numbers up to 255, without leading zeros, between dots.
func parseIPv4(s string) (high, low uint16, ok bool) {
	var address uint32
	for i := range 4 {
		part, rest, found := strings.Cut(s, ".")
		if found != (i < 3) || part == "" || len(part) > 3 || len(part) > 1 && part[0] == '0' {
			return 0, 0, false
		}
		n := uint32(0)
		for j := range len(part) {
			if part[j] < '0' || part[j] > '9' {
				return 0, 0, false
			}
			n = n*10 + uint32(part[j]-'0')
		}
		if n > 255 {
			return 0, 0, false
		}
		address, s = address<<8|n, rest
	}
	return uint16(address >> 16), uint16(address), true
}

// equalFold compares ASCII strings whatever the case of a; b is in lower case.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		c := a[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != b[i] {
			return false
		}
	}
	return true
}
