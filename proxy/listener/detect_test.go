// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/forward"
)

func TestClassify(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  forward.Protocol
	}{
		"nothing":                                  {"", forward.Unknown},
		"a request":                                {"GET / HTTP/1.1\r\n", forward.HTTP1},
		"a request's method and path":              {"GET /", forward.HTTP1},
		"half a method":                            {"GE", forward.Unknown},
		"a method and a space":                     {"GET ", forward.Unknown},
		"a method that nobody registered":          {"PURGE /x", forward.HTTP1},
		"a method in lower case":                   {"get /x", forward.HTTP1},
		"an absolute target":                       {"GET http://shop/ HTTP/1.1", forward.HTTP1},
		"an absolute target with another method":   {"PURGE HTTPS://shop/", forward.HTTP1},
		"half an absolute target":                  {"GET htt", forward.Unknown},
		"OPTIONS of the server":                    {"OPTIONS * HTTP/1.1", forward.HTTP1},
		"CONNECT":                                  {"CONNECT shop:443 HTTP/1.1", forward.HTTP1},
		"CONNECT to an IPv6 address":               {"CONNECT [::1]:443 HTTP/1.1", forward.HTTP1},
		"an empty line first":                      {"\r\nGET / HTTP/1.1", forward.HTTP1},
		"empty lines alone":                        {"\r\n\r\n", forward.Unknown},
		"too many empty lines":                     {strings.Repeat("\n", maxBlank+1) + "GET /", forward.Opaque},
		"a tab for a space":                        {"GET\t/x", forward.HTTP1},
		"several spaces":                           {"GET   /x", forward.HTTP1},
		"too many spaces":                          {"GET" + strings.Repeat(" ", maxBlank+1) + "/x", forward.Opaque},
		"the preface of HTTP/2":                    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", forward.HTTP2},
		"half a preface":                           {"PRI * HT", forward.Unknown},
		"almost a preface":                         {"PRI * HTTP/1.1", forward.Opaque},
		"a request with method PRI":                {"PRI /x", forward.HTTP1},
		"Redis":                                    {"*1\r\n$4\r\nPING\r\n", forward.Opaque},
		"Redis typed by hand":                      {"PING\r\n", forward.Opaque},
		"Redis typed by hand, with a known method": {"GET key\r\n", forward.Opaque},
		"memcached":                                {"get key\r\n", forward.Opaque},
		"NATS":                                     {"CONNECT {\"verbose\":false}\r\n", forward.Opaque},
		"SMTP":                                     {"EHLO me\r\n", forward.Opaque},
		"PostgreSQL":                               {"\x00\x00\x00\x08\x04\xd2\x16\x2f", forward.Opaque},
		"MQTT":                                     {"\x10\x0e\x00\x04MQTT\x04\x02", forward.Opaque},
		"a word without end":                       {strings.Repeat("A", maxMethod+1), forward.Opaque},
		"the longest word that may be a method":    {strings.Repeat("A", maxMethod), forward.Unknown},
		"letters beyond ASCII":                     {"GÉT /", forward.Opaque},
		"the first byte of TLS":                    {"\x16", forward.Unknown},
		"two bytes of TLS":                         {"\x16\x03", forward.Unknown},
		"what only begins like TLS":                {"\x16\x02\x00", forward.Opaque},
		"a record of another handshake message":    {"\x16\x03\x01\x00\x04\x02\x00\x00\x00", forward.Opaque},
		"an empty record":                          {"\x16\x03\x01\x00\x00", forward.Opaque},
		"a record of 65535 bytes":                  {"\x16\x03\x01\xff\xff", forward.Opaque},
		"a ClientHello too large to hold":          {"\x16\x03\x01\x10\x00\x01\x00\xff\xff", forward.TLS},
		"a ClientHello that is empty":              {"\x16\x03\x01\x00\x04\x01\x00\x00\x00", forward.TLS},
	} {
		t.Run(name, func(t *testing.T) {
			got, need := Classify([]byte(c.bytes))
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got == forward.Unknown && need <= len(c.bytes) {
				t.Errorf("needs %d bytes and has %d", need, len(c.bytes))
			}
		})
	}
}

// clientHello is what crypto/tls sends first.
func clientHello(tb testing.TB, config *tls.Config) []byte {
	tb.Helper()
	near, far := net.Pipe()
	defer far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(near, config).Handshake()
	}()
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(far, head); err != nil {
		tb.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(far, body); err != nil {
		tb.Fatal(err)
	}
	_ = near.Close()
	<-done
	return slices.Concat(head, body)
}

// split cuts a ClientHello into records of at most size bytes.
func split(hello []byte, size int) []byte {
	var out []byte
	for body := hello[recordHeader:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, hello[0], hello[1], hello[2])
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out, body = append(out, body[:n]...), body[n:]
	}
	return out
}

func TestClassifyClientHello(t *testing.T) {
	for name, c := range map[string]struct {
		protocols []string
		want      forward.Protocol
	}{
		"a proxy's":              {[]string{"heddle/h2"}, forward.MeshTLS},
		"ours behind another":    {[]string{"h2", "http/1.1", "heddle/tcp"}, forward.MeshTLS},
		"an application's":       {[]string{"h2", "http/1.1"}, forward.TLS},
		"one without ALPN":       {nil, forward.TLS},
		"a name that ends in it": {[]string{"xheddle/h2"}, forward.TLS},
		"an old one":             {nil, forward.TLS},
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{ServerName: "shop", NextProtos: c.protocols, MinVersion: tls.VersionTLS12}
			if name == "an old one" {
				config.MaxVersion = tls.VersionTLS12
			}
			whole := clientHello(t, config)
			for _, size := range []int{len(whole), 100, 3, 1} {
				hello := split(whole, size)
				if got, _ := Classify(hello); got != c.want {
					t.Fatalf("in records of %d bytes: %v, want %v", size, got, c.want)
				}
				// Following need gets there, in few steps.
				steps := 0
				for have := 1; ; steps++ {
					got, need := Classify(hello[:have])
					if got == c.want {
						break
					}
					if got != forward.Unknown || need <= have || need > len(hello) {
						t.Fatalf("in records of %d bytes, %d of %d: %v, needs %d", size, have, len(hello), got, need)
					}
					have = need
				}
				if steps > 60 {
					t.Errorf("in records of %d bytes it took %d steps", size, steps)
				}
			}
		})
	}
}

func TestABrokenClientHelloIsNeverAProxys(t *testing.T) {
	hello := clientHello(t, &tls.Config{ServerName: "shop", NextProtos: []string{"heddle/h1"}, MinVersion: tls.VersionTLS13})
	at := bytes.Index(hello, []byte("heddle/"))
	for i := range at { // each length before the name made too large
		broken := bytes.Clone(hello)
		broken[i] = 0xff
		_, _ = Classify(broken) // must not panic
	}
	cut := bytes.Clone(hello[:at+3])
	binary.BigEndian.PutUint16(cut[3:], uint16(len(cut)-recordHeader))
	cut[6], cut[7], cut[8] = 0, byte((len(cut)-9)>>8), byte(len(cut)-9)
	if got, _ := Classify(cut); got != forward.TLS {
		t.Errorf("cut short in the name: %v", got)
	}
}

func TestServerName(t *testing.T) {
	named := func(name string) []byte {
		return clientHello(t, &tls.Config{ServerName: name, InsecureSkipVerify: name == "", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	}
	whole := named("cart.shop.svc")
	at := bytes.Index(whole, []byte("cart.shop.svc"))
	changed := func(i int, to byte) []byte {
		b := bytes.Clone(whole)
		b[i] = to
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"a name":                   {whole, "cart.shop.svc"},
		"in records of 7 bytes":    {split(whole, 7), "cart.shop.svc"},
		"with an underscore":       {named("my_cart"), "my_cart"},
		"none":                     {named(""), ""},
		"an address":               {named("10.0.0.1"), ""},
		"half a ClientHello":       {whole[:len(whole)/2], ""},
		"another kind of name":     {changed(at-3, 1), ""},
		"a name that is too long":  {changed(at-2, 0xff), ""},
		"what no name can hold":    {changed(at, '\n'), ""},
		"what is not ASCII":        {changed(at, 0xff), ""},
		"no TLS":                   {[]byte("GET / HTTP/1.1\r\nHost: cart\r\n\r\n"), ""},
		"nothing":                  {nil, ""},
		"a ServerHello":            {[]byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), ""},
		"a ClientHello of nothing": {[]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00"), ""},
	} {
		if got := serverName(c.bytes); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// FuzzClassify: no input panics, more bytes never change a conclusion, and need grows within its bound and isn't more
// than it takes.
func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Add([]byte("\r\nPURGE\thttp://x"))
	hello := clientHello(f, &tls.Config{ServerName: "shop", NextProtos: []string{"heddle/h1"}, MinVersion: tls.VersionTLS13})
	f.Add(hello)
	f.Add(split(hello, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name := serverName(b); len(name) > maxServerName || name != "" && !bytes.Contains(b, []byte(name[:1])) {
			t.Fatalf("the server's name is %q", name)
		}
		concluded, needed := forward.Unknown, 0
		for n := 0; n <= len(b); n += 1 + len(b)/64 {
			p, need := Classify(b[:n])
			switch {
			case concluded != forward.Unknown && p != concluded:
				t.Fatalf("%d bytes are %v, fewer were %v", n, p, concluded)
			case p == forward.Unknown && (need <= n || need > maxPeek):
				t.Fatalf("%d bytes need %d", n, need)
			case (p == forward.MeshTLS || p == forward.HTTP1 || p == forward.HTTP2) && n < needed:
				t.Fatalf("%d bytes are %v, but %d were needed", n, p, needed)
			}
			concluded, needed = p, max(needed, need)
		}
	})
}
