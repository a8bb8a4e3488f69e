// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	cmpstd "cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

var update = flag.Bool("update", false, "rewrite the expected part of the golden files")

// TestGolden compiles testdata/<feature>/<case>.txtar. The files of a case:
//
//	input.yaml     objects; what tests do not care for is filled in (see normalize), slices are made of Services and pods
//	lastgood.yaml  objects whose specs are the last good ones, if any
//	sections       what is under test: the name of a section, "address IP", or "inbound POD" and "binding POD" of a pod
//	findings       of objects: "ok", or the conditions that are not well
//	effects        what of an object is in force, if there is something to say
//	and one for each line of sections
func TestGolden(t *testing.T) {
	var files []string
	err := filepath.WalkDir("testdata", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".txtar") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files: %v", len(files), err)
	}
	for _, file := range files {
		name, _ := strings.CutPrefix(strings.TrimSuffix(file, ".txtar"), "testdata/")
		t.Run(name, func(t *testing.T) { runGolden(t, file) })
	}
}

func runGolden(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := &snapshot.Snapshot{Options: testOptions()}
	got := &txtar.Archive{Comment: archive.Comment}
	var under []string
	for _, f := range archive.Files {
		switch f.Name {
		case "input.yaml":
			parseObjects(t, in, f.Data)
		case "lastgood.yaml":
			parseLastGood(t, in, f.Data)
		case "sections":
			under = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		default:
			continue
		}
		got.Files = append(got.Files, f)
	}
	if len(in.EndpointSlices) == 0 {
		in.EndpointSlices = gen.Slices(in.Services, in.Pods)
	}
	result := Compile(in)
	checkResult(t, result)
	if text := findingsText(result); text != "" {
		got.Files = append(got.Files, txtar.File{Name: "findings", Data: []byte(text)})
	}
	if text := effectsText(result); text != "" {
		got.Files = append(got.Files, txtar.File{Name: "effects", Data: []byte(text)})
	}
	for _, what := range under {
		if what != "" {
			got.Files = append(got.Files, txtar.File{Name: what, Data: sectionText(t, result, what)})
		}
	}
	compareGolden(t, file, archive, got)
}

func compareGolden(t *testing.T, file string, archive, got *txtar.Archive) {
	t.Helper()
	text := txtar.Format(got)
	if lines := bytes.Count(text, []byte("\n")); lines > 120 {
		t.Errorf("%d lines: at most 120, show less", lines)
	}
	if *update {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(txtar.Format(archive)), string(text)); diff != "" {
		t.Errorf("-want +got (go test -update rewrites it):\n%s", diff)
	}
}

func testOptions() snapshot.Options {
	return snapshot.Options{TrustDomain: "cluster.local", OperatorNamespace: "heddle-system", Networks: []string{"10.0.0.0/8"}}
}

func parseObjects(t *testing.T, in *snapshot.Snapshot, data []byte) {
	t.Helper()
	for _, document := range strings.Split("\n"+string(data), "\n---\n") {
		var kind metav1.TypeMeta
		decode(t, document, &kind)
		switch kind.Kind {
		case "":
		case "Node":
			in.Nodes = append(in.Nodes, parse[corev1.Node](t, document))
		case "Service":
			in.Services = append(in.Services, parse[corev1.Service](t, document))
		case "EndpointSlice":
			in.EndpointSlices = append(in.EndpointSlices, parse[discoveryv1.EndpointSlice](t, document))
		case "ServiceCIDR":
			in.ServiceCIDRs = append(in.ServiceCIDRs, parse[networkingv1.ServiceCIDR](t, document))
		case "Pod":
			pod := parse[corev1.Pod](t, document)
			normalize(pod)
			in.Pods = append(in.Pods, pod)
		case v1alpha1.KindTrafficSplit:
			in.TrafficSplits = append(in.TrafficSplits, parse[v1alpha1.TrafficSplit](t, document))
		case v1alpha1.KindServiceProfile:
			in.ServiceProfiles = append(in.ServiceProfiles, parse[v1alpha1.ServiceProfile](t, document))
		case v1alpha1.KindMeshPolicy:
			in.MeshPolicies = append(in.MeshPolicies, parse[v1alpha1.MeshPolicy](t, document))
		default:
			t.Fatalf("unknown kind %q", kind.Kind)
		}
	}
}

func decode(t *testing.T, document string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(document), into); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
}

// parse reads an object, and fills in when it was made and its UID.
func parse[T any, P interface {
	*T
	metav1.Object
}](t *testing.T, document string) P {
	t.Helper()
	object := P(new(T))
	if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	if created := object.GetCreationTimestamp(); created.IsZero() {
		object.SetCreationTimestamp(gen.Epoch)
	}
	if object.GetUID() == "" {
		object.SetUID(types.UID("uid-" + object.GetNamespace() + "-" + object.GetName()))
	}
	if object.GetGeneration() == 0 {
		object.SetGeneration(1)
	}
	return object
}

// normalize has a pod run, and be injected unless it says otherwise.
func normalize(p *corev1.Pod) {
	if p.Status.Phase == "" {
		p.Status.Phase = corev1.PodRunning
	}
	if _, says := p.Annotations[injectedKey]; !says && !p.Spec.HostNetwork {
		p.Annotations = map[string]string{injectedKey: injectedValue}
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: proxyContainer})
	}
}

func parseLastGood(t *testing.T, in *snapshot.Snapshot, data []byte) {
	t.Helper()
	var good snapshot.Snapshot
	parseObjects(t, &good, data)
	in.LastGood = map[snapshot.ObjectKey]*snapshot.LastGood{}
	put := func(kind string, o metav1.Object, lastGood snapshot.LastGood) {
		lastGood.UID, lastGood.Generation = o.GetUID(), o.GetGeneration()
		in.LastGood[snapshot.ObjectKey{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}] = &lastGood
	}
	for _, o := range good.TrafficSplits {
		put(v1alpha1.KindTrafficSplit, o, snapshot.LastGood{TrafficSplit: &o.Spec})
	}
	for _, o := range good.ServiceProfiles {
		put(v1alpha1.KindServiceProfile, o, snapshot.LastGood{ServiceProfile: &o.Spec})
	}
	for _, o := range good.MeshPolicies {
		put(v1alpha1.KindMeshPolicy, o, snapshot.LastGood{MeshPolicy: &o.Spec})
	}
}

// findingsText shows "ok" for an object that has nothing but good findings.
func findingsText(r *Result) string {
	var b strings.Builder
	for group := range slices.Chunk(r.Findings, 3) {
		fmt.Fprintf(&b, "%s:", group[0].Origin)
		bad := 0
		for _, f := range group {
			if f.Status == metav1.ConditionTrue == (f.Condition != v1alpha1.ConditionConflicted) && f.Status != metav1.ConditionUnknown {
				continue
			}
			bad++
			fmt.Fprintf(&b, "\n  %s=%s %s: %s", f.Condition, f.Status, f.Reason, f.Message)
		}
		if bad == 0 {
			b.WriteString(" ok")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func effectsText(r *Result) string {
	var b strings.Builder
	for _, o := range sortedOrigins(r.Effects) {
		e := r.Effects[o]
		fmt.Fprintf(&b, "%s: %s", o, cmpstd.Or(e.Weights, strconv.Itoa(e.Routes)+" routes"))
		for _, backend := range e.Backends {
			fmt.Fprintf(&b, ", backend %s", backend)
		}
		for _, end := range e.FaultsEnd {
			fmt.Fprintf(&b, ", a fault until %s", end.Format(time.RFC3339))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func sortedOrigins[V any](m map[Origin]V) []Origin {
	var out []Origin
	for o := range m {
		out = append(out, o)
	}
	slices.SortFunc(out, compareOrigins)
	return out
}

func sectionText(t *testing.T, r *Result, what string) []byte {
	t.Helper()
	var m proto.Message
	kind, of, _ := strings.Cut(what, " ")
	switch kind {
	case "address":
		m = r.Address(netip.MustParseAddr(of))
	case "binding", "inbound":
		i := slices.IndexFunc(r.pods, func(p *pod) bool { return p.key == of })
		binding, ok := r.Sections[meshconfig.BindingName(r.pods[max(0, i)].uid)].(*meshconfig.Binding)
		if i < 0 || !ok {
			return []byte("none\n")
		}
		if m = binding; kind == "inbound" {
			m = r.Sections[meshconfig.Name(binding.GetInbound())]
		}
	default:
		if m = r.Sections[meshconfig.Name(what)]; m == nil {
			return []byte("none\n")
		}
	}
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// built makes of a section what proxies run.
func built(m proto.Message) error {
	var errs []error
	switch m := m.(type) {
	case *meshconfig.Routes:
		for _, port := range m.GetPorts() {
			_, err := evaluate.NewRouter(port)
			errs = append(errs, err)
		}
		for _, cluster := range m.GetClusters() {
			_, err := evaluate.NewKeys(cluster.GetBalancing().GetHash())
			errs = append(errs, err)
		}
	case *meshconfig.Inbound:
		for _, port := range append(m.GetPorts(), m.GetDefaultPolicy()) {
			_, err := evaluate.NewRateLimits(port)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkResult asserts what holds for every result.
func checkResult(t testing.TB, r *Result) {
	t.Helper()
	for name, m := range r.Sections {
		if mesh, ok := m.(*meshconfig.Mesh); ok && len(mesh.GetWorkloadRoots()) == 0 {
			continue // tests that are not about roots have none
		}
		if err := meshconfig.Validate(name, m); err != nil {
			t.Errorf("a proxy would refuse: %v", err)
		}
		if err := built(m); err != nil {
			t.Errorf("%s: a proxy would refuse: %v", name, err)
		}
		if meshconfig.Encode(m) == nil {
			t.Errorf("section %s has no encoding", name)
		}
		if _, err := meshconfig.ParseName(string(name)); err != nil {
			t.Error(err)
		}
	}
	if len(r.Findings)%3 != 0 {
		t.Errorf("%d findings: want three of each object", len(r.Findings))
	}
	for origin, names := range r.Shaped {
		for _, name := range names {
			if r.Sections[name] == nil {
				t.Errorf("%s shaped %s, which there is not", origin, name)
			}
		}
	}
}
