// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// protocolWebSocket is the name that RFC 6455 and RFC 8441 give it.
const protocolWebSocket = "websocket"

// toHTTP1 makes the head of an HTTP/2 request one of HTTP/1.1 (RFC 9113, section 8; RFC 8441, section 5). end says that
// there is no content. It returns the key of the WebSocket handshake, if it begins one.
func toHTTP1(h *message.Head, end bool) (key string) {
	joinCookies(h)
	h.Scheme = "" // or it would be sent in the absolute form
	switch {
	case h.Protocol != "":
		h.Method, h.Upgrade, h.Protocol, h.Length = http.MethodGet, h.Protocol, "", 0
		if message.EqualFold(h.Upgrade, protocolWebSocket) {
			key = newWebSocketKey()
			h.Set("Sec-WebSocket-Key", key)
		}
	case h.Method == methodConnect:
		h.Length = 0
	case !end:
		keepTrailer(h, false)
	default:
		h.Length = 0
		if h.Method == http.MethodPost || h.Method == http.MethodPut || h.Method == http.MethodPatch {
			h.Set("Content-Length", "0") // RFC 9110, section 8.6
		}
	}
	return key
}

// keepTrailer sees to it that a message which announces a trailer is sent in chunks: with a length, HTTP/1.1 has no place
// for one.
//
// With wanted that is done of every message: an unannounced trailer of gRPC's kind may be its result, and who asked for
// trailers (RFC 9110, section 6.5.1) takes chunks.
func keepTrailer(h *message.Head, wanted bool) {
	if _, announced := h.Get("trailer"); (announced || wanted) && h.Length != 0 {
		dropLength(h)
	}
}

// dropLength makes the content end with its framing.
func dropLength(h *message.Head) {
	h.Del("content-length")
	h.Length = message.Unknown
}

// toHTTP2 makes the head of an HTTP/1.1 request one of HTTP/2. An upgrade to WebSocket becomes an extended CONNECT, whose
// handshake's key it returns; HTTP/2 has no others, and they are left out. So is one of a request with content: in the
// extended CONNECT that would be the tunnel's bytes, before the server has agreed to it.
func toHTTP2(h *message.Head) (key string) {
	if h.Scheme == "" {
		h.Scheme = "http"
	}
	upgrade := h.Upgrade
	h.Upgrade = ""
	if h.Method == http.MethodGet && h.Length == 0 && message.EqualFold(upgrade, protocolWebSocket) {
		h.Method, h.Protocol = methodConnect, protocolWebSocket
		key, _ = h.Get("Sec-WebSocket-Key")
		h.Del("Sec-WebSocket-Key")
	}
	return key
}

// cloneHead makes a head that lasts: of its strings, the caller's connection uses the memory again. There is room for
// another field.
func cloneHead(h *message.Head) message.Head {
	kept := *h
	all := []*string{&kept.Method, &kept.Scheme, &kept.Authority, &kept.Path, &kept.Protocol, &kept.Upgrade}
	for _, s := range all {
		*s = strings.Clone(*s)
	}
	kept.Fields = make([]message.Field, len(h.Fields), len(h.Fields)+1)
	for i, f := range h.Fields {
		f.Name, f.Value = strings.Clone(f.Name), strings.Clone(f.Value)
		kept.Fields[i] = f
	}
	return kept
}

// joinCookies makes one field of the pieces into which HTTP/2 may split Cookie (RFC 9113, section 8.2.3).
func joinCookies(h *message.Head) {
	var pieces []string
	for i := range h.Fields {
		if message.EqualFold(h.Fields[i].Name, "cookie") {
			pieces = append(pieces, h.Fields[i].Value)
		}
	}
	if len(pieces) > 1 {
		h.Set("cookie", strings.Join(pieces, "; "))
	}
}

// newWebSocketKey makes a Sec-WebSocket-Key (RFC 6455, section 4.1).
func newWebSocketKey() string {
	var nonce [16]byte
	rand.Read(nonce[:])
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// webSocketAccept is the Sec-WebSocket-Accept that answers a key (RFC 6455, section 4.2.2).
func webSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	return base64.StdEncoding.EncodeToString(sum[:])
}

// errHandshake is why an upgrade to WebSocket failed.
var errHandshake = errors.New("the server's WebSocket handshake is wrong")

// tunnel carries bytes both ways after the server has agreed to that.
func (x *translated) tunnel(h *message.Head) error {
	if x.key != "" {
		if accept, _ := h.Get("Sec-WebSocket-Accept"); accept != webSocketAccept(x.key) {
			return errHandshake
		}
		h.Del("Sec-WebSocket-Accept")
	}
	h.Status, h.Upgrade = http.StatusOK, ""
	buffered, raw := x.conn.Raw()
	x.t.Head(h, false)
	go x.writeRaw(raw)
	if err := x.readRaw(io.MultiReader(strings.NewReader(string(buffered)), raw)); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for !x.written && !x.stopped && !x.over {
		x.changed.Wait()
	}
	return nil
}

// writeRaw writes bytes until the caller has ended its side.
func (x *translated) writeRaw(raw io.Writer) {
	for {
		p, end, ok := x.next()
		if !ok {
			return
		}
		_, err := raw.Write(p)
		if c, half := raw.(interface{ CloseWrite() error }); half && err == nil && end {
			err = c.CloseWrite()
		}
		if !x.wrote(len(p), end, err) {
			if err != nil {
				x.breakOff(err)
			}
			return
		}
	}
}

// readRaw reads bytes until the server has ended its side.
func (x *translated) readRaw(raw io.Reader) error {
	buf := takeBuffer()
	defer buf.give()
	for {
		room := x.room()
		if room == 0 {
			return nil
		}
		n, err := raw.Read(buf[:min(room, len(buf))])
		x.took(n)
		if n > 0 {
			x.t.Data(buf[:n], false)
		}
		if errors.Is(err, io.EOF) {
			x.t.Data(nil, true)
			return nil
		}
		if err != nil {
			return err
		}
	}
}
