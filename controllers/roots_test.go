// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

var meshed = map[string]string{InjectLabel: InjectEnabled}

// rootsIs says what is wrong with a namespace's ConfigMap, or "".
func rootsIs(t *testing.T, namespace string, operator, config []byte) string {
	t.Helper()
	c := &corev1.ConfigMap{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: RootsConfigMap}, c); err != nil {
		return err.Error()
	}
	for key, want := range map[string][]byte{"operator.pem": operator, "config.pem": config} {
		if got := c.Data[key]; got != string(want) {
			return fmt.Sprintf("%s is\n%s\nwant\n%s", key, got, want)
		}
	}
	return ""
}

func TestMeshedNamespacesGetTheTrustRoots(t *testing.T) {
	i := newInstallation(t)
	before, plain := newNamespace(t, meshed), newNamespace(t, nil)
	broken := newNamespace(t, meshed)
	create(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: broken, Name: RootsConfigMap, Labels: map[string]string{"theirs": "yes"}},
		Data:       map[string]string{"operator.pem": "broken", "theirs": "kept"},
	})
	i.start(t)
	right := func(namespace string) {
		t.Helper()
		eventually(t, func() string { return rootsIs(t, namespace, i.serving.PEM(), i.ca.PEM()) })
	}
	right(i.namespace)
	right(before)
	right(broken)
	kept := get(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: broken, Name: RootsConfigMap}})
	if kept.Data["theirs"] != "kept" || kept.Labels["theirs"] != "yes" {
		t.Errorf("what others put into it is gone: %v, %v", kept.Data, kept.Labels)
	}
	right(newNamespace(t, meshed))

	if err := api.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: before, Name: RootsConfigMap}}); err != nil {
		t.Fatal(err)
	}
	right(before)
	labelled := get(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: plain}})
	err := api.Get(t.Context(), client.ObjectKey{Namespace: plain, Name: RootsConfigMap}, &corev1.ConfigMap{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a namespace outside of the mesh has the ConfigMap: %v", err)
	}
	labelled.Labels[InjectLabel] = InjectEnabled
	if err := api.Update(t.Context(), labelled); err != nil {
		t.Fatal(err)
	}
	right(plain)
	labelled.Labels[InjectLabel] = "disabled"
	if err := api.Update(t.Context(), labelled); err != nil {
		t.Fatal(err)
	}
	right(plain) // its pods still mount it
}

func TestARenewedSignerSignsEverythingAnew(t *testing.T) {
	i := newInstallation(t)
	r := i.start(t)
	entry := func() string {
		if e := r.node.Hub().Get(meshconfig.MeshName); e != nil {
			return e.Serial.String()
		}
		return ""
	}
	eventually(t, func() string {
		if entry() == "" {
			return "section mesh is not published"
		}
		return ""
	})
	before := r.node.Hub().Get(meshconfig.MeshName)
	signer := r.leadership.Signers.Current()
	i.renewSigner(t)
	r.leadership.Begun.Notify() // in place of waiting for the next look
	eventually(t, func() string {
		after := r.node.Hub().Get(meshconfig.MeshName)
		if after.Serial.Compare(before.Serial) <= 0 || after.Digest != before.Digest {
			return fmt.Sprintf("section mesh is at %s, before at %s", after.Serial, before.Serial)
		}
		return ""
	})
	if r.leadership.Signers.Current().Certificate().Equal(signer.Certificate()) {
		t.Error("the signer is the one of before")
	}

	// A signer of another CA waits until the proxies can know its root.
	old := i.ca
	i.ca = pki.NewConfigCA(t, "config")
	i.renewSigner(t)
	signer = r.leadership.Signers.Current()
	r.leadership.Begun.Notify()
	eventually(t, func() string {
		both := rootsIs(t, i.namespace, i.serving.PEM(), append(old.PEM(), i.ca.PEM()...))
		if other := rootsIs(t, i.namespace, i.serving.PEM(), append(i.ca.PEM(), old.PEM()...)); both != "" {
			return other
		}
		return ""
	})
	if !r.leadership.Signers.Current().Certificate().Equal(signer.Certificate()) {
		t.Error("a signer signs whose root the proxies do not have yet")
	}
}

func TestTrustRootsOverlap(t *testing.T) {
	t.Parallel()
	now := time.Now()
	roots := &TrustRoots{Clock: func() time.Time { return now }}
	first, second := pki.NewConfigCA(t, "first"), pki.NewConfigCA(t, "second")
	roots.Learn(RootsConfig, []*x509.Certificate{first.Certificate})
	if wait := roots.Settled(RootsConfig, []*x509.Certificate{first.Certificate}, now); wait != 0 {
		t.Errorf("the very first root waits %s", wait)
	}
	data := roots.Merge(nil)
	roots.Learn(RootsConfig, []*x509.Certificate{second.Certificate})
	if wait := roots.Settled(RootsConfig, []*x509.Certificate{second.Certificate}, now); wait != rootsHold {
		t.Errorf("a new root waits %s, want %s", wait, rootsHold)
	}
	if wait := roots.Settled(RootsConfig, []*x509.Certificate{second.Certificate}, now.Add(time.Hour)); wait != 0 {
		t.Errorf("after an hour it still waits %s", wait)
	}
	data = roots.Merge(data)
	if n := strings.Count(data["config.pem"], "BEGIN"); n != 2 {
		t.Errorf("%d roots, want the old one and the new", n)
	}
	if _, ok := data["operator.pem"]; ok {
		t.Error("a key of which nothing is known is written")
	}
	// Someone takes the old one out, and it stays out.
	data = roots.Merge(map[string]string{"config.pem": string(second.PEM())})
	if data["config.pem"] != string(second.PEM()) || !roots.Pool(RootsConfig).Equal(second.Pool()) {
		t.Error("a root that was taken out is back")
	}
	// An old one goes when it expires, what is no certificate at once.
	now = now.AddDate(20, 0, 0)
	data = roots.Merge(map[string]string{"config.pem": string(first.PEM()) + string(second.PEM()), "operator.pem": "garbage"})
	if data["config.pem"] != string(second.PEM()) || data["operator.pem"] != "" {
		t.Errorf("merged to %v", data)
	}
}
