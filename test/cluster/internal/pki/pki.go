// SPDX-License-Identifier: Apache-2.0

// Package pki makes a cluster's certificates, its service account key and its kubeconfigs.
package pki

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

const (
	life = 365 * 24 * time.Hour
	// Nothing is renewed while a cluster runs, so what is left when it starts must outlast it.
	least = 30 * 24 * time.Hour
)

// Server is the API server's address; every kubeconfig names it.
var Server = "https://" + net.JoinHostPort(home.NodeIP.String(), "6443")

// leaf is a certificate to make: by which CA, for whom, and valid as a server under which names.
type leaf struct {
	name, ca  string
	subject   pkix.Name
	dns       []string
	addresses []net.IP
}

// The roles are those of kubeadm's clusters.
func leaves() []leaf {
	admins, nodes := []string{"system:masters"}, []string{"system:nodes"}
	node := net.IP(home.NodeIP.AsSlice())
	list := []leaf{
		{
			name: "apiserver", subject: pkix.Name{CommonName: "kube-apiserver"},
			dns: []string{
				"kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local", "localhost",
			},
			addresses: []net.IP{net.IPv4(127, 0, 0, 1), node, home.APIServerIP.AsSlice()},
		},
		{name: "apiserver-kubelet", subject: pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: admins}},
		{name: "front-proxy", ca: "front-proxy-ca", subject: pkix.Name{CommonName: "front-proxy-client"}},
		{
			name: "kubelet", subject: pkix.Name{CommonName: "system:node:" + home.NodeName, Organization: nodes},
			dns: []string{home.NodeName}, addresses: []net.IP{node},
		},
		{name: "kcm", subject: pkix.Name{CommonName: "system:kube-controller-manager"}},
		{name: "scheduler", subject: pkix.Name{CommonName: "system:kube-scheduler"}},
		{name: "proxy", subject: pkix.Name{CommonName: "system:kube-proxy"}},
		{name: "admin", subject: pkix.Name{CommonName: "admin", Organization: admins}},
	}
	for i := range list {
		if list[i].ca == "" {
			list[i].ca = "ca"
		}
	}
	return list
}

// Ensure makes everything in dir unless it is there and good for a while yet.
func Ensure(dir string) error {
	good, err := valid(dir, time.Now().Add(least))
	if err != nil || good {
		return err
	}
	aside := dir + ".part"
	if err := errors.Join(os.RemoveAll(aside), os.MkdirAll(aside, 0o700)); err != nil {
		return err
	}
	if err := write(aside); err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(aside, dir))
}

// write makes everything in a folder that is empty.
func write(dir string) error {
	authorities := map[string]*authority{}
	for _, name := range []string{"ca", "front-proxy-ca"} {
		a, err := newAuthority(dir, name)
		if err != nil {
			return err
		}
		authorities[name] = a
	}
	for _, l := range leaves() {
		if err := authorities[l.ca].issue(dir, l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	for _, user := range []string{"kubelet", "kcm", "scheduler", "proxy", "admin"} {
		if err := kubeconfig(dir, user); err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", user, err)
		}
	}
	return serviceAccountKey(dir)
}

// valid says whether dir holds all that write makes, with the names and addresses of today, until then.
func valid(dir string, then time.Time) (bool, error) {
	ca, err := certificate(dir, "ca")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if then.After(ca.NotAfter) { // all were made together
		return false, nil
	}
	for _, l := range leaves() {
		c, err := certificate(dir, l.name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, name := range l.names() {
			if c.VerifyHostname(name) != nil {
				return false, nil //nolint:nilerr // it answers the question
			}
		}
	}
	_, err = os.Stat(filepath.Join(dir, "sa.key"))
	return err == nil, nil
}

func (l leaf) names() []string {
	names := append([]string(nil), l.dns...)
	for _, a := range l.addresses {
		names = append(names, a.String())
	}
	return names
}
