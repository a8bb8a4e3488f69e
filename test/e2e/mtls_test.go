// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
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
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// capture reads the packets of the node's links to pods until stop, and says which of the patterns were in one.
func capture(t *testing.T, patterns map[string]*regexp.Regexp) (stop func() (seen []string, packets int)) {
	t.Helper()
	all := uint16(syscall.ETH_P_ALL)
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, all))))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100000}); err != nil {
		t.Fatal(err)
	}
	// `kubectl exec` brings what it prints over the node's loopback, in clear.
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	found, packets := map[string]bool{}, 0
	go func() {
		defer close(done)
		defer syscall.Close(fd)
		buf := make([]byte, 65536)
		for {
			n, from, err := syscall.Recvfrom(fd, buf, 0)
			if link, ok := from.(*syscall.SockaddrLinklayer); err == nil && ok && link.Ifindex != loopback.Index {
				packets++
				for name, p := range patterns {
					found[name] = found[name] || p.Match(buf[:n])
				}
			}
			if err == nil {
				continue
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	}()
	return func() ([]string, int) {
		close(quit)
		<-done
		maps.DeleteFunc(found, func(_ string, yes bool) bool { return !yes })
		return slices.Sorted(maps.Keys(found)), packets
	}
}

// secrets are what a purchase and an echo carry over each protocol, as they look in clear.
var secrets = map[string]*regexp.Regexp{
	"HTTP": regexp.MustCompile(`marker-of-the-test`),
	"gRPC": regexp.MustCompile(`\n.payments-[a-z0-9]+-[a-z0-9]+-[0-9]+`), // field 1 of the ChargeResponse, with its length
	"TCP":  regexp.MustCompile(`stored order payments-[a-z0-9]+-[a-z0-9]+-[0-9]+\n$`),
}

func TestNoByteOfTheApplicationCrossesAPodsLinkInClear(t *testing.T) {
	send := func() (seen []string, packets int) {
		t.Helper()
		stop := capture(t, secrets)
		if a := get(t, "-method", "POST", "-body", "marker-of-the-test", "http://checkout/echo"); a.Status != 200 || a.Body != "marker-of-the-test" {
			t.Error(a)
		}
		if a := get(t, "http://web/buy"); a.Status != 200 || !strings.Contains(a.Body, "stored order payments-") {
			t.Error(a)
		}
		return stop()
	}
	if seen, packets := send(); len(seen) > 0 || packets == 0 {
		t.Errorf("under Strict: %q seen in clear, in %d packets", seen, packets)
	}

	const off = `
apiVersion: mesh.heddle.io/v1alpha1
kind: MeshPolicy
metadata: {name: no-mtls, namespace: shop}
spec:
  targetRef: {kind: Namespace}
  mtls: {mode: Disabled}
`
	// Without mTLS nobody proves who they are: payments must take anyone.
	lines(t, "-n shop delete meshpolicy payments")
	t.Cleanup(func() {
		lines(t, "apply -f test/shop/manifests/mesh.yaml")
		awaitCondition(t, "shop", "meshpolicy/payments", "Ready", "True")
	})
	apply(t, off)
	removeAfter(t, off)
	awaitCondition(t, "shop", "meshpolicy/no-mtls", "Ready", "True")
	eventually(t, 20*time.Second, "the same capture finds all three when mTLS is disabled", func(context.Context) error {
		if seen, packets := send(); len(seen) != len(secrets) {
			return fmt.Errorf("only %q in %d packets", seen, packets)
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

// This test's own process is not in the mesh: it stands in the node's network.
func TestCallersWithoutACertificateOfTheMeshAreRefused(t *testing.T) {
	addr := podOf(t, "app=checkout,version=v1").ip + ":8080"
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
	metrics := scrape(t, podOf(t, "app=checkout,version=v1").ip)
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
	url := "http://" + podOf(t, "app=web").ip + ":8080/buy"
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
