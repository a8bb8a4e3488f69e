// SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
	"github.com/heddle-mesh/heddle/test/cluster/internal/pki"
)

// daemon is a program that the supervisor keeps running.
type daemon struct {
	name    string
	program string
	args    []string
	after   condition // what must hold before its first start
}

// condition is something that the node waits for.
type condition int

const (
	nothing condition = iota
	apiReady
	runtimeReady
)

// daemons are a node's programs, in the order of their start.
func daemons(h home.Home) []daemon {
	run := func(name string) string { return h.Path("run", name) }
	return []daemon{
		{name: "containerd", program: "containerd", args: []string{"--config", run("containerd.toml")}},
		{name: "etcd", program: "etcd", args: []string{"--data-dir", run("etcd"), "--unsafe-no-fsync", "--log-level", "warn"}},
		{name: "apiserver", program: "kube-apiserver", args: apiserver(h)},
		// It exits where it cannot read what the API server seeds for it, and the others log that at length.
		{name: "kcm", program: "kube-controller-manager", args: controllerManager(h), after: apiReady},
		{name: "scheduler", program: "kube-scheduler", args: client(h, "scheduler"), after: apiReady},
		{name: "kubelet", program: "kubelet", after: runtimeReady, args: []string{
			"--config=" + run("kubelet.yaml"), "--kubeconfig=" + h.Path("pki", "kubelet.conf"),
			"--hostname-override=" + home.NodeName, "--node-ip=" + home.NodeIP.String(),
		}},
		{name: "proxy", program: "kube-proxy", args: []string{"--config=" + run("proxy.yaml")}, after: apiReady},
	}
}

// apiserver's flags are those of kubeadm's clusters: authentication, authorization and aggregation work as in production.
func apiserver(h home.Home) []string {
	pki := func(name string) string { return h.Path("pki", name) }
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + home.NodeIP.String(), // it finds no default route to choose one by
		"--bind-address=0.0.0.0",
		"--service-cluster-ip-range=" + home.ServiceCIDR.String(),
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + pki("sa.key"),
		"--service-account-key-file=" + pki("sa.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy.crt"),
		"--proxy-client-key-file=" + pki("front-proxy.key"),
	}
}

func controllerManager(h home.Home) []string {
	return append(client(h, "kcm"),
		"--use-service-account-credentials",
		"--service-account-private-key-file="+h.Path("pki", "sa.key"),
		"--root-ca-file="+h.Path("pki", "ca.crt"),
		"--cluster-signing-cert-file="+h.Path("pki", "ca.crt"),
		"--cluster-signing-key-file="+h.Path("pki", "ca.key"),
	)
}

// client is what the controller manager and the scheduler have in common. There is one of each: no election.
func client(h home.Home, user string) []string {
	config := h.Path("pki", user+".conf")
	return []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1", "--leader-elect=false",
		"--kube-api-qps=200", "--kube-api-burst=400", // the default of 20 a second holds up the controllers' start by 4 s
	}
}

// readyURL answers once the API server has seeded what the other daemons need.
var readyURL = pki.Server + "/readyz"
