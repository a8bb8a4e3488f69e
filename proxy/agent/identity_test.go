// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/test/pki"
)

// bureau issues certificates in a bubble of synctest.
type bureau struct {
	*testing.T

	mu       sync.Mutex
	ca       *pki.CA
	id       identity.ID
	lifetime time.Duration
	broken   error
	answer   func() ([][]byte, error) // instead
	asked    []time.Time
	csrs     [][]byte
}

// set changes what the bureau does.
func (b *bureau) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bureau) issue(_ context.Context, csr []byte) ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, time.Now())
	b.csrs = append(b.csrs, csr)
	if b.broken != nil {
		return nil, b.broken
	}
	if b.answer != nil {
		return b.answer()
	}
	return b.ca.SignRequest(csr, b.id, time.Now(), time.Now().Add(b.lifetime))
}

// inBubble runs an identity with its bureau in a bubble.
func inBubble(t *testing.T, lifetime time.Duration, f func(i *Identity, b *bureau)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bureau{T: t, ca: pki.NewCA(t, "workloads"), id: shopper, lifetime: lifetime}
		s, err := newStore(t.TempDir())
		check(t, err)
		i := newIdentity(shopper, s, time.Now, logr.Discard(), b.issue)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); i.run(ctx) }()
		synctest.Wait()
		f(i, b)
		cancel()
		<-done
	})
}

func (b *bureau) roots(cas ...*pki.CA) (ders [][]byte) {
	for _, ca := range append([]*pki.CA{b.ca}, cas...) {
		ders = append(ders, ca.Certificate.Raw)
	}
	return ders
}

func TestACertificateIsRenewedAroundHalfOfItsLife(t *testing.T) {
	const life = time.Minute
	inBubble(t, life, func(i *Identity, t *bureau) {
		i.setRoots(t.roots())
		keys := make(map[string]bool)
		for range 10 {
			before := i.Certificate()
			keys[string(before.PrivateKey.(*ecdsa.PrivateKey).X.Bytes())] = true
			for i.Certificate() == before {
				if err := i.check(time.Now()); err != nil {
					t.Fatalf("no valid certificate: %v", err)
				}
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			age := time.Since(before.Leaf.NotBefore)
			if age < life*3/10 || age > life*7/10 {
				t.Errorf("renewed after %s of %s", age, life)
			}
		}
		if len(t.asked) != 11 || len(keys) != 10 {
			t.Errorf("asked %d times with %d keys: want once for each certificate, each with a key of its own", len(t.asked), len(keys))
		}
	})
}

func TestRenewalsAreSpread(t *testing.T) {
	life := 24 * time.Hour
	inBubble(t, life, func(i *Identity, t *bureau) {
		lowest, highest := life, time.Duration(0)
		for range 1000 {
			wait := i.untilRenewal()
			lowest, highest = min(lowest, wait), max(highest, wait)
		}
		if lowest < life*34/100 || lowest > life*37/100 || highest < life*63/100 || highest > life*66/100 {
			t.Errorf("renewals between %s and %s of %s", lowest, highest, life)
		}
	})
}

// While nothing is issued the attempts are spaced; a certificate that has expired meanwhile is renewed on the same path.
func TestAnExpiredCertificateHeals(t *testing.T) {
	inBubble(t, time.Hour, func(i *Identity, t *bureau) {
		i.setRoots(t.roots())
		t.set(func() { t.broken, t.asked = errors.New("cert-manager is away"), nil })
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		err := i.check(time.Now())
		if err == nil || !strings.Contains(err.Error(), "cert-manager is away") {
			t.Errorf("check: %v: want it to say why there is no valid certificate", err)
		}
		if n := len(t.asked); n < 60 || n > 400 {
			t.Errorf("asked %d times in two and a half hours", n)
		}
		for k := 1; k < len(t.asked); k++ {
			if gap := t.asked[k].Sub(t.asked[k-1]); gap < minPause/2 || gap > maxPause {
				t.Errorf("asked again after %s", gap)
			}
		}
		t.set(func() { t.broken = nil })
		time.Sleep(2 * maxPause)
		synctest.Wait()
		if err := i.check(time.Now()); err != nil {
			t.Errorf("it does not heal: %v", err)
		}
	})
}

func TestAPodAsksForItsIdentityAndNothingElse(t *testing.T) {
	inBubble(t, time.Hour, func(_ *Identity, t *bureau) {
		csr, err := x509.ParseCertificateRequest(t.csrs[0])
		check(t, err)
		public, ok := csr.PublicKey.(*ecdsa.PublicKey)
		switch {
		case !ok || public.Curve != elliptic.P256():
			t.Errorf("key %T: want P-256", csr.PublicKey)
		case len(csr.Extensions) != 1 || len(csr.URIs) != 1 || csr.URIs[0].String() != shopper.String():
			t.Errorf("extensions %v, URIs %v: want the names alone, and the SPIFFE ID alone in them", csr.Extensions, csr.URIs)
		case len(csr.Subject.Names) > 0 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0:
			t.Errorf("subject %v, DNS names %v", csr.Subject, csr.DNSNames)
		}
	})
}

func TestACertificateThatIsNotThePodsIsRefused(t *testing.T) {
	other := shopper
	other.ServiceAccount = "admin"
	for what, change := range map[string]func(b *bureau){
		"of another identity": func(b *bureau) { b.id = other },
		"of another CA":       func(b *bureau) { b.ca = pki.NewCA(b, "workloads") },
		"expired":             func(b *bureau) { b.lifetime = -time.Second },
		"for another key": func(b *bureau) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			check(b, err)
			csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
			check(b, err)
			b.answer = func() ([][]byte, error) { return b.ca.SignRequest(csr, b.id, time.Now(), time.Now().Add(b.lifetime)) }
		},
		"garbage": func(b *bureau) { b.answer = func() ([][]byte, error) { return [][]byte{[]byte("garbage")}, nil } },
		"none":    func(b *bureau) { b.answer = func() ([][]byte, error) { return nil, nil } },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, time.Hour, func(i *Identity, t *bureau) {
				i.setRoots(t.roots())
				before := i.Certificate()
				t.set(func() { change(t) })
				time.Sleep(45 * time.Minute)
				synctest.Wait()
				if i.Certificate() != before {
					t.Error("it was taken")
				}
				i.mu.Lock()
				trouble := i.trouble
				i.mu.Unlock()
				if trouble == nil {
					t.Error("nothing is said about it")
				}
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if taken := i.Certificate() != before; taken != (what == "of another CA") {
					t.Errorf("taken %t when the last one had expired", taken)
				}
			})
		})
	}
}

// New roots that the certificate does not chain to have it renewed at once; roots that it does chain to do not.
func TestNewRootsRenewTheCertificate(t *testing.T) {
	inBubble(t, time.Hour, func(i *Identity, t *bureau) {
		i.setRoots(t.roots())
		next := pki.NewCA(t, "next")
		before := i.Certificate()
		i.setRoots(t.roots(next)) // the overlap
		synctest.Wait()
		if i.Certificate() != before {
			t.Error("renewed though it chains to the roots")
		}
		t.set(func() { t.ca = next })
		i.setRoots(t.roots())
		synctest.Wait()
		if i.Certificate() == before || i.check(time.Now()) != nil {
			t.Errorf("not renewed: %v", i.check(time.Now()))
		}
	})
}

// A proxy that slept through a rotation of the CA holds only old roots: it takes the new certificate all the same, since
// the stream that brings the new roots needs one, and asks without haste until they come.
func TestACertificateOfTheNextCAIsBetterThanNone(t *testing.T) {
	inBubble(t, time.Hour, func(i *Identity, t *bureau) {
		i.setRoots(t.roots())
		t.set(func() { t.broken = errors.New("away") })
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		old := t.ca
		t.set(func() { t.ca, t.broken, t.asked = pki.NewCA(t, "next"), nil, nil })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if i.await(t.Context()) == nil || i.check(time.Now()) == nil {
			t.Errorf("check: %v: want a certificate for the stream that does not make the proxy ready", i.check(time.Now()))
		}
		if n := len(t.asked); n > 30 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		i.setRoots(t.roots(old))
		synctest.Wait()
		if err := i.check(time.Now()); err != nil {
			t.Errorf("not valid with the new roots: %v", err)
		}
	})
}

// The CA is replaced without an overlap: the operator refuses the certificate, and the next one brings the new roots.
func TestAProxyComesBackAfterItsCAIsReplaced(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	service := newDoor(t, o.address)
	p := start(t, w.files(t, "pod", service.address()))
	await(t, "the proxy is ready", p.ready)
	issued := w.identities.issued.Load()

	next := newWorld(t)
	next.serving, next.config, next.signer, next.pods = w.serving, w.config, w.signer, w.pods
	o = next.operator(t)
	check(t, next.lead(o, 2).Publish(next.shop("pod")))
	service.lead(o.address)
	await(t, "the proxy has the new roots", func() bool {
		roots := p.Identity().Dump().Roots
		return p.ready() && len(roots) == 1 && roots[0].Serial == next.workload.Certificate.SerialNumber.Text(16)
	})
	if n := next.identities.issued.Load(); n < 1 || n > 3 || w.identities.issued.Load() != issued {
		t.Errorf("asked %d times for a certificate", n)
	}
}

func TestAKeptCertificateOfNoUseIsRemoved(t *testing.T) {
	w := newWorld(t)
	other := shopper
	other.ServiceAccount = "admin"
	foreign := w.workload.Workload(t, other)
	data, err := formatIdentity(foreign.PrivateKey.(*ecdsa.PrivateKey), foreign.Certificate)
	check(t, err)
	mixed, err := formatIdentity(w.workload.Workload(t, shopper).PrivateKey.(*ecdsa.PrivateKey), w.workload.Workload(t, shopper).Certificate)
	check(t, err)
	for what, data := range map[string][]byte{
		"garbage": []byte("garbage"), "another identity": data, "another key": mixed, "half of it": data[:len(data)/2],
	} {
		t.Run(what, func(t *testing.T) {
			s, err := newStore(t.TempDir())
			check(t, err)
			check(t, s.putIdentity(data))
			i := newIdentity(shopper, s, time.Now, logr.Discard(), nil)
			i.load()
			if _, err := os.Stat(filepath.Join(s.dir, identityFile)); i.Certificate() != nil || !os.IsNotExist(err) {
				t.Errorf("certificate %v, file: %v: want neither", i.Certificate(), err)
			}
		})
	}
}

// The kubelet replaces token and roots: both are read anew.
func TestTokenAndRootsAreReadAnew(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	w.identities.token.Store(new("the next token"))
	opts := w.files(t, "pod", o.address)
	p := start(t, opts)
	await(t, "the token is refused", func() bool {
		err := p.Ready()
		return err != nil && strings.Contains(err.Error(), "not the token")
	})
	check(t, os.WriteFile(opts.TokenFile, []byte("the next token"), 0o600))
	await(t, "the proxy is ready", p.ready)

	// Another config CA, with an overlap.
	next := pki.NewConfigCA(t, "next")
	check(t, os.WriteFile(filepath.Join(opts.RootsDir, configRootsFile), append(w.config.PEM(), next.PEM()...), 0o600))
	check(t, publisher.SetSigner(next.Signer(t, time.Time{}, time.Time{})))
	p.Want(routesName)
	await(t, "what the next signer signed arrives", func() bool { return p.weight() == 1 })
	// A file that cannot be read leaves the roots in force.
	check(t, os.WriteFile(filepath.Join(opts.RootsDir, configRootsFile), []byte("nonsense"), 0o600))
	shop[routesName] = routes(checkout, 2)
	check(t, publisher.Publish(shop))
	await(t, "config is verified by the roots read before", func() bool { return p.weight() == 2 })
	if len(p.Rejected()) > 0 {
		t.Errorf("refused %v", p.Rejected())
	}
}
