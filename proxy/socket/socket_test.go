// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Rest waits for whatever a read would return with, and takes nothing of it.
func TestRest(t *testing.T) {
	for name, newLink := range links(t, nil) {
		for what, stir := range map[string]func(link){
			"bytes":        func(l link) { io.WriteString(l.theirs, "x") },
			"the end":      func(l link) { l.theirs.CloseWrite() },
			"a reset":      func(l link) { Reset(l.theirs) },
			"too late":     func(l link) { l.ours.SetReadDeadline(time.Unix(1, 0)) },
			"closed by us": func(l link) { Reset(l.ours) },
		} {
			t.Run(what+" of "+name, func(t *testing.T) {
				l := newLink()
				rested := make(chan struct{})
				go func() {
					defer close(rested)
					Rest(l.ours)
				}()
				timer := time.NewTimer(20 * time.Millisecond)
				defer timer.Stop()
				select {
				case <-rested:
					t.Error("it did not wait")
				case <-timer.C:
				}
				stir(l)
				<-rested
				if what == "bytes" {
					want(t, l.ours, []byte("x"))
				}
			})
		}
	}
	t.Run("what crypto/tls holds", func(t *testing.T) {
		ours, theirs := tlsPair(t, nil, nil)
		io.WriteString(theirs, "xyz")
		want(t, ours, []byte("x"))
		Rest(ours)
		want(t, ours, []byte("yz"))
	})
}

func TestWait(t *testing.T) {
	budget := limits.NewBudget(64 << 20)
	for name, newLink := range links(t, budget) {
		for what, c := range map[string]struct {
			before func(link)
			want   error
			then   string // that is read
		}{
			"bytes":             {func(l link) { io.WriteString(l.theirs, "x") }, nil, "x"},
			"the end":           {func(l link) { l.theirs.CloseWrite() }, nil, ""},
			"a reset":           {func(l link) { Reset(l.theirs) }, syscall.ECONNRESET, ""},
			"too late":          {func(l link) { l.ours.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, ""},
			"in time":           {func(l link) { l.ours.SetReadDeadline(time.Now().Add(time.Hour)); io.WriteString(l.theirs, "x") }, nil, "x"},
			"closed by us":      {func(l link) { l.ours.Close() }, net.ErrClosed, ""},
			"a larger one":      {func(l link) { l.theirs.Write(noise(4 * recordPlaintext)) }, nil, string(noise(4 * recordPlaintext))},
			"what comes late":   {func(l link) { time.AfterFunc(5*time.Millisecond, func() { io.WriteString(l.theirs, "x") }) }, nil, "x"},
			"too late later on": {func(l link) { l.ours.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) }, os.ErrDeadlineExceeded, ""},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				l := newLink()
				c.before(l)
				if err := Wait(l.ours); !errors.Is(err, c.want) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				if len(c.then) > 0 {
					want(t, l.ours, []byte(c.then))
				}
				if n := budget.Held(); n != 0 && c.then != "" {
					t.Errorf("%d bytes are held", n)
				}
				l.theirs.Close()
				if l.ours.Close(); budget.Held() != 0 {
					t.Errorf("%d bytes are held when it is closed", budget.Held())
				}
			})
		}
	}
}

// A read that stops within a record leaves the rest with crypto/tls: there is something to be read all the same.
func TestWaitInTheMiddleOfARecord(t *testing.T) {
	server, client := tlsPair(t, nil, nil)
	io.WriteString(client, "abcdef")
	for _, part := range []string{"abc", "def"} {
		if err := Wait(server); err != nil {
			t.Fatal(err)
		}
		if server.Quiet() {
			t.Error("quiet")
		}
		want(t, server, []byte(part))
	}
	// It ended with the record, which can't be seen: nothing is lost but that the next read waits.
	if err := Wait(server); err != nil {
		t.Error(err)
	}
	server.SetReadDeadline(time.Unix(1, 0))
	if _, err := server.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	server.SetReadDeadline(time.Time{})
	io.WriteString(client, "ghi")
	want(t, server, []byte("ghi"))
}

func TestQuiet(t *testing.T) {
	for what, c := range map[string]struct {
		before func(*TLS)
		quiet  bool
	}{
		"nothing":      {func(*TLS) {}, true},
		"bytes":        {func(c *TLS) { io.WriteString(c, "x") }, false},
		"a good end":   {func(c *TLS) { c.CloseWrite() }, false},
		"a bad end":    {func(c *TLS) { c.NetConn().(*records).Conn.Close() }, false},
		"a reset":      {func(c *TLS) { Reset(c) }, false},
		"closed by us": {nil, false},
	} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := tlsPair(t, nil, nil)
			if c.before == nil {
				ours.Close()
			} else {
				c.before(theirs)
			}
			if !c.quiet {
				eventually(t, "it is not quiet", func() bool { return !ours.Quiet() })
			} else if !ours.Quiet() || testing.AllocsPerRun(100, func() { ours.Quiet() }) > 0 {
				t.Error("not quiet, or it allocates")
			}
		})
	}
	t.Run("a record that was read to its end and no further", func(t *testing.T) {
		ours, theirs := tlsPair(t, nil, nil)
		for _, text := range []string{"abc", "defghi"} {
			io.WriteString(theirs, text)
			for range len(text) / 3 {
				if _, err := io.ReadFull(ours, make([]byte, 2)); err != nil || ours.Quiet() {
					t.Errorf("quiet in %q, %v", text, err)
				}
				if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			if !ours.Quiet() {
				t.Errorf("not quiet behind %q", text)
			}
		}
	})
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ours, _ := secure(t, a, b, nil, nil)
	if !ours.Quiet() || Wait(a) != nil {
		t.Error("a pipe is known to have nothing")
	}
}

func TestReset(t *testing.T) {
	for name, newLink := range links(t, nil) {
		t.Run(name, func(t *testing.T) {
			l := newLink()
			io.WriteString(l.ours, "x")
			want(t, l.theirs, []byte("x"))
			Reset(l.ours)
			if _, err := l.theirs.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer sees %v", err)
			}
			if _, err := l.ours.Write([]byte("x")); err == nil {
				t.Error("still open")
			}
		})
	}
	a, b := net.Pipe()
	Reset(a)
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
