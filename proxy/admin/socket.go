// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-logr/logr"
)

// SocketPath is where the socket is, in the volume that only the proxy's container mounts.
const SocketPath = "/var/run/heddle/state/admin.sock"

// MaxDrainWait bounds how long a drain is waited for.
const MaxDrainWait = time.Hour

// SocketOptions say what the socket answers. All are required.
type SocketOptions struct {
	// Config and Certificates return what is shown, as JSON. Private keys are no part of it.
	Config, Certificates func() any
	// Envelope returns the kept envelope of a section, by its name.
	Envelope func(section string) ([]byte, error)
	// Drain begins to drain, waits until ctx ends or nothing runs, and returns how much still does.
	Drain func(ctx context.Context) (running int)
	Log   logr.Logger
}

// Drained is the answer to a drain.
type Drained struct {
	// Running is how many requests and connections hadn't ended when the wait was over.
	Running int `json:"running"`
}

// Socket is the server on the Unix socket.
type Socket struct{ server *http.Server }

// NewSocket makes a Socket.
func NewSocket(opts SocketOptions) *Socket {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /config", show(opts.Config))
	mux.HandleFunc("GET /certs", show(opts.Certificates))
	mux.HandleFunc("GET /profile", profile)
	mux.HandleFunc("GET /runtime", showRuntime)
	mux.HandleFunc("GET /envelope", func(w http.ResponseWriter, r *http.Request) {
		envelope, err := opts.Envelope(r.URL.Query().Get("section"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(envelope)
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
		if err != nil || wait < 0 || wait > MaxDrainWait {
			http.Error(w, "wait: want a duration such as 20s, of an hour at most", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		writeJSON(w, Drained{opts.Drain(ctx)})
	})
	return &Socket{newHTTPServer(mux, opts.Log)}
}

func show(what func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, what()) }
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

// ListenSocket opens the socket. One that a proxy left behind, which was killed, is replaced.
func ListenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace the admin socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the admin socket: %w: is the volume of %s mounted and writable for the proxy's user?", err, path)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("close the admin socket to others: %w", err)
	}
	return l, nil
}

// Serve serves until ctx ends.
func (s *Socket) Serve(ctx context.Context, l net.Listener) error { return serve(ctx, s.server, l) }

// Client asks the proxy that listens on a socket.
type Client struct{ http *http.Client }

// NewClient makes a Client of the socket at a path.
func NewClient(path string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, fmt.Errorf("%w: is the proxy running in this container?", err)
			}
			return c, nil
		},
	}}}
}

// Show copies what the socket shows under a name, "config" or "certs", to w.
func (c *Client) Show(ctx context.Context, name string, w io.Writer) error {
	return c.copy(ctx, "/"+name, w)
}

// Envelope copies the envelope that the proxy keeps of a section to w, as it came.
func (c *Client) Envelope(ctx context.Context, section string, w io.Writer) error {
	return c.copy(ctx, "/envelope?"+url.Values{"section": {section}}.Encode(), w)
}

func (c *Client) copy(ctx context.Context, path string, w io.Writer) error {
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	_, err = io.Copy(w, body)
	return err
}

// Drain has the proxy drain, and waits until its requests are done, or for so long.
func (c *Client) Drain(ctx context.Context, wait time.Duration) (Drained, error) {
	var d Drained
	err := c.decode(ctx, http.MethodPost, "/drain?"+url.Values{"wait": {wait.String()}}.Encode(), &d)
	return d, err
}

// decode asks and decodes the answer, which is JSON.
func (c *Client) decode(ctx context.Context, method, path string, into any) error {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the proxy's answer: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return nil, fmt.Errorf("the proxy answers %s: %s", response.Status, text)
	}
	return response.Body, nil
}
