// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The environment of the wrapper: the address that it tells in place of the server's, and the server's own.
const (
	wrapVariable   = "HEDDLE_CONFORMANCE_PROXY"
	serverVariable = "HEDDLE_CONFORMANCE_SERVER"
)

func TestConnectConformance(t *testing.T) {
	for _, suite := range []struct {
		name, client, server, features, protocol string
		want                                     int
	}{
		{
			"gRPC conformance", "grpcclient", "grpcserver",
			"versions: [HTTP_VERSION_2]\n  protocols: [PROTOCOL_GRPC]\n  codecs: [CODEC_PROTO]", "grpc", 152,
		},
		{
			"Connect conformance, HTTP/1.1", "referenceclient", "referenceserver",
			"versions: [HTTP_VERSION_1]\n  codecs: [CODEC_PROTO]", "http1", 237,
		},
		{
			"Connect conformance, HTTP/1.1, JSON", "referenceclient", "referenceserver",
			"versions: [HTTP_VERSION_1]\n  codecs: [CODEC_JSON]", "http1", 237,
		},
		{
			"Connect conformance, HTTP/2", "referenceclient", "referenceserver",
			"versions: [HTTP_VERSION_2]\n  codecs: [CODEC_PROTO]", "http2", 457,
		},
		{
			"Connect conformance, HTTP/2, JSON", "referenceclient", "referenceserver",
			"versions: [HTTP_VERSION_2]\n  codecs: [CODEC_JSON]", "http2", 457,
		},
	} {
		t.Run(suite.name, func(t *testing.T) {
			app := freeAddress(t)
			to := behind(t, app, service{protocol: suite.protocol})
			config := filepath.Join(t.TempDir(), "features.yaml")
			check(t, os.WriteFile(config, []byte("features:\n  "+suite.features+"\n  supportsTls: false\n"), 0o600))
			begun := time.Now()
			self, err := os.Executable()
			check(t, err)
			t.Setenv(wrapVariable, to.client.String())
			t.Setenv(serverVariable, app.String())
			out, err := run(t, 5*time.Minute, tool(t, "connectconformance"), "--mode", "both", "--conf", config,
				"--max-servers", "1", "--", tool(t, suite.client), "----", self, tool(t, suite.server))
			found := connectSummary.FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("no summary: %v\n%s", err, tail(out, 40))
			}
			passed, _ := strconv.Atoi(found[1])
			if found[2] != "0" {
				t.Errorf("%s failed", found[2])
			}
			score(t, suite.name, begun, passed, suite.want, failedCases(out))
		})
	}
}

var connectSummary = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed`)

// failedCases cuts what a run says of the cases that failed out of its output.
func failedCases(out string) string {
	if at := strings.Index(out, "FAILED:"); at >= 0 {
		out = out[at:]
	}
	return out[:min(len(out), 20_000)]
}

// freeAddress returns an address that nobody listens on, outside of the range from which the kernel takes ports for others.
func freeAddress(tb testing.TB) netip.AddrPort {
	tb.Helper()
	const first, last = 10_000, 30_000
	for {
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(first+rand.IntN(last-first)))
		l, err := net.Listen("tcp", at.String())
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		check(tb, err)
		check(tb, l.Close())
		return at
	}
}

// wrapServer runs the server that its arguments name at a fixed address, and tells the suite that it is where the pair
// takes connections: it rewrites host (1) and port (2) of the ServerCompatResponse.
func wrapServer() error {
	at, err := netip.ParseAddrPort(os.Getenv(serverVariable))
	if err != nil {
		return err
	}
	proxy, err := netip.ParseAddrPort(os.Getenv(wrapVariable))
	if err != nil {
		return err
	}
	server := exec.Command(os.Args[1], "-bind", at.Addr().String(), "-port", strconv.Itoa(int(at.Port())))
	server.Stdin, server.Stderr = os.Stdin, os.Stderr
	answer, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		select {
		case s := <-asked:
			server.Process.Signal(s)
		case <-ended:
		}
	}()
	defer close(ended)
	if err := rewrite(os.Stdout, answer, proxy); err != nil {
		return errors.Join(err, server.Process.Kill(), server.Wait())
	}
	return server.Wait()
}

// rewrite passes one ServerCompatResponse on with another address.
func rewrite(w io.Writer, r io.Reader, proxy netip.AddrPort) error {
	var size uint32
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(r, message); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	var out []byte
	for len(message) > 0 {
		number, _, n := protowire.ConsumeField(message)
		if n < 0 {
			return fmt.Errorf("parse the server's answer: %w", protowire.ParseError(n))
		}
		if number > 2 {
			out = append(out, message[:n]...)
		}
		message = message[n:]
	}
	out = protowire.AppendTag(out, 1, protowire.BytesType)
	out = protowire.AppendString(out, proxy.Addr().String())
	out = protowire.AppendTag(out, 2, protowire.VarintType)
	out = protowire.AppendVarint(out, uint64(proxy.Port()))
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...))
	return err
}
