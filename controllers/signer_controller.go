// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// SignerSecret is what cert-manager keeps the config signer's key and certificate in.
const SignerSecret = "heddle-config-signer" //nolint:gosec // a name, not a secret

const (
	signerPoll  = 30 * time.Second // a renewal has ten days, so nothing watches the Secret
	signerRetry = time.Second      // while there is none
	// rootsHold is how long a signer of a new CA waits before it signs: the kubelet brings new roots to the proxies within
	// a minute and a half.
	rootsHold = 3 * time.Minute
)

// Signers reads the config signer's key. Only the leader does.
type Signers struct {
	Live      client.Reader
	Namespace string
	Roots     *TrustRoots
	Clock     func() time.Time
	Log       logr.Logger

	mu      sync.Mutex
	current *signedconfig.Signer
}

// Current returns the signer that signs now, or nil.
func (s *Signers) Current() *signedconfig.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Wait returns the signer as soon as there is one.
func (s *Signers) Wait(ctx context.Context) (*signedconfig.Signer, error) {
	for told := false; ; told = true {
		signer, ca, err := s.read(ctx)
		if err == nil {
			s.Roots.Learn(RootsConfig, ca)
			s.take(signer)
			return signer, nil
		}
		if !told {
			s.Log.Error(err, "waiting for the config signer; config stays as it is", "secret", SignerSecret)
		}
		pause(ctx, signerRetry)
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

func (s *Signers) take(signer *signedconfig.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = signer
}

// read reads the Secret and makes a signer of it.
func (s *Signers) read(ctx context.Context) (*signedconfig.Signer, []*x509.Certificate, error) {
	key := types.NamespacedName{Namespace: s.Namespace, Name: SignerSecret}
	secret := &corev1.Secret{}
	if err := s.Live.Get(ctx, key, secret); err != nil {
		return nil, nil, fmt.Errorf("get Secret %s, which cert-manager writes for Certificate %s: %w", key, SignerSecret, err)
	}
	signer, err := signerOf(secret)
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s: %w", key, err)
	}
	ca, err := certificatesOf(secret.Data["ca.crt"])
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s: ca.crt: %w", key, err)
	}
	if !s.Clock().Before(signer.NotAfter()) {
		return nil, nil, fmt.Errorf("secret %s: the certificate expired at %s", key, signer.NotAfter())
	}
	return signer, ca, nil
}

func signerOf(secret *corev1.Secret) (*signedconfig.Signer, error) {
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", pair.PrivateKey)
	}
	chain := make([]*x509.Certificate, len(pair.Certificate))
	for i, der := range pair.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	return signedconfig.NewSigner(key, chain)
}

// certificatesOf reads PEM that must hold at least one certificate.
func certificatesOf(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return out, nil
}

// signerReconciler gives the publisher a renewed signer.
type signerReconciler struct {
	leadership *Leadership
	signers    *Signers
}

func (r *signerReconciler) setup(mgr ctrl.Manager) error {
	return builder.TypedControllerManagedBy[oneKey](mgr).Named("signer").
		WatchesRawSource(signalSource(&r.leadership.Begun, 0, onlyKey)).
		WithOptions(everywhere[oneKey]()).WithLogConstructor(logConstructor[oneKey](mgr, "signer")).
		Complete(r)
}

// Reconcile reads the Secret every so often while the replica leads.
func (r *signerReconciler) Reconcile(ctx context.Context, _ oneKey) (reconcile.Result, error) {
	publisher, current := r.leadership.Publisher(), r.signers.Current()
	if publisher == nil || current == nil {
		return reconcile.Result{}, nil
	}
	next, ca, err := r.signers.read(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if next.Certificate().Equal(current.Certificate()) {
		return reconcile.Result{RequeueAfter: signerPoll}, nil
	}
	r.signers.Roots.Learn(RootsConfig, ca)
	if wait := r.signers.Roots.Settled(RootsConfig, ca, r.signers.Clock()); wait > 0 && r.signers.Clock().Add(wait).Before(current.NotAfter()) {
		r.signers.Log.Info("a new config CA: its root goes to the proxies first", "wait", wait.String())
		return reconcile.Result{RequeueAfter: min(wait, signerPoll)}, nil
	}
	r.signers.take(next)
	r.signers.Log.Info("config signer renewed", "notAfter", next.NotAfter())
	if err := publisher.SetSigner(next); err != nil {
		return reconcile.Result{}, fmt.Errorf("sign everything anew: %w", err)
	}
	return reconcile.Result{RequeueAfter: signerPoll}, nil
}
