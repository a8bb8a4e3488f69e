// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// capture reads every packet of the node's links, pods' included, until stop, and says whether the marker was in one.
func capture(t *testing.T, marker string) (stop func() (seen bool, packets int)) {
	t.Helper()
	all := uint16(syscall.ETH_P_ALL)
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, all))))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100000}); err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	seen, packets := false, 0
	go func() {
		defer close(done)
		defer syscall.Close(fd)
		buf := make([]byte, 65536)
		for {
			n, _, err := syscall.Recvfrom(fd, buf, 0)
			if err == nil {
				packets++
				seen = seen || bytes.Contains(buf[:n], []byte(marker))
				continue
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	}()
	return func() (bool, int) { close(quit); <-done; return seen, packets }
}

func TestNoByteOfTheApplicationCrossesThePodsLinkInClear(t *testing.T) {
	send := func(marker string) {
		t.Helper()
		a := get(t, "-method", "POST", "-body", marker, "http://checkout/echo")
		if a.Status != 200 || a.Body != marker {
			t.Fatal(a)
		}
	}
	stop := capture(t, "marker-in-strict")
	send("marker-in-strict")
	if seen, packets := stop(); seen || packets == 0 {
		t.Errorf("under Strict: marker seen in clear: %v, of %d packets", seen, packets)
	}

	const off = `
apiVersion: mesh.heddle.io/v1alpha1
kind: MeshPolicy
metadata: {name: no-mtls, namespace: shop}
spec:
  targetRef: {kind: Workload, selector: {matchLabels: {app: checkout}}}
  mtls: {mode: Disabled}
`
	apply(t, off)
	removeAfter(t, off)
	awaitCondition(t, "shop", "meshpolicy/no-mtls", "Ready", "True")
	eventually(t, 20*time.Second, "the same capture finds the marker when mTLS is disabled", func(context.Context) error {
		stop := capture(t, "marker-in-disabled")
		send("marker-in-disabled")
		if seen, packets := stop(); !seen {
			return fmt.Errorf("not in %d packets", packets)
		}
		return nil
	})
}

// stranger returns a certificate for a mesh identity that a CA of its own signed.
func stranger(t *testing.T, id string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, URIs: []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func podIP(t *testing.T, selector string) string {
	t.Helper()
	return must(t, "-n", "shop", "get", "pods", "-l", selector, "-o", "jsonpath={.items[0].status.podIP}")
}

// This test's own process is not in the mesh: it stands in the node's network.
func TestCallersWithoutACertificateOfTheMeshAreRefused(t *testing.T) {
	addr := podIP(t, "app=checkout,version=v1") + ":8080"
	for name, certificates := range map[string][]tls.Certificate{
		"no certificate":       nil,
		"another trust root's": {stranger(t, "spiffe://cluster.local/ns/shop/sa/web")},
	} {
		// The server is not what is tested here: its certificate is taken as it comes.
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"heddle/h1"}, Certificates: certificates})
		if err == nil {
			// In TLS 1.3 a client learns of the refusal at its first read.
			_, err = fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: checkout\r\n\r\n")
			if err == nil {
				_, err = io.ReadAll(conn)
			}
			conn.Close()
		}
		if err == nil {
			t.Errorf("%s: was served", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	a, err := http.Get("http://" + addr + "/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, _ := io.ReadAll(a.Body)
	if a.StatusCode != http.StatusForbidden || a.Header.Get("Heddle-Reason") != "plaintext_refused" {
		t.Errorf("in plaintext: %s, reason %q, %s", a.Status, a.Header.Get("Heddle-Reason"), body)
	}
	metrics := scrape(t, podIP(t, "app=checkout,version=v1"))
	if !strings.Contains(metrics, `reason="plaintext_refused"`) {
		t.Errorf("no metric counts the refusal:\n%s", grep(metrics, "heddle_refused"))
	}
}

// scrape reads a pod's metrics as Prometheus does: in plaintext, from outside the mesh.
func scrape(t *testing.T, ip string) string {
	t.Helper()
	a, err := http.Get("http://" + net.JoinHostPort(ip, "15020") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", a.Status, err)
	}
	return string(text)
}

func grep(text, word string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func TestADenialNamesItsRule(t *testing.T) {
	a := get(t, "-method", "POST", "http://payments:9090/shop.payments.v1.Payments/Charge")
	if a.Status != http.StatusForbidden || !strings.Contains(strings.Join(a.Header["Heddle-Reason"], ""), "denied") {
		t.Errorf("%v", a)
	}
	logs := must(t, "-n", "shop", "logs", "deploy/payments", "-c", "heddle-proxy", "--tail", "500")
	if line := grep(logs, "denied"); !strings.Contains(line, "shop/payments") || !strings.Contains(line, "sa/customer") {
		t.Errorf("the log names neither policy nor caller: %q", line)
	}
}

// A port-level exemption lets an ingress controller, which is not in the mesh, reach a web front.
func TestAPortCanBeOpenToCallersOutsideTheMesh(t *testing.T) {
	const open = `
apiVersion: mesh.heddle.io/v1alpha1
kind: MeshPolicy
metadata: {name: ingress-to-web, namespace: shop}
spec:
  targetRef: {kind: Workload, selector: {matchLabels: {app: web}}}
  mtls: {mode: Strict, ports: [{port: 8080, mode: Permissive}]}
`
	url := "http://" + podIP(t, "app=web") + ":8080/buy"
	apply(t, open)
	removeAfter(t, open)
	eventually(t, 20*time.Second, "plaintext to the exempt port", func(context.Context) error {
		a, err := http.Get(url)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusOK {
			return fmt.Errorf("%s, %s", a.Status, a.Header.Get("Heddle-Reason"))
		}
		return nil
	})
	if a := get(t, "http://web/buy"); a.Status != 200 {
		t.Errorf("from inside the mesh: %v", a)
	}
}
