// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

var update = flag.Bool("update", false, "rewrite the expected part of the golden files")

// TestGolden has requests decided on by testdata/golden/<case>.txtar. The files of a case:
//
//	port      a ServicePort with routes, as text of protobuf; it gets a backend
//	requests  in the form of HTTP/1.1, each ended by an empty line; X-Caller is the SPIFFE ID of who asks
//	want      for each the route, and what its filters make of the request and of the answer "X-Old: 1"
//
// Together they have every field and every kind of match and filter.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	used := make(map[string]bool)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runGolden(t, file, used) })
	}
	for _, m := range []protoreflect.ProtoMessage{&meshconfig.Match{}, &meshconfig.Filters{}} {
		for _, name := range partsOf(m.ProtoReflect().Descriptor()) {
			if !used[name] {
				t.Errorf("no golden file has %s", name)
			}
		}
	}
}

func runGolden(t *testing.T, file string, used map[string]bool) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port, got := &meshconfig.ServicePort{}, &txtar.Archive{Comment: archive.Comment}
	var want bytes.Buffer
	for _, f := range archive.Files {
		switch f.Name {
		case "port":
			if err := prototext.Unmarshal(f.Data, port); err != nil {
				t.Fatal(err)
			}
		case "requests":
			port.Backends = []*meshconfig.WeightedBackend{{Name: "a", Service: "a.shop", Port: 80, Weight: 1}}
			router, err := NewRouter(port)
			if err != nil {
				t.Fatal(err)
			}
			for text := range strings.SplitSeq(strings.TrimSpace(string(f.Data)), "\n\n") {
				decide(t, &want, router, text)
			}
		default:
			continue
		}
		got.Files = append(got.Files, f)
	}
	note(t, port, used)
	got.Files = append(got.Files, txtar.File{Name: "want", Data: want.Bytes()})
	text := txtar.Format(got)
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if before, _ := os.ReadFile(file); !bytes.Equal(before, text) {
		t.Errorf("run go test ./internal/evaluate -run Golden -update and look at the difference: got\n%s", want.String())
	}
}

// decide writes what becomes of a request.
func decide(t *testing.T, out *bytes.Buffer, router *Router, text string) {
	t.Helper()
	all := strings.Split(text, "\n")
	method, rest, _ := strings.Cut(all[0], " ")
	path, query, _ := strings.Cut(strings.TrimSuffix(rest, " HTTP/1.1"), "?")
	request, headers, fields := &Request{Method: method, Query: query}, HeaderList{}, lines{}
	var ok bool
	if request.Path, ok = NormalizePath(path); !ok {
		t.Fatalf("path %q", path)
	}
	for _, line := range all[1:] {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Host":
			request.Authority = value
		case "X-Caller":
			id, err := identity.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			request.Caller = &id
		default:
			headers, fields = append(headers, HeaderField{Name: name, Value: value}), append(fields, line)
		}
	}
	request.Headers = headers
	choice := router.Route(request)
	fmt.Fprintf(out, "%s\n\troute: %q\n", strings.ReplaceAll(text, "\n", " | "), choice.Route.Name)
	if f := choice.Route.Filters; f != nil {
		filter(out, f, request, choice.Prefix, fields)
	}
}

// filter writes what filters make of a request and of an answer.
func filter(out *bytes.Buffer, f *Filters, request *Request, prefix string, fields lines) {
	if f.RequestHeaders != nil {
		f.RequestHeaders.Apply(&fields)
		fmt.Fprintf(out, "\theaders: %s\n", strings.Join(fields, " | "))
	}
	if f.Host != "" {
		fmt.Fprintf(out, "\thost: %s\n", f.Host)
	}
	if f.Path != nil {
		fmt.Fprintf(out, "\tpath: %s\n", f.Path.Rewrite(request.Path, prefix))
	}
	if f.Redirect != nil {
		fmt.Fprintf(out, "\tredirect: %d %s\n", f.Redirect.Status, f.Redirect.Location(request, "http", prefix))
	}
	if f.ResponseHeaders != nil {
		answer := lines{"X-Old: 1"}
		f.ResponseHeaders.Apply(&answer)
		fmt.Fprintf(out, "\tanswer: %s\n", strings.Join(answer, " | "))
	}
	if f.Mirror != nil {
		fmt.Fprintf(out, "\tmirror: of the lowest lot %v, of the highest %v\n", f.Mirror.Draws(0), f.Mirror.Draws(1<<64-1))
	}
}

// partsOf names the fields of a message and of those in it, and the values of enums, but for what a backend is.
func partsOf(d protoreflect.MessageDescriptor) []string {
	var out []string
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		out = append(out, string(f.FullName()))
		if e := f.Enum(); e != nil {
			for i := 1; i < e.Values().Len(); i++ { // after "unspecified"
				out = append(out, string(f.FullName())+"="+string(e.Values().Get(i).Name()))
			}
		}
		if m := f.Message(); m != nil && m.Name() != "WeightedBackend" {
			out = append(out, partsOf(m)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// note notes what a port has of partsOf.
func note(t *testing.T, port *meshconfig.ServicePort, used map[string]bool) {
	t.Helper()
	err := protorange.Range(port.ProtoReflect(), func(p protopath.Values) error {
		last := p.Index(-1)
		if last.Step.Kind() != protopath.FieldAccessStep {
			return nil
		}
		f := last.Step.FieldDescriptor()
		used[string(f.FullName())] = true
		if e := f.Enum(); e != nil && !f.IsList() {
			used[string(f.FullName())+"="+string(e.Values().ByNumber(last.Value.Enum()).Name())] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
