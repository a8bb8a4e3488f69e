// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"
	"encoding/binary"

	"github.com/heddle-mesh/heddle/proxy/forward"
)

// meshALPN begins the ALPN names that proxies offer each other.
const meshALPN = "heddle/"

// Of RFC 8446: record types (5.1), handshake types (4) and extensions (4.2).
const (
	recordHeader     = 5
	recordHandshake  = 22
	recordMax        = 1 << 14
	handshakeHeader  = 4
	handshakeHello   = 1
	helloRandom      = 2 + 32 // legacy_version and random
	minimalHelloBody = helloRandom + 1 + 2 + 1

	extensionServerName = 0  // RFC 6066
	extensionALPN       = 16 // RFC 7301
	nameTypeHost        = 0
	maxServerName       = 255
)

// classifyTLS looks at what begins with the type of a handshake record. It returns Unknown and how many bytes it takes
// to go on while the ClientHello isn't whole. One that is malformed, or larger than can be held, is TLS: the
// application's to refuse, not ours to take for a proxy's.
func classifyTLS(b []byte) (forward.Protocol, int) {
	if len(b) < 2 {
		return forward.Unknown, recordHeader
	}
	if b[1] != 3 { // major version of SSL 3.0 to TLS 1.3
		return forward.Opaque, 0
	}
	hello, need, ok := assembleHello(b)
	switch {
	case !ok:
		return forward.Opaque, 0
	case need > maxPeek:
		return forward.TLS, 0
	case need > len(b):
		return forward.Unknown, need
	case offersMesh(hello):
		return forward.MeshTLS, 0
	default:
		return forward.TLS, 0
	}
}

// assembleHello takes the ClientHello's body out of the records that it is split over. need is how many bytes of b that
// takes at least; while it is more than there are, the body is incomplete. It is not ok when this is no ClientHello.
func assembleHello(b []byte) (body []byte, need int, ok bool) {
	var message []byte         // the handshake message as far as it goes
	missing := handshakeHeader // of the message
	for at := 0; ; {
		if len(b) < at+recordHeader {
			return nil, at + recordHeader + missing, true
		}
		length := int(binary.BigEndian.Uint16(b[at+3:]))
		if b[at] != recordHandshake || length == 0 || length > recordMax {
			// As a first record this isn't TLS. As a later one it is broken TLS: an empty body has no ALPN.
			return nil, 0, at > 0
		}
		fragment := b[at+recordHeader : min(at+recordHeader+length, len(b))]
		if message == nil {
			message = fragment[:len(fragment):len(fragment)] // one record, as usual, isn't copied
		} else {
			message = append(message, fragment...)
		}
		if len(message) > 0 && message[0] != handshakeHello {
			return nil, 0, false
		}
		whole := handshakeHeader
		if len(message) >= handshakeHeader {
			whole += int(message[1])<<16 | int(message[2])<<8 | int(message[3])
		}
		if missing = whole - len(message); missing <= 0 && len(message) >= handshakeHeader {
			return message[handshakeHeader:whole], 0, true
		}
		if at += recordHeader + length; at > len(b) {
			if missing <= at-len(b) {
				return nil, len(b) + missing, true
			}
			return nil, at + recordHeader + missing - (at - len(b)), true
		}
	}
}

// offersMesh says whether a ClientHello's body (RFC 8446, 4.1.2) offers an ALPN name of ours.
func offersMesh(body []byte) bool {
	names, _, ok := vector16(extension(body, extensionALPN))
	for ok && len(names) > 0 {
		var name []byte
		name, names, ok = vector8(names)
		if ok && bytes.HasPrefix(name, []byte(meshALPN)) {
			return true
		}
	}
	return false
}

// serverName returns the name of the server that a connection's first bytes ask for (RFC 6066, 3), if they are a whole
// ClientHello with one.
func serverName(b []byte) string {
	if len(b) < recordHeader || b[0] != recordHandshake {
		return ""
	}
	hello, need, ok := assembleHello(b)
	if !ok || need > len(b) {
		return ""
	}
	names, _, ok := vector16(extension(hello, extensionServerName))
	if !ok || len(names) < 1 || names[0] != nameTypeHost {
		return ""
	}
	name, _, ok := vector16(names[1:])
	if !ok || len(name) > maxServerName || bytes.ContainsFunc(name, isNoHostChar) {
		return ""
	}
	return string(name)
}

// isNoHostChar says whether a host's name can't hold something. Underscores are common.
func isNoHostChar(r rune) bool {
	letter := r|0x20 >= 'a' && r|0x20 <= 'z'
	return !letter && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}

// extension returns the content of the first extension of a kind, or nil.
func extension(body []byte, kind uint16) []byte {
	if len(body) < minimalHelloBody {
		return nil
	}
	_, rest, ok := vector8(body[helloRandom:]) // legacy_session_id
	if ok {
		_, rest, ok = vector16(rest) // cipher_suites
	}
	if ok {
		_, rest, ok = vector8(rest) // legacy_compression_methods
	}
	if !ok {
		return nil
	}
	extensions, _, ok := vector16(rest)
	for ok && len(extensions) >= 4 {
		found := binary.BigEndian.Uint16(extensions)
		var data []byte
		data, extensions, ok = vector16(extensions[2:])
		if ok && found == kind {
			return data
		}
	}
	return nil
}

// vector8 and vector16 cut a vector off whose length stands before it in 1 or 2 bytes.
func vector8(b []byte) (vector, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	return b[1 : 1+int(b[0])], b[1+int(b[0]):], true
}

func vector16(b []byte) (vector, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	length := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+length {
		return nil, nil, false
	}
	return b[2 : 2+length], b[2+length:], true
}
