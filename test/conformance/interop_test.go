// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

const interopCases = `empty_unary large_unary client_streaming server_streaming ping_pong empty_stream
	timeout_on_sleeping_server cancel_after_begin cancel_after_first_response status_code_and_message
	special_status_message custom_metadata unimplemented_method unimplemented_service rpc_soak channel_soak`

func TestGRPCInterop(t *testing.T) {
	app := freeAddress(t)
	start(t, tool(t, "interopserver"), "-listen", app.String())
	await(t, "the interop server listens", func() bool {
		c, err := net.Dial("tcp", app.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	to := behind(t, app, service{protocol: "grpc"})
	begun := time.Now()
	cases, passed := strings.Fields(interopCases), 0
	var failures strings.Builder
	for _, name := range cases {
		out, err := run(t, time.Minute, tool(t, "client"), "-server_host", to.client.Addr().String(), "-server_port",
			strconv.Itoa(int(to.client.Port())), "-test_case", name)
		if err == nil {
			passed++
			continue
		}
		failures.WriteString(name + ": " + err.Error() + "\n" + tail(out, 20) + "\n")
	}
	score(t, "gRPC interop", begun, passed, len(cases), failures.String())
}
