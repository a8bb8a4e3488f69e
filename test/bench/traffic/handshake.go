// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Handshakes is the protocol of a Load that makes a connection of mutual TLS, sends one request, and closes it, on as many
// at once as there are Connections. The answer proves that the server has taken the client's certificate.
const Handshakes = "handshakes"

// Credentials are files in PEM of a client.
type Credentials struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// Config returns what a client needs: TLS 1.3, X25519, no resumption. It doesn't look at the server's certificate: what
// that costs is the client's, and nothing is measured of it.
func (c Credentials) Config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // see above
		Certificates:       []tls.Certificate{pair}, ServerName: "web.shop", NextProtos: []string{"http/1.1"},
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	}, nil
}

// RunHandshakes generates such a load.
func RunHandshakes(ctx context.Context, load Load) (*Result, error) {
	config, err := load.Credentials.Config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		count, failed atomic.Int64
		first         atomic.Pointer[string]
		group         sync.WaitGroup
	)
	for range load.Connections {
		group.Go(func() {
			for ctx.Err() == nil {
				err := handshake(ctx, load, config)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					text := err.Error()
					first.CompareAndSwap(nil, &text)
					failed.Add(1)
				default:
					count.Add(1)
				}
			}
		})
	}
	result, err := observe(ctx, load, &count, &failed)
	cancel()
	group.Wait()
	if text := first.Load(); text != nil && err == nil {
		result.Error = *text
	}
	return result, err
}

// observe takes what happens between the warm-up and the end.
func observe(ctx context.Context, load Load, count, failed *atomic.Int64) (*Result, error) {
	wait := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	wait(load.Warmup)
	m, result := newMeter(load), &Result{}
	if err := m.start(); err != nil {
		return nil, err
	}
	begin, counted, failures := time.Now(), count.Load(), failed.Load()
	wait(load.Duration)
	result.Elapsed = time.Since(begin)
	result.Requests, result.Errors = count.Load()-counted, failed.Load()-failures
	return result, m.stop(result)
}

// handshake makes one connection, uses it and closes it.
func handshake(ctx context.Context, load Load, config *tls.Config) error {
	c, err := DialTLS(ctx, load.Target.String(), config)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return Ask(c, "1k", Sizes["1k"])
}

// DialTLS connects.
func DialTLS(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil //nolint:forcetypeassert // a tls.Dialer makes no other
}

// Ask sends one request of HTTP/1.1 on a connection and takes the answer, of so many bytes of content. The path ends as
// the size is called.
func Ask(c net.Conn, size string, content int) error {
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET /r00/%s HTTP/1.1\r\nHost: %s\r\n\r\n", size, Host); err != nil {
		return err
	}
	var head []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		head = append(head, buf[:n]...)
		i := index(head)
		if i < 0 {
			continue
		}
		if len(head) < 12 || string(head[9:12]) != "200" {
			return fmt.Errorf("%w: %q", errStatus, head[:i])
		}
		_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(c, int64(content-(len(head)-i-4)))}, buf)
		return errors.Join(err, c.SetDeadline(time.Time{}))
	}
}
