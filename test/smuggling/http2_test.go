// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/hostile"
	"github.com/heddle-mesh/heddle/test/pair"
)

// caller2 is a caller that writes any frame.
type caller2 struct{ *hostile.Caller }

func newCaller2(c net.Conn) caller2 { return caller2{hostile.NewCaller(c)} }

// open sends a request on a new stream.
func (d caller2) open(a *downgrade) (stream uint32) {
	stream = d.Next()
	if a.frames != nil {
		a.frames(d.Framer, stream, func(s ...string) []byte { return d.Block(fieldsOf(s)...) })
		return stream
	}
	d.Head(stream, a.fields, a.content == nil && a.trailer == nil)
	for i, data := range a.content {
		d.Framer.WriteData(stream, i == len(a.content)-1 && a.trailer == nil, []byte(data))
	}
	if a.trailer != nil {
		d.Head(stream, a.trailer, true)
	}
	return stream
}

func TestDowngrades(t *testing.T) {
	for _, face := range faces {
		t.Run(face, func(t *testing.T) {
			b := &bench{origin: newOrigin(t)}
			p := pair.New(t, b.origin.address, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1})
			config := p.CallerTLS("heddle/h2")
			dial := func(t *testing.T) caller2 {
				t.Helper()
				address := p.Client
				if face == "server side" {
					address = p.Server
				}
				c, err := net.Dial("tcp", address.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(patience))
				if face == "server side" {
					c = tls.Client(c, config)
				}
				return newCaller2(c)
			}
			for i := range downgrades {
				t.Run(downgrades[i].name, func(t *testing.T) { b.downgrade(t, &downgrades[i], dial) })
			}
		})
	}
}

// downgrade sends a request of HTTP/2, canaries behind it and on another connection, and checks what arrives.
func (b *bench) downgrade(t *testing.T, a *downgrade, dial func(*testing.T) caller2) {
	t.Helper()
	b.origin.take()
	d := dial(t)
	stream := d.open(a)
	e, err := d.Await(stream)
	if err != nil {
		t.Fatalf("it came to no end: %v (%+v)", err, e)
	}
	var arrivals []want
	w := &a.want
	switch {
	case w.ends:
		if !e.GoAway {
			t.Errorf("it ended with %+v, want GOAWAY", e)
		}
	case w.reset:
		if !e.Reset || e.Code != http2.ErrCodeProtocol {
			t.Errorf("it ended with %+v, want RST_STREAM of PROTOCOL_ERROR", e)
		}
	case w.status != 0:
		if e.Status != fmt.Sprint(w.status) {
			t.Errorf("it ended with %+v, want status %d", e, w.status)
		}
	default:
		line := strings.Fields(w.carried.head[0])
		if want := answerTo(line[0], line[1]); e.Status != "200" || e.Body != want {
			t.Errorf("it ended with %+v, want %q", e, want)
		}
		arrivals = append(arrivals, w.carried)
	}
	if !w.ends && !e.GoAway {
		arrivals = append(arrivals, b.canary2(t, d, "the canary behind it"))
	}
	d.Close()
	arrivals = append(arrivals, b.canary2(t, dial(t), "the canary on another connection"))
	b.check(t, arrivals)
}

// canary2 sends a canary on a stream of its own.
func (b *bench) canary2(t *testing.T, d caller2, what string) want {
	t.Helper()
	b.n++
	target := fmt.Sprintf("/canary/%d", b.n)
	e, err := d.Await(d.open(&downgrade{fields: with2(":path", target)}))
	if err != nil || e.Status != "200" || e.Body != answerTo("GET", target) {
		t.Fatalf("%s was answered %+v, %v", what, e, err)
	}
	return as("GET "+target+" HTTP/1.1", "Host: cart")
}
