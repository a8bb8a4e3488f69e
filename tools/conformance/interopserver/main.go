// SPDX-License-Identifier: Apache-2.0

// Command interopserver serves gRPC's interoperability tests on an address; the stock server listens on all of them.
package main

import (
	"context"
	"flag"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

func main() {
	address := flag.String("listen", "127.0.0.1:10000", "address")
	flag.Parse()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, interop.NewTestServer())
	log.Fatal(server.Serve(l))
}
