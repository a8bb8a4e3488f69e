// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strconv"
	"time"
)

// MaxProfileSeconds bounds how long the processor is profiled.
const MaxProfileSeconds = 60

// profile answers with where the process spends its processor's time, in the format of pprof. The runtime takes one
// profile at a time. Sampling costs a few percent, and only whoever can open the socket can ask for it.
func profile(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(r.URL.Query().Get("seconds"))
	if err != nil || seconds < 1 || seconds > MaxProfileSeconds {
		http.Error(w, "seconds: want 1 to "+strconv.Itoa(MaxProfileSeconds), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := pprof.StartCPUProfile(w); err != nil {
		w.Header().Del("Content-Type")
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer pprof.StopCPUProfile()
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// Profile copies a profile of the proxy's processor time, over so many seconds, to w.
func (c *Client) Profile(ctx context.Context, seconds int, w io.Writer) error {
	return c.copy(ctx, "/profile?"+url.Values{"seconds": {strconv.Itoa(seconds)}}.Encode(), w)
}
