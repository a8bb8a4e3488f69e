// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/webhook/inject"
	validation "github.com/heddle-mesh/heddle/webhook/v1alpha1"
)

// addServers makes the control server, with config and identity behind it, and registers the webhooks.
func (r *replica) addServers() error {
	identities, err := issue.New(issue.Options{
		Client: r.manager.GetClient(), Live: r.manager.GetAPIReader(), Cache: r.manager.GetCache(), Roots: r.roots,
		TrustDomain: r.trustDomain, Namespace: r.namespace, Issuer: r.issuer, LeafDuration: r.leafDuration,
		Log: r.log.WithName("issue"), Clock: r.clock, Metrics: r.metrics,
	})
	if err != nil {
		return fmt.Errorf("identity service: %w", err)
	}
	if err := r.manager.Add(identities); err != nil {
		return err
	}
	configPath, config := r.node.Handler()
	identityPath, identity := identities.Handler()
	r.control = &controlServer{
		address: fmt.Sprintf(":%d", r.controlPort), certificates: r.certificates,
		handlers: map[string]http.Handler{configPath: config, identityPath: identity},
		log:      r.log.WithName("control"),
	}
	injector, err := inject.NewHandler(inject.Config{
		Image: r.proxyImage, Version: version, ControlAddress: r.controlAddress, ControlServerName: r.serverName(),
		MeshID: r.meshID, TrustDomain: r.trustDomain,
	}, r.manager.GetClient(), r.log.WithName("inject"), r.metrics)
	if err != nil {
		return err
	}
	server := r.manager.GetWebhookServer()
	server.Register(inject.Path, &admission.Webhook{Handler: injector})
	validation.Register(server, r.manager.GetScheme(), r.namespace)
	return nil
}
