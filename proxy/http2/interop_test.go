// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// oracle is net/http's server of HTTP/2 without TLS.
func oracle(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: handler, Protocols: &protocols}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// caller is net/http's client of HTTP/2 without TLS.
func caller(t testing.TB) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func contentOf(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = random.Read(b)
	return b
}

// The engine stands between net/http's client and net/http's server: what they say to each other has to arrive.
func TestRelaysWhatNetHTTPSays(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		ask     func(t *testing.T, c *http.Client, url string)
	}{
		"a request without content and a short answer": {
			func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.URL, r.Header.Get("X-A"))
			},
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodGet, url+"/p?q=1", nil)
				r.Host = "shop.example:8080"
				r.Header.Set("X-A", "ä b")
				expect(t, c, r, 200, "GET shop.example:8080 /p?q=1 ä b")
			},
		},
		"HEAD, 204 and 304 have no content": {
			func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/204":
					w.WriteHeader(http.StatusNoContent)
				case "/304":
					w.WriteHeader(http.StatusNotModified)
				default:
					w.Header().Set("Content-Length", "77")
				}
			},
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				for path, status := range map[string]int{"/": 200, "/204": 204, "/304": 304} {
					r, _ := http.NewRequest(http.MethodHead, url+path, nil)
					expect(t, c, r, status, "")
				}
			},
		},
		"interim answers come before the final one": {
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</a>")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Del("Link")
				w.WriteHeader(http.StatusCreated)
			},
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodGet, url, nil)
				expect(t, c, r, 201, "")
			},
		},
		"trailers both ways": {
			func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Header().Set("Trailer", "X-Sum")
				fmt.Fprintf(w, "%s", b)
				w.Header().Set("X-Sum", r.Trailer.Get("X-Up"))
			},
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodPost, url, io.MultiReader(strings.NewReader("abc")))
				r.Trailer = http.Header{"X-Up": {"seven"}}
				answer := expect(t, c, r, 200, "abc")
				if got := answer.Trailer.Get("X-Sum"); got != "seven" {
					t.Errorf("trailer %q", got)
				}
			},
		},
		"a head in many frames": {
			func(w http.ResponseWriter, r *http.Request) {
				for i := range 8 {
					w.Header().Set(fmt.Sprintf("X-%d", i), r.Header.Get(fmt.Sprintf("X-%d", i)))
				}
			},
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodGet, url, nil)
				for i := range 8 {
					r.Header.Set(fmt.Sprintf("X-%d", i), strings.Repeat(string(rune('a'+i)), 9000))
				}
				answer := expect(t, c, r, 200, "")
				for i := range 8 {
					if len(answer.Header.Get(fmt.Sprintf("X-%d", i))) != 9000 {
						t.Errorf("field %d is not whole", i)
					}
				}
			},
		},
		"an answer that comes before the request is whole": {
			func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
			func(t *testing.T, c *http.Client, url string) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodPost, url, bytes.NewReader(contentOf(1<<20)))
				expect(t, c, r, 413, "")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.ask(t, caller(t), "http://"+proxy(t, oracle(t, test.handler), &Config{}, &Config{}))
		})
	}
}

func expect(t *testing.T, c *http.Client, r *http.Request, status int, body string) *http.Response {
	t.Helper()
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status || string(got) != body {
		t.Fatalf("%d %q %v, not %d %q", answer.StatusCode, got, err, status, body)
	}
	return answer
}

func echo(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	b := make([]byte, 20_000)
	for {
		n, err := r.Body.Read(b)
		if _, failed := w.Write(b[:n]); failed != nil || err != nil {
			return
		}
		_ = c.Flush()
	}
}

// Much goes both ways at once on many streams.
func TestEchoesMuchOnManyStreams(t *testing.T) {
	url := "http://" + proxy(t, oracle(t, echo), &Config{}, &Config{})
	c := caller(t)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			sent := contentOf(1<<20 + i)
			answer, err := c.Post(url, "", bytes.NewReader(sent))
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, answer.Body)
			if want := sha256.Sum256(sent); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%d bytes of %d came back: %v", n, len(sent), err)
			}
		})
	}
	all.Wait()
}

// What the server resets is reset for the client, and the other way round; the connections go on.
func TestPassesResetsOn(t *testing.T) {
	ended := make(chan struct{}, 1)
	url := "http://" + proxy(t, oracle(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/wait":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			ended <- struct{}{}
		}
	}), &Config{}, &Config{})
	c := caller(t)
	answer, err := c.Get(url + "/abort")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(answer.Body); err == nil {
		t.Error("no error from an answer that was cut")
	}
	answer.Body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/wait", nil)
	if answer, err = c.Do(r); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(patience): //nolint:forbidigo // a test that hangs says so
		t.Error("the server does not hear that the client is gone")
	}
	if _, err = io.ReadAll(answer.Body); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r, _ = http.NewRequest(http.MethodGet, url+"/", nil)
	expect(t, c, r, 200, "")
}

// A client that does not read one answer gets the others.
func TestASlowStreamHoldsUpNobody(t *testing.T) {
	url := "http://" + proxy(t, oracle(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(contentOf(8 << 20))
	}), &Config{}, &Config{})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport}
	slow, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	for range 3 {
		answer, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, answer.Body); n != 8<<20 || err != nil {
			t.Fatal(n, err)
		}
		answer.Body.Close()
	}
	if n, err := io.Copy(io.Discard, slow.Body); n != 8<<20 || err != nil {
		t.Fatal(n, err)
	}
}
