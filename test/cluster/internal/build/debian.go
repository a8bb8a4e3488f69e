// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// signs are what shows that a Debian package, or its like elsewhere, is there.
var signs = map[string]string{
	"gcc":            "gcc",
	"pkg-config":     "pkg-config",
	"nftables":       "nft",
	"libseccomp-dev": "/usr/include/seccomp.h",
}

// install installs those Debian packages that are missing, or says which.
func install(ctx context.Context, packages []string) error {
	missing := absent(packages)
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("missing: %s; install these Debian packages, or what your system calls them, and try again", list)
	}
	log.Printf("installing %s", list)
	for _, arguments := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", arguments...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("installing %s by apt-get %s: %w\n%s", list, arguments[0], err, out)
		}
	}
	if still := absent(missing); len(still) > 0 {
		return fmt.Errorf("%s: installed, but %s is not there", list, signs[still[0]])
	}
	return nil
}

func absent(packages []string) (missing []string) {
	for _, p := range packages {
		sign := signs[p]
		if filepath.IsAbs(sign) {
			if _, err := os.Stat(sign); err == nil {
				continue
			}
		} else if _, err := exec.LookPath(sign); err == nil {
			continue
		}
		missing = append(missing, p)
	}
	return missing
}
