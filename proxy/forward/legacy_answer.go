// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// relay relays an answer.
func (x *legacy) relay(ctx context.Context, e *upstream.Endpoint, response *http.Response) {
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		x.switchProtocols(ctx, e, response)
		return
	}
	h := x.w.Header()
	dropHopByHop(response.Header)
	x.dropForeign(response.Header, e)
	addAll(h, response.Header)
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // net/http would add its own
		}
	}
	announced := make([]string, 0, len(response.Trailer))
	for name := range response.Trailer {
		announced = append(announced, name)
	}
	if len(announced) > 0 {
		slices.Sort(announced)
		h.Set("Trailer", strings.Join(announced, ", "))
	}
	x.event.Status, x.started = response.StatusCode, true
	if reason := h.Get(refusal.Header); reason != "" {
		x.event.Err = errors.New("refused by the endpoint's proxy: " + reason)
	}
	x.grpcStatus(response.Header)
	x.endUnlessWhole()
	x.w.WriteHeader(response.StatusCode)
	if err := x.copyBody(response); err != nil {
		x.refuse(x.why(ctx, err))
		return
	}
	x.trailers(e, response.Trailer, len(announced))
}

// grpcStatus notes the status of a gRPC answer, which is in the trailer or, without a body, in the header.
func (x *legacy) grpcStatus(h http.Header) {
	if x.event.Protocol != "grpc" {
		return
	}
	if code, err := strconv.Atoi(h.Get("Grpc-Status")); err == nil {
		x.event.GRPCStatus = code
	}
}

// copyBody streams the body: whatever has come is sent on at once.
func (x *legacy) copyBody(response *http.Response) error {
	control := http.NewResponseController(x.w)
	length := response.ContentLength
	if length < 0 || length > bufferSize {
		control.Flush()
	}
	buf, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := response.Body.Read(buf[:])
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				return callerGone(err)
			}
			x.event.BytesOut += int64(n)
			if x.event.BytesOut != length {
				if err := control.Flush(); err != nil {
					return callerGone(err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// callerGone says that the caller, not the endpoint, is why an answer broke off.
func callerGone(err error) error { return &refusal.Error{Reason: refusal.CallerGone, Cause: err} }

// trailers sends the trailer on.
func (x *legacy) trailers(e *upstream.Endpoint, trailer http.Header, announced int) {
	if len(trailer) == 0 {
		return
	}
	x.dropForeign(trailer, e)
	x.grpcStatus(trailer)
	http.NewResponseController(x.w).Flush()
	prefix := ""
	if len(trailer) != announced {
		prefix = http.TrailerPrefix
	}
	h := x.w.Header()
	for name, values := range trailer {
		h[prefix+name] = values
	}
}

// switchProtocols relays the protocol that the endpoint has upgraded to.
func (x *legacy) switchProtocols(ctx context.Context, e *upstream.Endpoint, response *http.Response) {
	back, ok := response.Body.(end)
	agreed := upgradeOfOld(response.Header)
	if !ok || x.upgrade == "" || !strings.EqualFold(agreed, x.upgrade) {
		x.refuse(refusal.Newf(refusal.UpstreamFailed, "%v switched to a protocol that was not asked for", e.Address))
		return
	}
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.refuse(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
		return
	}
	defer conn.Close()
	x.started, x.event.Status = true, response.StatusCode
	dropHopByHop(response.Header)
	x.dropForeign(response.Header, e)
	response.Header.Set("Connection", "Upgrade")
	response.Header.Set("Upgrade", agreed)
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\n")
	response.Header.Write(buffered) //nolint:errcheck // likewise
	buffered.WriteString("\r\n")    //nolint:errcheck // likewise
	if err := buffered.Flush(); err != nil {
		x.event.Reason, x.event.Err = refusal.CallerGone, err
		return
	}
	caller := &hijacked{legacyConn: x.conn, ahead: buffered.Reader}
	in, out, err := relay(ctx, caller, back, x.side.Limits.HalfClosed)
	x.event.BytesIn, x.event.BytesOut, x.event.Err = in, out, err
	x.upgraded = true
}

// hijacked is a caller's connection with what net/http has read of it ahead. Its reader is not used beyond that: it would
// take an end of the stream for the caller's going away.
type hijacked struct {
	*legacyConn
	ahead *bufio.Reader
}

// Read implements io.Reader.
func (h *hijacked) Read(p []byte) (int, error) {
	if n := h.ahead.Buffered(); n > 0 {
		return h.ahead.Read(p[:min(n, len(p))])
	}
	return h.legacyConn.Read(p)
}
