// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// ofHTTP1 are those that callers of HTTP/1.1 make, and of whatever comes before it.
var ofHTTP1 = []*Attack{
	{Name: "a header too long", Limit: limits.HeaderBytes, do: func(v *visit) error {
		return v.says(v.get("X: "+strings.Repeat("y", 10_000)+"\r\n"), 431)
	}},
	{Name: "a header that does not end", Limit: limits.HeaderBytes, do: func(v *visit) error {
		return v.says(v.head("GET")+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100), 431)
	}},
	{Name: "too many fields", Limit: limits.HeaderFields, do: func(v *visit) error {
		return v.says(v.get(strings.Repeat("X: y\r\n", 40)), 431)
	}},
	{Name: "a request line too long", Limit: limits.RequestLine, do: func(v *visit) error {
		return v.says("GET /"+strings.Repeat("a", 3000)+" HTTP/1.1\r\nHost: a\r\n\r\n", 414)
	}},
	{Name: "a header that comes slowly", Limit: limits.HeaderTime, do: func(v *visit) error {
		return v.says("GET /a HTTP/1.1\r\nHost: ca", 408)
	}},
	{Name: "content that stops", Limit: limits.BodyIdle, Rate: seldom, do: func(v *visit) error {
		return v.says("POST "+v.Stuck+" HTTP/1.1\r\nHost: "+v.Authority+"\r\nContent-Length: 10\r\n\r\nabc", 408)
	}},
	{Name: "a connection without requests", Limit: limits.Idle, do: func(v *visit) error {
		return v.waits(v.HTTP1)
	}},
	{Name: "a caller that says nothing", Limit: limits.FirstByte, do: func(v *visit) error {
		return v.waits(v.Inbound)
	}},
	{Name: "a handshake that stops", Limit: limits.Handshake, do: func(v *visit) error {
		c, err := v.dial(v.Inbound)
		if err != nil {
			return err
		}
		v.running.Go(func() { _ = tls.Client(&mute{Conn: c}, v.Caller).HandshakeContext(v.ctx) }) // it reads until the end
		v.running.Wait()
		return ended(c)
	}},
	{Name: "too many requests at once", Limit: limits.Pipelined, do: (*visit).pipelines},
	{Name: "an answer that nobody reads", Limit: limits.SendIdle, Rate: seldom, do: (*visit).doesNotRead},
	{Name: "content too large to be sent twice", Limit: limits.ReplayBytes, Uncounted: true, do: func(v *visit) error {
		c, err := v.dial(v.HTTP1)
		if err != nil {
			return err
		}
		const size = 64 << 10
		_, err = io.WriteString(c, v.head("POST")+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
		told, failed := v.answer(bufio.NewReader(c))
		if err = errors.Join(err, failed); err == nil && told.status != http.StatusOK {
			err = fmt.Errorf("it was answered %d", told.status)
		}
		return err
	}},
}

// head begins a request, without the end of its head.
func (v *visit) head(method string) string {
	return method + " " + v.Path + " HTTP/1.1\r\nHost: " + v.Authority + "\r\n"
}

func (v *visit) get(fields string) string { return v.head("GET") + fields + "\r\n" }

// answer reads an answer and its content.
func (v *visit) answer(r *bufio.Reader) (told answer, err error) {
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return answer{response.StatusCode, response.Close}, err
}

type answer struct {
	status int
	last   bool // of its connection
}

// says sends bytes and wants a refusal with a status, and the end.
func (v *visit) says(sent string, status int) error {
	c, err := v.dial(v.HTTP1)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, sent); err != nil && !wasReset(err) {
		return err
	}
	r := bufio.NewReader(c)
	told, err := v.answer(r)
	switch {
	case err != nil:
		return fmt.Errorf("no refusal: %w", err)
	case told.status != status || !told.last:
		return fmt.Errorf("it was answered %d, close %v; want %d and close", told.status, told.last, status)
	}
	return ended(r)
}

// waits says nothing, and wants the end.
func (v *visit) waits(at netip.AddrPort) error {
	c, err := v.dial(at)
	if err != nil {
		return err
	}
	return ended(c)
}

// ended wants that nothing more comes, and that it ends.
func ended(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	switch {
	case err != nil && !wasReset(err):
		return fmt.Errorf("it did not end: %w", err)
	case n > 0:
		return fmt.Errorf("%d bytes more came", n)
	}
	return nil
}

// mute is a connection that lets one message out.
type mute struct {
	net.Conn
	spoken bool
}

// Write implements net.Conn.
func (m *mute) Write(b []byte) (int, error) {
	if m.spoken {
		return len(b), nil
	}
	m.spoken = true
	return m.Conn.Write(b)
}

// pipelines sends many requests in one breath.
func (v *visit) pipelines() error {
	c, err := v.dial(v.HTTP1)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, strings.Repeat(v.get(""), 10*pipelined)); err != nil {
		return err
	}
	r, n := bufio.NewReader(c), 0
	for last := false; !last; n++ {
		told, err := v.answer(r)
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		if told.status != http.StatusOK {
			return fmt.Errorf("request %d was answered %d", n, told.status)
		}
		last = told.last
	}
	if n < pipelined || n > pipelined+3 {
		return fmt.Errorf("%d requests were answered", n)
	}
	return ended(r)
}

// little is what the socket of a caller holds that does not read: no less than a segment over loopback, or what is there
// in the end would come in drops.
const little = 64 << 10

// doesNotRead asks for much and takes none of it.
func (v *visit) doesNotRead() error {
	c, err := v.dial(v.HTTP1)
	if err != nil {
		return err
	}
	if err := c.SetReadBuffer(little); err != nil {
		return err
	}
	wait := v.awaits(sendIdle)
	const asked = pipelined - 1
	if _, err := io.WriteString(c, strings.Repeat("GET "+v.Large+" HTTP/1.1\r\nHost: "+v.Authority+"\r\n\r\n", asked)); err != nil {
		return err
	}
	wait()
	r := bufio.NewReader(c)
	for range asked {
		switch _, err := v.answer(r); {
		case wasReset(err), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
	return errors.New("all answers came")
}
