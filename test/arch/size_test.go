// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A binary under the floor has won something: lower the ceiling with it, so that it stays won.
const (
	proxyFloor   = 8 << 20
	proxyCeiling = 13 << 20
)

func TestTheProxyBinaryStaysSlim(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "proxy")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/proxy")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("proxy: %.1f MiB stripped", float64(info.Size())/(1<<20))
	if info.Size() < proxyFloor || info.Size() > proxyCeiling {
		t.Errorf("the stripped proxy has %d bytes, want %d to %d", info.Size(), proxyFloor, proxyCeiling)
	}
}

var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "bundle", "config"}

var sleep = []byte("time." + "Sleep(")

func TestSizesAndNames(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	if len(files) < 20 {
		t.Fatalf("only %d Go files found", len(files))
	}
	for _, file := range files {
		if dir := filepath.Base(filepath.Dir(file)); slices.Contains(bannedNames, dir) {
			t.Errorf("%s: a package called %s says nothing of what is in it", file, dir)
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content[:min(len(content), 1024)], []byte("Code generated")) {
			continue
		}
		limit := 400
		if strings.HasSuffix(file, "_test.go") {
			limit = 800
		}
		if lines := bytes.Count(content, []byte("\n")); lines > limit {
			t.Errorf("%s: %d lines, at most %d", file, lines, limit)
		}
		if !bytes.HasPrefix(content, []byte("// SPDX-License-Identifier: Apache-2.0\n")) {
			t.Errorf("%s: does not begin with its SPDX-License-Identifier line", file)
		}
		if bytes.Contains(content, sleep) && !bytes.Contains(content, []byte(`"testing/synctest"`)) {
			t.Errorf("%s: sleeps outside a synctest bubble: wait for what is to happen", file)
		}
	}
}
