// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
)

func TestWhatWasLookedAtIsReadAgain(t *testing.T) {
	for name, take := range map[string]func(forward.Peeker) ([]byte, error){
		"by Read": func(p forward.Peeker) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{p}) },
		"by copying": func(p forward.Peeker) ([]byte, error) {
			var b bytes.Buffer
			_, err := io.Copy(&b, p)
			return b.Bytes(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := testconn.TCP(t)
			want := append([]byte("POST /x HTTP/1.1\r\n"), bytes.Repeat([]byte("x"), 100_000)...)
			go func() { _, _ = far.Write(want); _ = far.CloseWrite() }()
			p := Peek(near)
			if got, err := p.Detect(t.Context()); got != forward.HTTP1 || err != nil {
				t.Fatal(got, err)
			}
			if n := p.Buffered(); n == 0 || n > maxPeek {
				t.Errorf("%d bytes buffered", n)
			}
			got, err := take(p)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v: want the %d that were sent", len(got), err, len(want))
			}
			if p.Buffered() != 0 {
				t.Error("still buffered")
			}
		})
	}
}

func TestDetectGivesUpWhenItsContextEndsAndGoesOnLater(t *testing.T) {
	near, far := testconn.TCP(t)
	p := Peek(near)
	for _, part := range []string{"", "GE"} {
		_, _ = far.Write([]byte(part))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		got, err := p.Detect(ctx)
		cancel()
		if got != forward.Unknown || err != nil {
			t.Fatalf("after %q: %v, %v", part, got, err)
		}
	}
	_, _ = far.Write([]byte("T /"))
	if got, err := p.Detect(t.Context()); got != forward.HTTP1 || err != nil {
		t.Fatal(got, err)
	}
	_ = far.CloseWrite()
	if all, err := io.ReadAll(p); string(all) != "GET /" || err != nil {
		t.Errorf("read %q, %v", all, err)
	}
}

func TestDetectOfAnEndedConnection(t *testing.T) {
	for name, sent := range map[string]string{"without a byte": "", "in the middle of a method": "GE"} {
		near, far := testconn.TCP(t)
		_, _ = far.Write([]byte(sent))
		_ = far.CloseWrite()
		p := Peek(near)
		if got, err := p.Detect(t.Context()); got != forward.Opaque || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if all, err := io.ReadAll(p); string(all) != sent || err != nil {
			t.Errorf("%s: read %q, %v", name, all, err)
		}
	}
	near, far := testconn.TCP(t)
	_ = far.SetLinger(0)
	_ = far.Close()
	if got, err := Peek(near).Detect(t.Context()); err == nil {
		t.Errorf("reset: %v and no error", got)
	}
}

func TestDetectInsideTLS(t *testing.T) {
	near, far := testconn.TCP(t)
	certificate := selfSigned(t)
	server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	go func() { _ = client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	p := Peek(server)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := p.Detect(ctx); got != forward.Unknown || err != nil {
		t.Fatal(got, err)
	}
	_, _ = client.Write([]byte("PRI * HTTP/2.0\r\n"))
	if got, err := p.Detect(t.Context()); got != forward.HTTP2 || err != nil {
		t.Fatal(got, err)
	}
	if err := p.CloseWrite(); err != nil {
		t.Error(err)
	}
}

func TestCloseWriteOfWhatCannot(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if err := Peek(near).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
