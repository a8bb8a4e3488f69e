// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"strconv"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// answer tells the caller why a request was refused, so that people and programs can read it: in a status, a header and
// plain text, or for gRPC in a status of its own. It returns the statuses.
func answer(w http.ResponseWriter, r *http.Request, why *refusal.Error) (status, grpcStatus int) {
	meaning := why.Reason.Meaning()
	h := w.Header()
	h.Set(refusal.Header, string(why.Reason))
	if isGRPC(r.Header.Get("Content-Type")) {
		code := meaning.GRPC
		if code == 0 {
			code = 14 // UNAVAILABLE
		}
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(code))
		h.Set("Grpc-Message", grpcMessage(why.Body()))
		w.WriteHeader(http.StatusOK)
		return http.StatusOK, code
	}
	status = meaning.Status
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	body := why.Body()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write([]byte(body)) //nolint:errcheck // the caller is gone, then
	}
	return status, -1
}
