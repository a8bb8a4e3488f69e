// SPDX-License-Identifier: Apache-2.0

// Package controllers holds the thin reconcilers of the operator: each gets, calls one pure function, and writes once.
//
//	mesh       any relevant event -> collect -> compile -> publish
//	status     findings and acks -> conditions of one object; one controller a kind
//	last good  an object that is in force -> a ControllerRevision of its spec
//	roots      trust roots of the control server and of signed config -> ConfigMap heddle-roots of each meshed namespace
//	signer     Secret heddle-config-signer -> the publisher's signer
//
// They run on every replica, so that a new leader finds its caches warm, and act on the leader alone (Leadership).
package controllers

// +kubebuilder:rbac:groups="",resources=namespaces;nodes;services;pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=mesh.heddle.io,resources=trafficsplits;serviceprofiles;meshpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=mesh.heddle.io,resources=trafficsplits/status;serviceprofiles/status;meshpolicies/status,verbs=get;patch
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,resourceNames=trafficsplits.mesh.heddle.io;serviceprofiles.mesh.heddle.io;meshpolicies.mesh.heddle.io,verbs=get
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=heddle-roots,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=configmaps,namespace=heddle-system,resourceNames=heddle-serial,verbs=get;update
// +kubebuilder:rbac:groups="",resources=secrets,namespace=heddle-system,resourceNames=heddle-config-signer,verbs=get
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,namespace=heddle-system,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,namespace=heddle-system,resourceNames=heddle-operator,verbs=get;update
