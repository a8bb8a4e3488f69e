// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// Files of the projected ConfigMap heddle-roots.
const (
	operatorRootsFile = "operator.pem" // of the control server's certificate
	configRootsFile   = "config.pem"   // of the config signer's
)

const maxRootsFile = 1 << 18 // bytes

// roots is a file of CA certificates that is read again when the kubelet replaces it. What it held last stays in force
// while it cannot be read.
type roots struct {
	path string
	log  logr.Logger

	mu   sync.Mutex
	info os.FileInfo
	pool *x509.CertPool // nil: nothing could be read yet
}

func newRoots(dir, file string, log logr.Logger) *roots {
	return &roots{path: filepath.Join(dir, file), log: log}
}

// get returns the pool of now, the same pointer until the file changes; nil if there never was one.
func (r *roots) get() *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.path)
	if err == nil && r.info != nil && os.SameFile(info, r.info) && info.ModTime().Equal(r.info.ModTime()) && info.Size() == r.info.Size() {
		return r.pool
	}
	if err == nil {
		var pool *x509.CertPool
		if pool, err = readRoots(r.path); err == nil {
			r.info, r.pool = info, pool
			return pool
		}
		r.info = info // it is not worth another look until it changes again
	}
	r.log.Error(err, "trust roots cannot be read; those read before stay in force", "file", r.path)
	return r.pool
}

func readRoots(path string) (*x509.CertPool, error) {
	data, err := readBounded(path, maxRootsFile)
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s: want CA certificates", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, n, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// verifier returns the verifier of envelopes for this pod, by the config roots of now. It is called by one goroutine at
// a time.
func (a *Agent) verifier() *signedconfig.Verifier {
	if pool := a.configRoots.get(); a.checker == nil || a.checker.Roots != pool {
		a.checker = &signedconfig.Verifier{
			Roots: pool, MeshID: a.opts.MeshID, Clock: a.opts.Clock,
			Audiences: []string{signedconfig.AudienceMesh, signedconfig.AudiencePod(a.opts.PodUID)},
		}
	}
	return a.checker
}
