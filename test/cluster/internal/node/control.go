// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// The protocol of the control socket: one line in, the answer out, end. An answer that begins with failure is an error.
const (
	failure    = "error: "
	maxRequest = 128
	askTimeout = 40 * time.Second // longer than a stop or start may take
	startLimit = 30 * time.Second
)

// serve answers requests until the context ends.
func (s *supervisor) serve(ctx context.Context, listener net.Listener) {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("control socket: %v", err)
			return
		}
		go func() {
			defer conn.Close()
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			_ = conn.SetDeadline(time.Now().Add(askTimeout))
			line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadString('\n')
			if err != nil {
				return
			}
			answer, err := s.answer(ctx, strings.Fields(line))
			if err != nil {
				answer = failure + err.Error()
			}
			_, _ = io.WriteString(conn, answer)
		}()
	}
}

func (s *supervisor) answer(ctx context.Context, request []string) (string, error) {
	if len(request) == 1 && request[0] == "status" {
		var out strings.Builder
		for _, u := range s.units {
			fmt.Fprintln(&out, u)
		}
		return out.String(), nil
	}
	if len(request) != 2 {
		return "", fmt.Errorf("request %q: want status, start DAEMON or stop DAEMON", request)
	}
	i := slices.IndexFunc(s.units, func(u *unit) bool { return u.name == request[1] })
	if i < 0 {
		return "", fmt.Errorf("no daemon %q; there are %s", request[1], strings.Join(Daemons(), ", "))
	}
	switch request[0] {
	case "stop":
		return "", s.units[i].stop(ctx, s.patience)
	case "start":
		s.units[i].want(true)
		return "", s.settle(ctx, s.units[i])
	default:
		return "", fmt.Errorf("cannot %s a daemon, only start and stop it", request[0])
	}
}

// settle waits until a daemon runs and, where that can be asked, answers.
func (s *supervisor) settle(ctx context.Context, u *unit) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	running := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.pid != 0
	}
	if err := poll(ctx, running); err != nil {
		return fmt.Errorf("%s does not start: %w", u.name, err)
	}
	ready := map[string]condition{"apiserver": apiReady, "containerd": runtimeReady}[u.name]
	if err := await(ctx, s.home, ready); err != nil {
		return fmt.Errorf("%s runs but is not ready: %w", u.name, err)
	}
	return nil
}

// Daemons are the names of what can be started and stopped.
func Daemons() (names []string) {
	for _, d := range daemons("") {
		names = append(names, d.name)
	}
	return names
}

// Ask sends a request to a running node and returns its answer.
func Ask(ctx context.Context, h home.Home, request string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", h.Control())
	if err != nil {
		return "", fmt.Errorf("the node does not answer (is the cluster down? run `cluster up`): %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := fmt.Fprintln(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("no answer to %q: %w", request, errors.Join(err, ctx.Err()))
	}
	if text, failed := strings.CutPrefix(string(answer), failure); failed {
		return "", errors.New(text)
	}
	return string(answer), nil
}
