// SPDX-License-Identifier: Apache-2.0

package http2

import "github.com/heddle-mesh/heddle/proxy/message"

// kind is what a field's name means to the engine. It is found once, when the name comes, and kept with it in the
// decoder's table.
type kind uint8

const (
	kindPlain     kind = iota // anything that is passed on
	kindInvalid               // not the name of a field
	kindForbidden             // connection-specific (RFC 9113, section 8.2.2)
	kindTE
	kindHost
	kindLength
	kindExpect
	kindSecret // never put in an index (RFC 7541, section 7.1.3)
	kindCookie // the same if it is short
	kindUnknownPseudo
	kindMethod
	kindScheme
	kindAuthority
	kindPath
	kindProtocol
	kindStatus
)

// Methods that HTTP/2 treats in a special way.
const (
	connectMethod = "CONNECT"
	headMethod    = "HEAD"
	optionsMethod = "OPTIONS"
)

// pseudo says whether the name begins with a colon.
func (k kind) pseudo() bool { return k >= kindUnknownPseudo }

// kindOf looks at a name in lower case.
func kindOf(name string) kind {
	if name == "" {
		return kindInvalid
	}
	if name[0] == ':' {
		return kindOfPseudo(name)
	}
	switch name {
	case "te":
		return kindTE
	case "host":
		return kindHost
	case "expect":
		return kindExpect
	case "cookie":
		return kindCookie
	case "content-length":
		return kindLength
	case "authorization", "proxy-authorization":
		return kindSecret
	case "upgrade", "connection", "keep-alive", "proxy-connection", "transfer-encoding":
		return kindForbidden
	}
	if !message.ValidLowerToken(name) {
		return kindInvalid
	}
	return kindPlain
}

func kindOfPseudo(name string) kind {
	switch name {
	case ":method":
		return kindMethod
	case ":scheme":
		return kindScheme
	case ":authority":
		return kindAuthority
	case ":path":
		return kindPath
	case ":protocol":
		return kindProtocol
	case ":status":
		return kindStatus
	}
	return kindUnknownPseudo
}
