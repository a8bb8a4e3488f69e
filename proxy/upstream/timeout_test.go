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

// Two clusters have the same endpoint, and one of them more patience.
func TestEachWaitsForAsLongAsItsOwnTimeoutAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := registry(t, Options{WaitTimeout: 2 * time.Second, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}).Acquire(Key{Address: netip.MustParseAddrPort("10.1.0.1:80")})
		begun := time.Now()
		patient, hasty := &request2{done: make(chan struct{})}, &request2{done: make(chan struct{})}
		e.Open(asked("GET", ""), true, patient, time.Hour)
		e.Open(asked("GET", ""), true, hasty, time.Second)
		<-hasty.done
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("the hasty one waited for %v", took)
		}
		<-patient.done
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("the patient one waited for %v", took)
		}
	})
}

func TestWhoCancelsIsToldWhetherSomethingWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := registry(t, Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}).Acquire(Key{Address: netip.MustParseAddrPort("10.1.0.1:80")})
		wait := e.Open(asked("GET", ""), true, &request2{done: make(chan struct{})}, time.Second)
		if !wait.Cancel() {
			t.Error("who waits is told that something may have been sent")
		}
		if wait.Cancel() {
			t.Error("who waits no more is told that nothing was sent")
		}
		a := &request2{done: make(chan struct{})}
		wait = e.Open(asked("GET", ""), true, a, time.Second)
		<-a.done
		if wait.Cancel() {
			t.Error("who has had its turn is told that nothing was sent")
		}
	})
}
