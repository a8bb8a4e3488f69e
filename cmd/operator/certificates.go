// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// reloadEvery is how often the mounted files are read; the kubelet takes a minute to write them.
const reloadEvery = 5 * time.Second

// certificateFiles is the control server's certificate, from a Secret that is mounted and renewed under us.
type certificateFiles struct {
	dir string
	ca  func(pem []byte) error // takes ca.crt, the roots that it chains to
	log logr.Logger

	current atomic.Pointer[tls.Certificate]
	files   [3][]byte
}

// Certificate returns the certificate of now, or nil.
func (c *certificateFiles) Certificate() *tls.Certificate { return c.current.Load() }

// NeedLeaderElection lets it run on every replica.
func (*certificateFiles) NeedLeaderElection() bool { return false }

// Start reads the files again and again until the context ends. What cannot be read leaves the last certificate.
func (c *certificateFiles) Start(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := c.load(); err != nil {
				c.log.Error(err, "the control server keeps its last certificate", "dir", c.dir)
			}
		}
	}
}

// load reads the files and takes them if they changed and belong together.
func (c *certificateFiles) load() error {
	var files [3][]byte
	for i, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		data, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil {
			return err
		}
		files[i] = data
	}
	if bytes.Equal(files[0], c.files[0]) && bytes.Equal(files[1], c.files[1]) && bytes.Equal(files[2], c.files[2]) {
		return nil
	}
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return fmt.Errorf("%s: %w", c.dir, err)
	}
	if err := c.ca(files[2]); err != nil {
		return fmt.Errorf("%s: ca.crt: %w", c.dir, err)
	}
	c.files = files
	c.current.Store(&pair)
	c.log.Info("control server certificate loaded", "notAfter", pair.Leaf.NotAfter)
	return nil
}
