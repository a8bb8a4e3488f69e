// SPDX-License-Identifier: Apache-2.0

// Package node is a cluster's first process. It makes the node's mounts, control groups and network, starts the
// daemons and keeps them running. All of them, every pod, mount, link and rule go when it goes.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

const interval = 100 * time.Millisecond

// Run is the body of a process that was started in namespaces of its own. It returns only if the node cannot be set up.
func Run(ctx context.Context, h home.Home) error {
	if os.Getpid() != 1 {
		return errors.New("node is started by `cluster up`, in a process namespace of its own")
	}
	groups, err := FindCgroups(h)
	if err != nil {
		return err
	}
	if err := mountAll(h, groups); err != nil {
		return err
	}
	if err := setNetwork(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := writeFiles(h, groups.Name); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", h.Control())
	if err != nil {
		return fmt.Errorf("%w (a long path? set %s to a shorter one)", err, home.Variable)
	}
	s := newSupervisor(h, daemons(h), newReaper())
	go s.serve(ctx, listener)
	s.run(ctx)
	return nil
}

// await waits until a condition holds.
func await(ctx context.Context, h home.Home, c condition) error {
	switch c {
	case apiReady:
		client, err := apiClient(h)
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		return poll(ctx, func() bool { return ready(ctx, client) })
	case runtimeReady:
		return poll(ctx, func() bool {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", "/run/containerd/containerd.sock")
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	default:
		return nil
	}
}

// poll asks again and again until the answer is yes.
func poll(ctx context.Context, yes func() bool) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func ready(ctx context.Context, client *http.Client) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, readyURL, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}

// apiClient speaks to the API server as the administrator.
func apiClient(h home.Home) (*http.Client, error) {
	file := func(name string) string { return filepath.Join(h.PKI(), name) }
	pair, err := tls.LoadX509KeyPair(file("admin.crt"), file("admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
	}, nil
}
