// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// These run last, by the name of the file: they take the mesh apart.

func TestTheLastPolicyStaysInForceWhenTheCRDsVanish(t *testing.T) {
	awaitCondition(t, "shop", "meshpolicy/payments", "Ready", "True")
	lines(t, "delete crd trafficsplits.mesh.heddle.io serviceprofiles.mesh.heddle.io meshpolicies.mesh.heddle.io --timeout=60s")
	load := decode[stats](t, customer(t, "load", "-url", "http://checkout/echo", "-rate", "100", "-duration", "15s", "-interval", "0"))
	if load.Failed != 0 {
		t.Errorf("%+v", load)
	}
	if a := get(t, "-method", "POST", "http://payments:9090/shop.payments.v1.Payments/Charge"); a.Status != 403 {
		t.Errorf("the policy went with its CRD: %v", a)
	}
	lines(t, "apply -k config/crd")
	eventually(t, 30*time.Second, "the kinds serve again", func(ctx context.Context) error {
		_, err := kubectl(ctx, "apply", "-f", "test/shop/manifests/mesh.yaml")
		return err
	})
	awaitCondition(t, "shop", "meshpolicy/payments", "Ready", "True")
}

func TestUninstallingLeavesNothingThatBlocks(t *testing.T) {
	lines(t, "delete -k config/demo --ignore-not-found --timeout=120s")
	left := must(t, "get", "mutatingwebhookconfigurations,validatingwebhookconfigurations,crd,clusterroles,clusterrolebindings", "-o", "name")
	if found := grep(left, "heddle"); found != "" {
		t.Errorf("left behind:\n%s", found)
	}
	// Pods are made without the mesh, and the namespace goes.
	lines(t, "-n shop rollout restart deployment/web")
	eventually(t, time.Minute, "a pod without the mesh", func(ctx context.Context) error {
		out, err := kubectl(ctx, "-n", "shop", "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[?(@.status.phase==\"Running\")]}{.spec.initContainers[*].name};{end}")
		if err == nil && strings.Contains(out, "heddle") {
			err = errors.New(out)
		}
		return err
	})
	lines(t, "delete namespace shop --timeout=120s")
}
