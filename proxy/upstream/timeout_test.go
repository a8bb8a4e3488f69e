// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Nobody is there: what is made takes all the time that it may.
func TestHowLongMakingAConnectionMayTake(t *testing.T) {
	makers := map[string]func(e *Endpoint, timeout time.Duration) *Failure{
		"of HTTP/1.1": func(e *Endpoint, timeout time.Duration) *Failure {
			_, why := e.Connect(time.Time{}, nil, timeout)
			return why
		},
		"of HTTP/2": func(e *Endpoint, timeout time.Duration) *Failure {
			a := &request2{done: make(chan struct{})}
			e.Open(asked("GET", ""), true, a, timeout)
			<-a.done
			return a.failure
		},
		"of one caller's bytes": func(e *Endpoint, timeout time.Duration) *Failure {
			_, err := e.Dial(context.Background(), "", timeout)
			return asFailure(err)
		},
	}
	for name, open := range makers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := registry(t, Options{ConnectTimeout: 3 * time.Second, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}).Acquire(Key{Address: netip.MustParseAddrPort("10.1.0.1:80")})
				for _, c := range []struct{ ask, take time.Duration }{
					{0, 3 * time.Second}, {250 * time.Millisecond, 250 * time.Millisecond}, {time.Minute, time.Minute}, {0, 3 * time.Second},
				} {
					begun := time.Now()
					refused(t, open(e, c.ask), refusal.ConnectFailed, true)
					if took := time.Since(begun); took != c.take {
						t.Errorf("asked for %v it took %v, want %v", c.ask, took, c.take)
					}
				}
			})
		})
	}
}
