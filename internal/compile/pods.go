// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// What the injector leaves on a pod.
const (
	injectedKey    = "heddle.io/injected" // annotation or label
	injectedValue  = "true"
	proxyContainer = "heddle-proxy"
)

// pod is what matters of a Pod.
type pod struct {
	key            string // namespace/name
	uid            string
	namespace      string
	name           string
	labels         map[string]string
	addresses      []netip.Addr // its own: none for a pod on its node's network
	serviceAccount string
	identity       string // SPIFFE ID; empty if not meshed
	workload       string
	node           string
	meshed         bool // injected, and live
	live           bool
	terminating    bool
	named          map[string]uint32 // container ports by name, TCP
	created        time.Time
}

// podMemo is what is remembered of a pod. There are so many that they are kept in a sorted list, not by name.
type podMemo struct {
	version  version
	options  *options
	facts    *pod
	index    *selectorIndex // inputs of member
	policies *policyList
	member   *membership // nil if not meshed
}

// readPods reads the pods, which are sorted. Facts are the same pointer as before if nothing that matters changed.
func (c *compilation) readPods(list []*corev1.Pod) {
	c.pods = make([]*pod, 0, len(list))
	c.new.pods = make([]podMemo, 0, len(list))
	at, sameNames := 0, true
	for _, p := range list {
		for at < len(c.old.pods) && c.old.pods[at].facts.before(p) {
			at, sameNames = at+1, false
		}
		var memo podMemo
		if at < len(c.old.pods) && c.old.pods[at].facts.isNamed(p) {
			memo = c.old.pods[at]
			at++
		} else {
			sameNames = false
		}
		if v := versionOf(p); memo.facts == nil || memo.version != v || memo.options != c.options {
			memo.version, memo.options = v, c.options
			facts := readPod(p, c.options.trustDomain)
			if memo.facts == nil || !reflect.DeepEqual(memo.facts, facts) {
				memo.facts = facts
			}
			c.new.computed[unitPod]++
		}
		c.pods = append(c.pods, memo.facts)
		c.new.pods = append(c.new.pods, memo)
	}
	c.new.podByKey = c.old.podByKey
	if !sameNames || len(c.pods) != len(c.old.pods) || c.old.podByKey == nil {
		c.new.podByKey = make(map[string]int, len(c.pods))
		for i, p := range c.pods {
			c.new.podByKey[p.key] = i
		}
	}
}

func (p *pod) isNamed(of *corev1.Pod) bool { return p.name == of.Name && p.namespace == of.Namespace }

// before says whether p is sorted before a pod of the cluster.
func (p *pod) before(of *corev1.Pod) bool {
	return !p.isNamed(of) && cmp.Or(cmp.Compare(p.namespace, of.Namespace), cmp.Compare(p.name, of.Name)) < 0
}

func readPod(p *corev1.Pod, trustDomain string) *pod {
	facts := &pod{
		key: p.Namespace + "/" + p.Name, uid: string(p.UID), namespace: p.Namespace, name: p.Name,
		labels: p.Labels, node: p.Spec.NodeName, workload: workloadOf(p),
		serviceAccount: p.Spec.ServiceAccountName,
		terminating:    p.DeletionTimestamp != nil,
		created:        p.CreationTimestamp.Time,
		live:           p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed,
	}
	if facts.serviceAccount == "" {
		facts.serviceAccount = "default"
	}
	if !facts.live || p.Spec.HostNetwork {
		return facts
	}
	facts.addresses = podAddresses(p)
	if isInjected(p) {
		id := identity.ID{TrustDomain: trustDomain, Namespace: p.Namespace, ServiceAccount: facts.serviceAccount}
		_, nameErr := meshconfig.ParseName(string(meshconfig.BindingName(facts.uid)))
		if id.Validate() != nil || nameErr != nil {
			facts.live = false // not a pod that an API server stores
			return facts
		}
		facts.identity, facts.meshed = id.String(), true
	}
	facts.named = namedPorts(p)
	return facts
}

// isInjected says whether a pod has a proxy: the mark alone could be a copy of another pod's.
func isInjected(p *corev1.Pod) bool {
	if p.Annotations[injectedKey] != injectedValue && p.Labels[injectedKey] != injectedValue {
		return false
	}
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == proxyContainer })
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	var addresses []netip.Addr
	add := func(s string) {
		ip, err := netip.ParseAddr(s)
		if ip = ip.Unmap(); err == nil && ip.Zone() == "" && !slices.Contains(addresses, ip) {
			addresses = append(addresses, ip)
		}
	}
	add(p.Status.PodIP)
	for _, ip := range p.Status.PodIPs {
		add(ip.IP)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses
}

// namedPorts are the TCP ports that containers name, native sidecars included; the first container wins.
func namedPorts(p *corev1.Pod) map[string]uint32 {
	named := map[string]uint32{}
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			for _, port := range c.Ports {
				isTCP := port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
				if _, taken := named[port.Name]; port.Name != "" && isTCP && !taken && isPort(port.ContainerPort) {
					named[port.Name] = uint32(port.ContainerPort)
				}
			}
		}
	}
	return named
}

func isPort(n int32) bool { return n >= 1 && n <= 65535 }

// cronSuffix is what a CronJob appends to the names of its Jobs: when one was due, in minutes.
var cronSuffix = regexp.MustCompile(`-[0-9]{8,}$`)

// workloadOf names a pod in metrics by what keeps it: the Deployment, StatefulSet, DaemonSet or CronJob.
func workloadOf(p *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil || len(validation.IsDNS1123Subdomain(owner.Name)) > 0 {
		return p.Name
	}
	switch owner.Kind {
	case "ReplicaSet":
		if hash := p.Labels["pod-template-hash"]; hash != "" {
			return nonEmpty(strings.TrimSuffix(owner.Name, "-"+hash), owner.Name)
		}
	case "Job":
		return nonEmpty(cronSuffix.ReplaceAllString(owner.Name, ""), owner.Name)
	}
	return owner.Name
}

func nonEmpty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// options are the settings that facts depend on.
type options struct {
	trustDomain       string
	operatorNamespace string
}

func optionFacts(w *work, o *snapshot.Options) *options {
	facts := options{trustDomain: o.TrustDomain, operatorNamespace: o.OperatorNamespace}
	return remember(w, unitOptions, "", w.inputs(facts), func(*options) *options { return &facts })
}
