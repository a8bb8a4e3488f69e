// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/pair"
)

// h2specCases is how many tests h2spec 2.2.1 has in strict mode.
const h2specCases = 146

func TestH2spec(t *testing.T) {
	app := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("spec ", 200))
	}))
	secure, open := behind(t, app, service{protocol: "http2"}), behind(t, app, service{protocol: "http2", plaintext: true})
	for _, face := range []struct {
		name    string
		address netip.AddrPort
	}{
		{"client face, in clear", secure.client},
		{"server face, in clear", open.server},
		{"server face, mTLS", withCertificate(t, secure)},
	} {
		t.Run(face.name, func(t *testing.T) { h2spec(t, "h2spec -S, "+face.name, face.address) })
	}
}

var h2specSummary = regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`)

func h2spec(t *testing.T, suite string, address netip.AddrPort) {
	t.Helper()
	begun := time.Now()
	out, err := run(t, 5*time.Minute, tool(t, "h2spec"), "-S", "-h", address.Addr().String(), "-p",
		strconv.Itoa(int(address.Port())), "-o", "2", "-j", filepath.Join(t.TempDir(), "out.xml"))
	found := h2specSummary.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("%s: no summary: %v\n%s", suite, err, tail(out, 40))
	}
	total, _ := strconv.Atoi(found[1])
	passed, _ := strconv.Atoi(found[2])
	if total != h2specCases {
		t.Errorf("h2spec ran %d tests, want %d", total, h2specCases)
	}
	_, failures, _ := strings.Cut(out, "Failures:")
	score(t, suite, begun, passed, h2specCases, failures)
}

// withCertificate returns the address of a wrapper that takes what is in clear to the server face of a pair over mutual
// TLS, as a caller of the mesh.
func withCertificate(t *testing.T, to faces) netip.AddrPort {
	t.Helper()
	return pair.Listen(t, func(ctx context.Context, c net.Conn) {
		secured, err := (&tls.Dialer{Config: to.caller("heddle/h2")}).DialContext(ctx, "tcp", to.server.String())
		if err != nil {
			return
		}
		defer secured.Close()
		stop := context.AfterFunc(ctx, func() { secured.Close() })
		defer stop()
		var both sync.WaitGroup
		pass := func(to, from net.Conn) {
			io.Copy(to, from)
			to.Close()
			from.Close()
		}
		both.Go(func() { pass(c, secured) })
		both.Go(func() { pass(secured, c) })
		both.Wait()
	})
}
