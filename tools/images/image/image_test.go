// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEqualFilesMakeEqualImages(t *testing.T) {
	digest := func(program string, age time.Duration) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		img, err := Build(Spec{Files: map[string]string{"/bin/program": file}, Entrypoint: []string{"/bin/program"}, User: "1337:1337"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	if a, b := digest("x", 0), digest("x", time.Hour); a != b {
		t.Errorf("%s and %s", a, b)
	}
	if a, b := digest("x", 0), digest("y", 0); a == b {
		t.Error("different programs make equal images")
	}
}

func TestPathsInAnImageAreAbsolute(t *testing.T) {
	if _, err := Build(Spec{Files: map[string]string{"bin/program": os.Args[0]}}); err == nil {
		t.Error("a relative path is accepted")
	}
}
