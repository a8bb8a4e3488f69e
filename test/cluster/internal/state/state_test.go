// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestAlive(t *testing.T) {
	self, err := Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.Alive() {
		t.Error("this process is not alive")
	}
	if (Process{PID: self.PID, Start: self.Start + "0"}).Alive() {
		t.Error("a process of the same id that started at another time is taken for this one")
	}
}

func TestAliveEnds(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Find(cmd.Process.Pid)
	if err != nil || !p.Alive() {
		t.Fatalf("the child is not alive: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("a child that ended is alive")
	}
}

func TestNodeRoundTrip(t *testing.T) {
	dir := t.TempDir()
	if n, err := Read(dir); n != nil || err != nil {
		t.Fatalf("Read of an empty folder: %v, %v", n, err)
	}
	want := Node{Process{PID: 7, Start: "42"}, []string{"/sys/fs/cgroup/x"}}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Process != want.Process || !slices.Equal(got.Cgroups, want.Cgroups) {
		t.Errorf("wrote %+v, read %+v", want, *got)
	}
	if err := os.WriteFile(name(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a damaged file was read without an error")
	}
}
