// SPDX-License-Identifier: Apache-2.0

package message

import "math/bits"

// What a byte may be part of.
const (
	tokenByte     = 1 << iota // RFC 9110, section 5.6.2
	valueByte                 // of a field value: VCHAR, obs-text, SP and HTAB
	targetByte                // of a request target: VCHAR but for "#"
	hostByte                  // of a reg-name, RFC 3986, section 3.2.2, but for "%" and the comma that joins lists
	hexByte                   // HEXDIG, in either case
	digitByte                 // DIGIT
	upperByte                 // ALPHA that HTTP/2 does not take in names
	addressByte               // of an IP literal: HEXDIG, ":" and "."
	tokenSpecials = "!#$%&'*+-.^_`|~"
	hostSpecials  = "-._~!$&'()*+;="
)

var bytesTable = func() (table [256]byte) {
	for i := range table {
		c := byte(i)
		switch {
		case c >= '0' && c <= '9':
			table[i] |= tokenByte | hostByte | hexByte | digitByte | addressByte
		case c >= 'a' && c <= 'z':
			table[i] |= tokenByte | hostByte
		case c >= 'A' && c <= 'Z':
			table[i] |= tokenByte | hostByte | upperByte
		}
		if c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			table[i] |= hexByte | addressByte
		}
		if c > ' ' && c < 0x7f && c != '#' {
			table[i] |= targetByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			table[i] |= valueByte
		}
	}
	for i := range len(tokenSpecials) {
		table[tokenSpecials[i]] |= tokenByte
	}
	for i := range len(hostSpecials) {
		table[hostSpecials[i]] |= hostByte
	}
	table[':'] |= addressByte
	table['.'] |= addressByte
	return table
}()

// all says whether every byte of s is of a class.
func all(s string, class byte) bool {
	for i := range len(s) {
		if bytesTable[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// ValidToken says whether s is a token (RFC 9110, section 5.6.2): a method or a field name.
func ValidToken(s string) bool { return s != "" && all(s, tokenByte) }

// ValidLowerToken says whether s is a token without upper-case letters: a field name of HTTP/2 (RFC 9113, section 8.2.1).
func ValidLowerToken(s string) bool {
	for i := range len(s) {
		if bytesTable[s[i]]&(tokenByte|upperByte) != tokenByte {
			return false
		}
	}
	return s != ""
}

// ValidValue says whether s may be a field's value (RFC 9110, section 5.5): no control character but HTAB, and no white
// space around it. Bytes from 0x80 on are allowed.
func ValidValue(s string) bool {
	if s == "" {
		return true
	}
	return !isSpace(s[0]) && !isSpace(s[len(s)-1]) && ControlIn(s) == len(s)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ControlIn returns the index of the first control character of s that a field's value must not have, all but HTAB, or
// len(s). It looks at eight bytes at a time.
func ControlIn[S string | []byte](s S) int {
	i := 0
	for i+8 <= len(s) {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		del := x ^ ones*0x7f
		// The lowest flag is exact, and so is whether there is one: borrows go upwards alone.
		flags := ((x-ones*0x20)&^x | (del-ones)&^del) & highs
		if flags == 0 {
			i += 8
			continue
		}
		if i += bits.TrailingZeros64(flags) / 8; s[i] != '\t' {
			return i
		}
		i++
	}
	for ; i < len(s); i++ {
		if bytesTable[s[i]]&valueByte == 0 {
			return i
		}
	}
	return len(s)
}

// TokenEnd returns the index of the first byte of b that is not of a token, or len(b).
func TokenEnd(b []byte) int {
	for i, c := range b {
		if bytesTable[c]&tokenByte == 0 {
			return i
		}
	}
	return len(b)
}

// ValidTarget says whether s may be the path and query of a request, in origin form (RFC 9112, section 3.2.1): it begins
// with "/" and has no white space, control character, fragment or byte beyond ASCII. Escapes are the normaliser's matter.
func ValidTarget(s string) bool { return s != "" && s[0] == '/' && all(s, targetByte) }

// ValidAuthority says whether s is a host with or without a port (RFC 9110, section 4.2): no user, no list, no empty
// host, no empty port.
func ValidAuthority(s string) bool {
	host, port, ok := cutPort(s)
	if !ok || host == "" {
		return false
	}
	if port != "" && !validPort(port[1:]) {
		return false
	}
	if host[0] == '[' {
		address := host[1 : len(host)-1]
		return len(address) >= 2 && len(address) <= 45 && all(address, addressByte)
	}
	return validName(host)
}

// cutPort cuts the port with its colon from an authority. It is not ok if brackets do not match.
func cutPort(s string) (host, port string, ok bool) {
	if s != "" && s[0] == '[' {
		for i := range len(s) {
			if s[i] == ']' {
				return s[:i+1], s[i+1:], i+1 == len(s) || s[i+1] == ':'
			}
		}
		return "", "", false
	}
	for i := range len(s) {
		if s[i] == ':' {
			return s[:i], s[i:], true
		}
	}
	return s, "", true
}

func validPort(s string) bool {
	port := 0
	for i := range len(s) {
		if bytesTable[s[i]]&digitByte == 0 || i == 5 {
			return false
		}
		port = port*10 + int(s[i]-'0')
	}
	return s != "" && port <= 65535
}

// validName takes a reg-name with whole percent-escapes.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if bytesTable[s[i]]&hostByte != 0 {
			continue
		}
		if s[i] != '%' || i+2 >= len(s) || bytesTable[s[i+1]]&bytesTable[s[i+2]]&hexByte == 0 {
			return false
		}
		i += 2
	}
	return true
}

// HostOf returns an authority without its port.
func HostOf(authority string) string {
	host, _, _ := cutPort(authority)
	return host
}

// EqualFold compares two ASCII strings whatever the case of their letters.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if bytesTable[c]&upperByte != 0 {
		return c | 0x20
	}
	return c
}

// TargetEnd returns the index of the first byte of b that a request target must not have, or len(b).
func TargetEnd(b []byte) int {
	for i, c := range b {
		if bytesTable[c]&targetByte == 0 {
			return i
		}
	}
	return len(b)
}
