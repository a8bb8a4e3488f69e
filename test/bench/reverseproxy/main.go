// SPDX-License-Identifier: Apache-2.0

// Command reverseproxy is the peer of the bench that is made of net/http alone: httputil.ReverseProxy, with 50 routes, a
// split and a trace header, as one proxy or as one side of a pair. It keeps no metrics and ejects nobody.
package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"
)

type options struct {
	listen, to        string // "1=PORT" and "1=STABLE/CANARY", with commas between
	ca, cert, key     string
	accepts, dials    bool // mutual TLS
	routes            int
	tls               *tls.Config
	listening, target map[string]string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "", "protocol=port, with commas between: protocols 1 and 2")
	flag.StringVar(&o.to, "to", "", "protocol=stable/canary, with commas between: addresses of the split, 9 to 1")
	flag.StringVar(&o.ca, "ca", "", "the CA of both sides")
	flag.StringVar(&o.cert, "cert", "", "the certificate")
	flag.StringVar(&o.key, "key", "", "its key")
	flag.BoolVar(&o.accepts, "tls-in", false, "accept mutual TLS")
	flag.BoolVar(&o.dials, "tls-out", false, "dial mutual TLS")
	flag.IntVar(&o.routes, "routes", 0, "how many routes, 0 for any path")
	flag.Parse()
	if err := o.run(); err != nil {
		log.Fatal(err)
	}
}

func (o *options) run() error {
	o.listening, o.target = pairs(o.listen), pairs(o.to)
	if o.accepts || o.dials {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return err
		}
		o.tls = &tls.Config{
			RootCAs: pool, ClientCAs: pool, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "web.shop",
			MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, SessionTicketsDisabled: true,
		}
	}
	ended := make(chan error)
	for protocol, port := range o.listening {
		base, _, _ := strings.Cut(protocol, "-")
		server, listener, err := o.server(base, o.target[protocol], port)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	return <-ended
}

func pairs(list string) map[string]string {
	out := map[string]string{}
	for field := range strings.SplitSeq(list, ",") {
		if name, value, ok := strings.Cut(field, "="); ok {
			out[name] = value
		}
	}
	return out
}

// server returns what serves a protocol on a port.
func (o *options) server(protocol, target, port string) (*http.Server, net.Listener, error) {
	stable, canary, ok := strings.Cut(target, "/")
	if !ok {
		return nil, nil, errors.New("want stable/canary")
	}
	proxy := o.handler(protocol, stable, canary)
	mux := http.NewServeMux()
	if o.routes == 0 {
		mux.Handle("/", proxy)
	}
	for i := range o.routes {
		mux.Handle(fmt.Sprintf("/r%02d/", i), proxy)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port) //nolint:noctx // nothing to wait for
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute, Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(protocol == "1")
	if !o.accepts {
		server.Protocols.SetUnencryptedHTTP2(protocol == "2")
		return server, listener, nil
	}
	server.Protocols.SetHTTP2(protocol == "2")
	config := o.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	if protocol == "2" {
		config.NextProtos = []string{"h2"}
	}
	server.TLSConfig = config
	return server, tls.NewListener(listener, config), nil
}

func (o *options) handler(protocol, stable, canary string) http.Handler {
	transport := &http.Transport{
		MaxIdleConns: 0, MaxIdleConnsPerHost: 10000, IdleConnTimeout: 10 * time.Minute, DisableCompression: true, Protocols: &http.Protocols{},
	}
	transport.Protocols.SetHTTP1(protocol == "1")
	scheme := "http"
	if o.dials {
		scheme = "https"
		transport.TLSClientConfig = o.tls.Clone()
		transport.Protocols.SetHTTP2(protocol == "2")
	} else {
		transport.Protocols.SetUnencryptedHTTP2(protocol == "2")
	}
	targets := [2]*url.URL{{Scheme: scheme, Host: stable}, {Scheme: scheme, Host: canary}}
	return &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // the generator hangs up on a few at the end of each run
		Rewrite: func(r *httputil.ProxyRequest) {
			target := targets[0]
			if mathrand.IntN(100) < 10 {
				target = targets[1]
			}
			r.SetURL(target)
			r.Out.Host = r.In.Host
			if r.In.Header.Get("Traceparent") == "" {
				r.Out.Header.Set("Traceparent", traceparent())
			}
		},
	}
}

func traceparent() string {
	var id [24]byte
	_, _ = rand.Read(id[:])
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-00"
}
