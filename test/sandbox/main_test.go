// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// binaries is where TestMain puts heddle and heddle-proxy.
var binaries string

func TestMain(m *testing.M) {
	var err error
	if binaries, err = os.MkdirTemp("", "heddle-binaries-"); err == nil {
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(binaries)
		os.Exit(code)
	}))
}

func build() error {
	for name, pkg := range map[string]string{"heddle": "cmd/heddle", "heddle-proxy": "cmd/proxy"} {
		args := append([]string{"build", "-o", filepath.Join(binaries, name)}, buildFlags...)
		cmd := exec.Command("go", append(args, "github.com/heddle-mesh/heddle/"+pkg)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}
