// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// readyWait is how long a proxy may take until it is ready, on a machine that is busy.
	readyWait = 60 * time.Second
	// endWait is how long one may take to end: longer than it waits for what runs.
	endWait = 10 * time.Second
)

// process is a proxy that was started.
type process struct {
	*side
	cmd   *exec.Cmd
	dir   string        // where it runs
	ended chan struct{} // closed after err is set
	err   error
	token string
	asked bool // it was told to end
}

// starter starts processes on one thread that stays until stop: on Linux a process is told when the thread that started it
// is gone, and so none outlives the sandbox, even one that was killed.
type starter struct {
	work chan func()
	done chan struct{}
}

func newStarter() *starter {
	s := &starter{work: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		for f := range s.work {
			f()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = attributes()
	err := make(chan error)
	s.work <- func() { err <- cmd.Start() }
	return <-err
}

// stop ends the thread, once all processes have ended.
func (s *starter) stop() {
	close(s.work)
	<-s.done
}

// launch starts the proxy of a side. dir is its own, and holds what the kubelet would mount.
func (r *runner) launch(s *side, podUID, token string) (*process, error) {
	dir, err := os.MkdirTemp(r.dir, "p")
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		"operator.pem": r.control.servingPEM(), "config.pem": r.control.configPEM(), "token": []byte(token),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	p := &process{side: s, dir: dir, token: token, ended: make(chan struct{})}
	p.cmd = exec.Command(r.options.Proxy, append(s.arguments(), r.options.ProxyArgs...)...) //nolint:gosec,noctx // the user's choice; it is ended in order
	p.cmd.Env = append(append(defaults(), os.Environ()...), r.options.ProxyEnv...)
	p.cmd.Env = append(p.cmd.Env,
		"HEDDLE_POD_NAME="+s.pod.Name, "HEDDLE_POD_NAMESPACE="+s.pod.Namespace, "HEDDLE_POD_UID="+podUID,
		"HEDDLE_SERVICE_ACCOUNT="+s.account, "HEDDLE_POD_IPS="+s.addresses(), "HEDDLE_NODE_NAME=sandbox",
		"HEDDLE_CONTROL_ADDRESS="+r.control.address(), "HEDDLE_CONTROL_SERVER_NAME="+serverName,
		"HEDDLE_MESH_ID="+r.control.meshID, "HEDDLE_TRUST_DOMAIN="+r.options.TrustDomain,
		"HEDDLE_STATE_DIR=state", "HEDDLE_ROOTS_DIR=.", "HEDDLE_TOKEN_FILE=token",
	)
	p.cmd.Dir = dir // the path of a socket must be short, which that of a temporary directory need not be
	log := &prefixed{out: r.log, prefix: "[" + s.title() + "] "}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.WaitDelay = time.Second
	if err := r.starter.start(p.cmd); err != nil {
		return nil, fmt.Errorf("start the proxy of %s: %w", s.title(), err)
	}
	r.waiting.Go(func() {
		p.err = p.cmd.Wait()
		log.flush()
		close(p.ended)
		_ = os.RemoveAll(dir)
		select {
		case r.exits <- p:
		case <-r.over:
		}
	})
	return p, nil
}

// defaults are what a proxy is told unless the environment or a flag say something else.
func defaults() []string { return []string{"HEDDLE_LOG_LEVEL=warn"} }

// title names a side in logs.
func (s *side) title() string {
	if s.client {
		return "client of " + s.service
	}
	return "server of " + s.service
}

// awaitReady waits until the proxy can carry traffic.
func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	last := "it does not answer"
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin.String()+"/ready", http.NoBody)
		if err != nil {
			return err
		}
		if response, err := transport.RoundTrip(request); err == nil {
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			last = strings.TrimSpace(string(body))
		}
		select {
		case <-p.ended:
			return fmt.Errorf("the proxy ended: %w", errors.Join(p.err, errEnded))
		case <-ctx.Done():
			return fmt.Errorf("the proxy is not ready: %s: %w", last, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

var errEnded = errors.New("see its log above")

// end tells the processes to end, and kills those that do not.
func end(processes []*process) {
	for _, p := range processes {
		p.asked = true
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs none
	}
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	for _, p := range processes {
		select {
		case <-p.ended:
		case <-timer.C:
			timer.Reset(0) // the others have had their time too
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
}

// prefixed writes whole lines with a prefix.
type prefixed struct {
	out    *locked
	prefix string
	rest   []byte
}

// Write implements io.Writer.
func (w *prefixed) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.out.line(w.prefix, w.rest[:i+1])
		w.rest = w.rest[i+1:]
	}
}

// flush writes a last line that did not end.
func (w *prefixed) flush() {
	if len(w.rest) > 0 {
		w.out.line(w.prefix, append(w.rest, '\n'))
		w.rest = nil
	}
}

// locked is a writer of lines for many.
type locked struct {
	mu  sync.Mutex
	out *bufio.Writer
}

func (l *locked) line(prefix string, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.out.WriteString(prefix)
	_, _ = l.out.Write(line)
	_ = l.out.Flush()
}

// printf writes one line.
func (l *locked) printf(format string, args ...any) {
	l.line("", fmt.Appendf(nil, format+"\n", args...))
}
