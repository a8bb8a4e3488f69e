// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

const leafFlag = "--leaf-duration=60s"

type held struct {
	Asked, Failed, Cut int64
	Errors             []string
}

// leafSerial asks the customer's proxy for the serial number of its certificate.
func leafSerial(ctx context.Context) (string, error) {
	out, err := kubectl(ctx, "-n", "shop", "exec", "deploy/customer", "-c", "heddle-proxy", "--", "/heddle-proxy", "admin", "certs")
	if err != nil {
		return "", err
	}
	var c struct{ Serial string }
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		return "", err
	}
	if c.Serial == "" {
		return "", errors.New("no serial in " + out)
	}
	return c.Serial, nil
}

// shownSerial is the serial number of the certificate that a pod's proxy shows on a new connection.
func shownSerial(ip string) (string, error) {
	// Who shows it is not what is asked: it is taken as it comes.
	conn, err := tls.Dial("tcp", ip+":8080", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"heddle/h1"}})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// Leaves of a minute renew at about half a minute; what is open stays open.
func TestCertificatesRenewUnderOpenConnections(t *testing.T) {
	patch := func(op, value string) {
		t.Helper()
		must(t, "-n", "heddle-system", "patch", "deployment", "heddle-operator", "--type=json", "-p",
			`[{"op":"`+op+`","path":"/spec/template/spec/containers/0/args/-","value":"`+value+`"}]`)
		lines(t, "-n heddle-system rollout status deployment/heddle-operator --timeout=180s")
	}
	patch("add", leafFlag)
	t.Cleanup(func() {
		args := strings.Fields(must(t, "-n", "heddle-system", "get", "deployment", "heddle-operator", "-o", "jsonpath={range .spec.template.spec.containers[0].args[*]}{@}{\"\\n\"}{end}"))
		for i, a := range args {
			if a == leafFlag {
				must(t, "-n", "heddle-system", "patch", "deployment", "heddle-operator", "--type=json", "-p",
					`[{"op":"remove","path":"/spec/template/spec/containers/0/args/`+itoa(i)+`"}]`)
			}
		}
		lines(t, "-n heddle-system rollout status deployment/heddle-operator --timeout=180s")
	})
	// The proxies hold leaves of a day: new pods ask for new ones.
	lines(t, "-n shop rollout restart deployment,statefulset", "-n shop rollout status deployment,statefulset --timeout=240s")
	// Until they are gone, kubectl exec still chooses among the pods of before, and the load would end with one of them.
	eventually(t, 2*time.Minute, "the pods of before are gone", func(ctx context.Context) error {
		left, err := kubectl(ctx, "-n", "shop", "get", "pods", "-o", "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}")
		if err == nil && left != "" {
			err = errors.New(left)
		}
		return err
	})
	setWeights(t, 50, 50)
	eventually(t, time.Minute, "a purchase", func(context.Context) error {
		if a := get(t, "http://web/buy"); a.Status != 200 {
			return errors.New(a.String())
		}
		return nil
	})

	serials, shown := map[string]bool{}, map[string]bool{}
	server := podOf(t, "app=checkout,version=v1").ip
	first, err := leafSerial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serials[first] = true
	const length = 4 * time.Minute
	hold := background(t.Context(), "hold", "-conns", "100", "-http", "http://checkout/echo", "-grpc", "http://tills:9090", "-tcp", "store-0.store:6379", "-duration", length.String())
	load := background(t.Context(), "load", "-url", "http://checkout/echo", "-rate", "50", "-duration", length.String(), "-interval", "0")
	eventually(t, length, "five renewals", func(ctx context.Context) error {
		serial, err := leafSerial(ctx)
		if err != nil {
			return err
		}
		serials[serial] = true
		if serial, err = shownSerial(server); err != nil {
			return err
		}
		shown[serial] = true
		if len(serials) < 6 || len(shown) < 2 {
			return errors.New("fewer")
		}
		return nil
	})
	h, s := decode[held](t, hold.wait(t)), decode[stats](t, load.wait(t))
	t.Logf("%d certificates, %d shown by a server on new connections; on 300 open connections %d asked, %d failed, %d cut; beside them %d requests, %d failed", len(serials), len(shown), h.Asked, h.Failed, h.Cut, s.Requests, s.Failed)
	if h.Asked < 10000 || h.Failed != 0 || h.Cut != 0 {
		t.Errorf("%+v", h)
	}
	if s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}
