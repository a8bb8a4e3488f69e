// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/peers"
)

// The generated parts of docs/performance.md lie between these: of the peers, and of the features.
const (
	beginMark    = "<!-- bench: generated from here by `make bench` -->"
	endMark      = "<!-- bench: to here -->"
	featuresMark = "<!-- bench: the features, generated from here by `make bench` -->"
	featuresEnd  = "<!-- bench: the features, to here -->"
)

// finish prints what was measured and, if asked to, writes it down. Of a run that was cut short it keeps the raw results
// alone.
func (r *run) finish(whole bool) error {
	if r.merge != "" {
		if err := r.report.mergeWith(r.merge); err != nil {
			return err
		}
	}
	if err := errors.Join(r.report.print(r.out), r.report.printLimits(r.out), r.report.printFeatures(r.out)); err != nil {
		return err
	}
	fmt.Fprintln(r.out)
	for _, v := range r.report.verdicts() {
		if v.Verdict != unmeasured || r.write {
			fmt.Fprintf(r.out, "%s: %s, %s: %s\n", v.Target, v.Limit, v.Measured, v.Verdict)
		}
	}
	if !r.write {
		return nil
	}
	return r.save(whole)
}

// save writes the raw results, and of a whole run the plots and the page.
func (r *run) save(whole bool) error {
	raw, err := json.MarshalIndent(r.report, "", " ")
	if err != nil {
		return err
	}
	results := filepath.Join(r.site.Root, "test", "bench", "results")
	pictures := filepath.Join(r.site.Root, "docs", "performance")
	for _, dir := range []string{results, pictures} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	name := r.report.Began.Format("2006-01-02T1504") + ".json"
	if err := os.WriteFile(filepath.Join(results, name), append(raw, '\n'), 0o644); err != nil { //nolint:gosec // to be read by all
		return err
	}
	if !whole {
		return nil
	}
	raws := fmt.Sprintf("Raw: [test/bench/results/%s](../test/bench/results/%s).\n\n", name, name)
	page := filepath.Join(r.site.Root, "docs", "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	replaced := string(text)
	if len(r.report.Measurements)+len(r.report.Memory)+len(r.report.Limits) > 0 {
		if err := r.report.plot(pictures); err != nil {
			return err
		}
		if replaced, err = between(replaced, beginMark, endMark, raws+r.report.markdown()); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	if len(r.report.Features) > 0 {
		if replaced, err = between(replaced, featuresMark, featuresEnd, raws+r.report.featuresTable()); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	return os.WriteFile(page, []byte(replaced), 0o644) //nolint:gosec // to be read by all
}

func (r *report) plot(dir string) error {
	for _, p := range plotted {
		if err := os.WriteFile(filepath.Join(dir, p.file+".svg"), []byte(r.svg(p)), 0o644); err != nil { //nolint:gosec // to be read by all
			return err
		}
	}
	return nil
}

// reread makes the report of an earlier run.
func (r *run) reread() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	r.site = &peers.Site{Root: root}
	r.report = newReport(r)
	raw, err := os.ReadFile(r.from)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, r.report); err != nil {
		return fmt.Errorf("%s: %w", r.from, err)
	}
	if r.note != "" {
		r.report.Note = r.note
	}
	for _, m := range r.report.Measurements {
		r.report.by[m.key()] = append(r.report.by[m.key()], m)
	}
	return r.finish(true)
}

// between puts text between two marks of a page.
func between(page, begin, end, text string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	if !ok {
		return "", fmt.Errorf("no line %q", begin)
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("no line %q", end)
	}
	return before + begin + "\n\n" + text + "\n" + end + after, nil
}

// mergeWith takes from an earlier result what this run didn't measure. Ratios are never made across runs: a work is
// taken with all its peers or not at all. Memory is each peer's own.
func (r *report) mergeWith(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var earlier report
	if err := json.Unmarshal(raw, &earlier); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	type what struct {
		topology, work string
		open           bool
	}
	mine := map[what]bool{}
	for _, m := range r.Measurements {
		mine[what{string(m.Topology), m.Work, m.Rate > 0}] = true
	}
	for _, m := range earlier.Measurements {
		if !mine[what{string(m.Topology), m.Work, m.Rate > 0}] {
			r.Measurements = append(r.Measurements, m)
			k := m.key()
			r.by[k] = append(r.by[k], m)
		}
	}
	for _, m := range earlier.Memory {
		if !slices.ContainsFunc(r.Memory, func(mine memory) bool { return mine.Peer == m.Peer }) {
			r.Memory = append(r.Memory, m)
		}
	}
	if len(r.Limits) == 0 {
		r.Limits = earlier.Limits
	}
	measured := r.featureNames()
	for _, f := range earlier.Features {
		if !slices.Contains(measured, f.Feature) {
			r.Features = append(r.Features, f)
		}
	}
	for name, version := range earlier.Versions {
		if _, ok := r.Versions[name]; !ok {
			r.Versions[name], r.Binaries[name] = version, earlier.Binaries[name]
		}
	}
	r.Rounds = max(r.Rounds, earlier.Rounds)
	r.Problems = append(r.Problems, earlier.Problems...)
	return nil
}
