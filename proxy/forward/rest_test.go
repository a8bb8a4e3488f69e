// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/listener"
)

// A connection that rests takes the next request, and is closed when it has been idle for too long, not sooner and not later.
func TestAConnectionThatRestsIsStillServed(t *testing.T) {
	ca := testpki.NewAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		const idle = 2 * time.Minute
		p := start(t, ca, shop, true, settings{limits: limits.Set{Idle: idle}})
		p.policyOf(&meshconfig.PortPolicy{Mtls: disabled, DefaultAction: deny, Protocol: asHTTP})
		near, far := net.Pipe()
		defer far.Close()
		turns := make(chan int, 1)
		go func() {
			n := 0
			for rest := p.server.Serve(t.Context(), &forward.Conn{Peeker: listener.Peek(near)}); rest != nil; n++ {
				rest = rest()
			}
			turns <- n
		}()
		answers := bufio.NewReader(far)
		for _, quiet := range []time.Duration{0, time.Second, time.Minute, idle - time.Second} {
			time.Sleep(quiet)
			go io.WriteString(far, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("after %v: %v", quiet, err)
			}
			io.Copy(io.Discard, answer.Body)
			if answer.StatusCode != http.StatusForbidden {
				t.Errorf("after %v: %s", quiet, answer.Status)
			}
		}
		begun := time.Now()
		if _, err := answers.ReadByte(); err != io.EOF {
			t.Error(err)
		}
		if took := time.Since(begun).Round(time.Second); took != idle {
			t.Errorf("it was closed after %v", took)
		}
		if n := <-turns; n < 4 {
			t.Errorf("it rested %d times", n-1)
		}
	})
}
