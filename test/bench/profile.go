// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// profileSeconds is how long each work is looked at.
const profileSeconds = 10

// profileOf is where Heddle's two sides together spend their processor's time under one work.
type profileOf struct {
	Work string `json:"work"`
	Top  string `json:"top"`
}

// profiles looks at the pair of Heddle under every work that is asked for, apart from what is measured: looking costs a
// few percent. It writes a file for each side and work into a folder, and a merged one if asked to.
func (r *run) profiles(ctx context.Context, dir, merged string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	i, err := peers.Heddle(ours, r.heddle, r.proxy).Start(r.site, peers.Pair)
	if err != nil {
		return err
	}
	defer i.Stop()
	var all []string
	for _, w := range selected(r.only, true, r.work) {
		if !w.target(i).IsValid() {
			continue
		}
		files, err := r.profile(ctx, i, w, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		top, err := pprof(ctx, append([]string{"-top", "-nodecount=20"}, files...)...)
		if err != nil {
			return err
		}
		r.report.Profiles = append(r.report.Profiles, profileOf{w.Name, top})
		fmt.Fprintf(r.out, "\n%s\n%s", w.Name, top)
		all = append(all, files...)
	}
	if merged == "" {
		return nil
	}
	_, err = pprof(ctx, append([]string{"-proto", "-output=" + merged}, all...)...)
	return err
}

// profile loads the pair and takes a profile of each side meanwhile.
func (r *run) profile(ctx context.Context, i *peers.Instance, w work, dir string) ([]string, error) {
	l := r.loadOf(w, i, 0, 0)
	l.Warmup, l.Duration = time.Second, (profileSeconds+1)*time.Second
	var group sync.WaitGroup
	var failed [3]error
	var files []string
	for n, side := range []struct {
		name string
		pids []int
	}{{"client", i.Client()}, {"server", i.Server()}} {
		if len(side.pids) != 1 {
			return nil, fmt.Errorf("%d processes of the %s side", len(side.pids), side.name)
		}
		if w.Protocol == traffic.Handshakes && side.name == "client" {
			continue
		}
		file := filepath.Join(dir, slug(w.Name)+"-"+side.name+".pprof")
		files = append(files, file)
		group.Go(func() {
			if failed[n] = pause(ctx, 2*time.Second); failed[n] == nil {
				failed[n] = takeProfile(ctx, side.pids[0], file)
			}
		})
	}
	_, failed[2] = r.generate(ctx, l)
	group.Wait()
	return files, errors.Join(failed[:]...)
}

// takeProfile asks a proxy on its admin socket, which lies in its state's folder.
func takeProfile(ctx context.Context, pid int, file string) error {
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return err
	}
	dir := stateDir(string(environment))
	if dir == "" {
		return fmt.Errorf("process %d has no state directory", pid)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(fmt.Sprintf("/proc/%d/cwd", pid), dir)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(admin.NewClient(filepath.Join(dir, "admin.sock")).Profile(ctx, profileSeconds, out), out.Close())
}

// stateDir finds HEDDLE_STATE_DIR in the environment of a process, as /proc has it.
func stateDir(environment string) string {
	for variable := range strings.SplitSeq(environment, "\x00") {
		if value, ok := strings.CutPrefix(variable, "HEDDLE_STATE_DIR="); ok {
			return value
		}
	}
	return ""
}

// pprof runs `go tool pprof`.
func pprof(ctx context.Context, args ...string) (string, error) {
	var problems strings.Builder
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w: %s", err, problems.String())
	}
	return string(out), nil
}

// slug turns a name into one of a file.
func slug(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
