// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
)

const (
	// issueTimeout is longer than the operator waits for cert-manager.
	issueTimeout = 35 * time.Second
	maxToken     = 16 << 10 // bytes
	// jitter spreads renewals over this part of the certificate's life before and after its half.
	jitter = 0.15
	// Pauses between attempts, and between renewals of certificates that are hardly valid when they come.
	minPause = time.Second
	maxPause = time.Minute
)

// run gets the certificate and renews it, until the context ends. A certificate that has expired is renewed on the same
// path.
func (i *Identity) run(ctx context.Context) {
	pause := controlapi.Backoff{Min: minPause, Max: maxPause}
	wait := i.untilRenewal()
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-i.again:
			timer.Stop()
		}
		err := i.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		i.mu.Lock()
		i.trouble = err
		i.mu.Unlock()
		if err == nil && i.check(i.clock()) == nil {
			pause.Reset()
			wait = max(i.untilRenewal(), minPause)
			continue
		}
		wait = i.bounded(pause.Next())
		if err == nil {
			continue // adopted for want of a better one
		}
		i.log.Info("no certificate was issued; the one held stays", "error", err.Error(), "retryAfter", wait.String())
	}
}

// untilRenewal returns how long to wait: until about half of the life of a certificate that is valid, and not at all
// without one.
func (i *Identity) untilRenewal() time.Duration {
	c := i.Certificate()
	now := i.clock()
	if c == nil || i.verify(c.Certificate, now) != nil {
		return 0
	}
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	part := 0.5 + jitter*(2*mathrand.Float64()-1) //nolint:gosec // jitter needs no secret
	return max(0, c.Leaf.NotBefore.Add(time.Duration(part*float64(life))).Sub(now))
}

// bounded shortens a pause so that several attempts fit into what is left of the certificate's life.
func (i *Identity) bounded(pause time.Duration) time.Duration {
	left := i.Expiry().Sub(i.clock())
	if left <= 0 {
		return pause
	}
	return max(minPause, min(pause, left/4))
}

// renew gets a certificate for a new key and makes it the newest.
func (i *Identity) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a private key: %w", err)
	}
	// The SPIFFE ID and nothing else: subject, usages and all the rest are the operator's to decide.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{i.id.URL()}}, key)
	if err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	chain, err := i.issue(ctx, csr)
	if err != nil {
		return err
	}
	c, err := i.adopt(key, chain)
	if err != nil {
		return fmt.Errorf("the certificate that was issued is refused: %w", err)
	}
	if err := i.keep(key, chain); err != nil {
		i.log.Error(err, "the certificate was not kept for a restart")
	}
	i.set(c)
	i.log.Info("got a certificate", "serial", c.Leaf.SerialNumber.String(), "notAfter", c.Leaf.NotAfter)
	return nil
}

// adopt judges what was issued. While the certificate held is of no use, one that does not chain to the roots held is
// better than none: with it the operator's stream brings the roots of now. Peers judge for themselves.
func (i *Identity) adopt(key *ecdsa.PrivateKey, chain [][]byte) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse it: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("it is for another key")
	}
	now := i.clock()
	if err := i.verify(chain, now); err != nil {
		if i.usable(now) {
			return nil, err
		}
		unjudged := &Identity{id: i.id} // without roots
		if unjudged.verify(chain, now) != nil {
			return nil, err
		}
		i.log.Info("the certificate does not chain to the workload roots held; the stream will bring newer ones", "error", err.Error())
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

func (i *Identity) keep(key *ecdsa.PrivateKey, chain [][]byte) error {
	data, err := formatIdentity(key, chain)
	if err != nil {
		return err
	}
	return i.store.putIdentity(data)
}

// issue asks the operator for a certificate, with the token of now: the kubelet replaces it.
func (a *Agent) issue(ctx context.Context, csr []byte) ([][]byte, error) {
	token, err := readBounded(a.opts.TokenFile, maxToken)
	if err != nil {
		return nil, fmt.Errorf("read the service account token: %w", err)
	}
	client := a.endpoint(nil).Client()
	defer client.Close()
	answer, err := client.Identity().IssueCertificate(ctx, connect.NewRequest(&controlapi.IssueCertificateRequest{
		Csr: csr, Token: strings.TrimSpace(string(token)),
	}))
	if err != nil {
		return nil, fmt.Errorf("ask the operator for a certificate: %w", err)
	}
	return answer.Msg.GetChain(), nil
}
