// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// files are the paths of -f, with the last good content of each file. A file that is wrong keeps what it had.
type files struct {
	paths   []string // files and directories
	decoder runtime.Decoder
	known   map[string]*file
}

// file is one file as it was read last.
type file struct {
	stamp   stamp
	objects []client.Object
	err     error // of the last reading; objects are those before
}

// stamp tells whether a file was written to.
type stamp struct {
	size     int64
	modified time.Time
}

func newFiles(paths []string) (*files, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return &files{
		paths: paths, known: make(map[string]*file),
		decoder: serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Strict: true}),
	}, nil
}

// stamps says which files there are, and when each was written to.
func (f *files) stamps() (map[string]stamp, error) {
	out := make(map[string]stamp)
	for _, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out[path] = stamp{info.Size(), info.ModTime()}
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			if !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			// A file that goes meanwhile is none.
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				out[name] = stamp{info.Size(), info.ModTime()}
			}
		}
	}
	return out, nil
}

// read reads the files that were written to since the last time. It returns what is wrong with these.
func (f *files) read(stamps map[string]stamp) []error {
	for name := range f.known {
		if _, ok := stamps[name]; !ok {
			delete(f.known, name)
		}
	}
	var errs []error
	for _, name := range sortedKeys(stamps) {
		known := f.known[name]
		if known == nil {
			known = &file{}
			f.known[name] = known
		} else if known.stamp == stamps[name] {
			continue
		}
		known.stamp = stamps[name]
		objects, err := f.decodeFile(name)
		if err == nil {
			err = f.duplicates(name, objects)
		}
		if known.err = err; err != nil {
			errs = append(errs, err)
			continue
		}
		known.objects = objects
	}
	return errs
}

// objects returns all objects, and which file each is from.
func (f *files) objects() ([]client.Object, map[string]string) {
	var out []client.Object
	from := make(map[string]string)
	for _, name := range sortedKeys(f.known) {
		for _, o := range f.known[name].objects {
			out = append(out, o)
			from[describe(o)] = name
		}
	}
	return out, from
}

// duplicates finds objects that another file has, or the same one twice.
func (f *files) duplicates(name string, objects []client.Object) error {
	from := make(map[string]string)
	for other, known := range f.known {
		for _, o := range known.objects {
			if other != name {
				from[describe(o)] = other
			}
		}
	}
	for _, o := range objects {
		if other, ok := from[describe(o)]; ok {
			return fmt.Errorf("%s: %s: %s has it too", name, describe(o), other)
		}
		from[describe(o)] = name
	}
	return nil
}

// describe is an object as messages show it: "TrafficSplit shop/checkout".
func describe(o client.Object) string {
	return o.GetObjectKind().GroupVersionKind().Kind + " " + o.GetNamespace() + "/" + o.GetName()
}

func (f *files) decodeFile(name string) ([]client.Object, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	objects, err := f.decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return objects, nil
}

// decode reads documents of YAML or JSON. Kinds that say nothing to the mesh are left out.
func (f *files) decode(data []byte) ([]client.Object, error) {
	var out []client.Object
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		var objects []client.Object
		if err == nil {
			objects, err = f.decodeDocument(document)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		out = append(out, objects...)
	}
}

func (f *files) decodeDocument(document []byte) ([]client.Object, error) {
	raw, err := yaml.YAMLToJSONStrict(document)
	if err != nil || string(raw) == "null" {
		return nil, err
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	if head.Kind == "List" && head.APIVersion == "v1" {
		var out []client.Object
		for i, item := range head.Items {
			objects, err := f.decodeDocument(item)
			if err != nil {
				return nil, fmt.Errorf("items[%d]: %w", i, err)
			}
			out = append(out, objects...)
		}
		return out, nil
	}
	what := fmt.Sprintf("%s %s/%s", head.Kind, cmp.Or(head.Metadata.Namespace, metav1.NamespaceDefault), head.Metadata.Name)
	if head.Kind == "" || head.APIVersion == "" {
		return nil, fmt.Errorf("%s: apiVersion and kind: required", what)
	}
	group := head.GroupVersionKind().Group
	decoded, _, err := f.decoder.Decode(raw, nil, nil)
	switch {
	case runtime.IsNotRegisteredError(err) && group != v1alpha1.GroupName:
		return nil, nil // a Deployment, say
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	object, ok := decoded.(client.Object)
	if !ok || !isRead(object) {
		return nil, nil
	}
	object.GetObjectKind().SetGroupVersionKind(head.GroupVersionKind())
	if object.GetName() == "" {
		return nil, fmt.Errorf("%s: metadata.name: required", what)
	}
	object.SetNamespace(cmp.Or(object.GetNamespace(), metav1.NamespaceDefault))
	if err := checkEndpoints(object); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return []client.Object{object}, nil
}

// isRead says whether the sandbox reads a kind.
func isRead(o client.Object) bool {
	switch o.(type) {
	case *corev1.Service, *corev1.Pod, *discoveryv1.EndpointSlice,
		*v1alpha1.TrafficSplit, *v1alpha1.ServiceProfile, *v1alpha1.MeshPolicy:
		return true
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
