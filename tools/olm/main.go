// SPDX-License-Identifier: Apache-2.0

// Bundle writes the OLM bundle of Heddle (format registry+v1) from config/, so that both say the same:
//
//	bundle [-root DIR] [-version 0.1.0] [-created-at 2026-01-31T12:00:00Z]
//
// The bundle is config/default without config/olm, which holds what a bundle cannot. The same input gives the same bytes.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// options say what a bundle is made from and what it is called.
type options struct {
	root      string // of the repository
	version   string // semantic, without v; empty: what the file VERSION says
	createdAt string // RFC 3339; empty: the bundle does not say
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bundle: ")
	var o options
	flag.StringVar(&o.root, "root", ".", "the repository")
	flag.StringVar(&o.version, "version", "", "the version, in place of what the file VERSION says")
	flag.StringVar(&o.createdAt, "created-at", "", "when the release was made, RFC 3339; left out when empty")
	flag.Parse()
	files, err := generate(o)
	if err == nil {
		err = write(filepath.Join(o.root, "bundle"), files)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// generate returns the bundle's files by their slash-separated path in bundle/.
func generate(o options) (map[string][]byte, error) {
	if o.version == "" {
		b, err := os.ReadFile(filepath.Join(o.root, "VERSION"))
		if err != nil {
			return nil, err
		}
		o.version = strings.TrimSpace(string(b))
	}
	if !semver.MatchString(o.version) {
		return nil, fmt.Errorf("version %q: want a semantic version such as 0.1.0", o.version)
	}
	rendered := map[string][]object{}
	for _, name := range []string{"default", "olm", "samples"} {
		objects, err := render(filepath.Join(o.root, "config", name))
		if err != nil {
			return nil, fmt.Errorf("config/%s: %w", name, err)
		}
		rendered[name] = objects
	}
	c, err := divide(rendered["default"], rendered["olm"])
	if err != nil {
		return nil, err
	}
	csv, err := clusterServiceVersion(o, c, rendered["samples"])
	if err != nil {
		return nil, err
	}
	return files(csv, c)
}

// write makes the folder hold these files and none from before. It leaves alone what is beside the bundle's folders.
func write(dir string, files map[string][]byte) error {
	for _, part := range []string{"manifests", "metadata", "tests"} {
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			return err
		}
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
