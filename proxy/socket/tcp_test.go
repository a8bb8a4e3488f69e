// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
)

// What is written by either way arrives as it is, also when the peer takes it bit by bit.
func TestCheap(t *testing.T) {
	payload := noise(5 << 20)
	for name, write := range map[string]func(*TCP) (int, error){
		"at once":         func(c *TCP) (int, error) { return c.Write(payload) },
		"in parts":        func(c *TCP) (int, error) { return c.WriteParts(payload[:9], payload[9:1<<20], payload[1<<20:]) },
		"in parts, empty": func(c *TCP) (int, error) { return c.WriteParts(nil, payload, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := testconn.TCP(t)
			ours, theirs := Cheap(near).(*TCP), Cheap(far).(*TCP)
			done := make(chan error, 1)
			go func() {
				n, err := write(ours)
				if n != len(payload) && err == nil {
					err = io.ErrShortWrite
				}
				done <- errors.Join(err, ours.CloseWrite())
			}()
			got, err := io.ReadAll(struct{ io.Reader }{theirs})
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// Errors are those of package net.
func TestCheapFails(t *testing.T) {
	near, far := testconn.TCP(t)
	ours := Cheap(near)
	ours.SetReadDeadline(time.Unix(1, 0))
	if n, err := ours.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %d, %v", n, err)
	}
	ours.SetReadDeadline(time.Time{})
	filled := noise(16 << 20)
	ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := ours.Write(filled); n == 0 || n == len(filled) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("to a peer that takes nothing: %d, %v", n, err)
	}
	ours.SetWriteDeadline(time.Time{})
	Reset(far)
	var failed *net.OpError
	if n, err := ours.Read(make([]byte, 1)); n != 0 || !errors.As(err, &failed) || failed.Op != "read" {
		t.Errorf("after a reset: %d, %v", n, err)
	}
	eventually(t, "it can be written to", func() bool {
		_, err := ours.Write([]byte("x"))
		return errors.As(err, &failed) && failed.Op == "write"
	})
	Reset(ours)
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("once closed: %v", err)
	}
	if a, b := net.Pipe(); Cheap(a) != a || Beneath(b) != b || Beneath(ours) != ours {
		t.Error("a pipe is no TCP, and what is cheap stays")
	}
}
