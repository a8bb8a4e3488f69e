// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outsideEnv holds the network namespace of whoever started the test, while it runs in one of its own.
const outsideEnv = "HEDDLE_TEST_OUTSIDE_NETNS"

// inPod runs the rest of the test in a process with a network namespace of its own, because a redirect in the machine's
// would cut the machine off. It returns false in the outer process.
func inPod(t *testing.T) bool {
	t.Helper()
	if outside := os.Getenv(outsideEnv); outside != "" {
		if outside == netns(t) {
			t.Fatal("the network namespace is still the machine's")
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: run it as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the command ip of iproute2")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), outsideEnv+"="+netns(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespace:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func netns(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func run(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// outside is a second namespace, joined to the pod's by a veth: a thread that never runs anything else.
type outside struct{ work chan func() }

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{work: make(chan func())}
	tid := make(chan int, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		tid <- unix.Gettid()
		for f := range o.work {
			f()
		}
	}()
	select {
	case err := <-failed:
		t.Fatal(err)
	case id := <-tid:
		run(t, "ip link set lo up")
		run(t, "ip link add eth0 type veth peer name out0")
		run(t, fmt.Sprintf("ip link set out0 netns %d", id))
	}
	t.Cleanup(func() { close(o.work) })
	for _, command := range []string{
		"ip addr add 10.77.0.2/24 dev eth0", "ip addr add fd77::2/64 dev eth0 nodad", "ip link set eth0 up",
	} {
		run(t, command)
	}
	o.do(func() {
		for _, command := range []string{
			"ip link set lo up", "ip addr add 10.77.0.1/24 dev out0", "ip addr add 10.77.0.9/24 dev out0",
			"ip addr add fd77::1/64 dev out0 nodad", "ip link set out0 up",
		} {
			run(t, command)
		}
	})
	return o
}

func (o *outside) do(f func()) {
	done := make(chan struct{})
	o.work <- func() { defer close(done); f() }
	<-done
}

// serve answers every connection with a line: the listener's name and the original destination.
func serve(t *testing.T, name string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dst, err := OriginalDestination(c.(*net.TCPConn))
			switch {
			case errors.Is(err, ErrNotRedirected):
				_, _ = fmt.Fprintf(c, "%s\n", name)
			case err != nil:
				_, _ = fmt.Fprintf(c, "%s %v\n", name, err)
			default:
				_, _ = fmt.Fprintf(c, "%s %v\n", name, dst)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

// dial connects as a user, from a source if one is given, and returns the line it is answered.
func dial(uid int, source, dst string) string {
	runtime.LockOSThread() // the uid is the thread's
	defer runtime.UnlockOSThread()
	if uid != 0 {
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			return err.Error()
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	if source != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
	}
	c, err := d.DialContext(context.Background(), "tcp", dst)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}
