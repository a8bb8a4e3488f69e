// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

const asGRPC = meshconfig.Protocol_PROTOCOL_GRPC

// echoService answers every kind of call with what it was sent.
type echoService struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (echoService) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if r.GetResponseStatus().GetCode() != 0 {
		return nil, status.Error(codes.Code(r.GetResponseStatus().GetCode()), r.GetResponseStatus().GetMessage())
	}
	if r.GetFillServerId() {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-sum", "1")); err != nil {
		return nil, err
	}
	return &grpc_testing.SimpleResponse{
		Payload: r.GetPayload(), Username: strings.Join(in.Get("x-forwarded-client-cert"), "|"),
	}, nil
}

func (echoService) StreamingOutputCall(
	r *grpc_testing.StreamingOutputCallRequest, s grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse],
) error {
	for _, p := range r.GetResponseParameters() {
		if err := s.Send(reply(make([]byte, p.GetSize()))); err != nil {
			return err
		}
	}
	return nil
}

func (echoService) StreamingInputCall(
	s grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse],
) error {
	size := int32(0)
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(r.GetPayload().GetBody()))
	}
}

func (echoService) FullDuplexCall(
	s grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse],
) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(reply(r.GetPayload().GetBody())); err != nil {
			return err
		}
	}
}

func reply(body []byte) *grpc_testing.StreamingOutputCallResponse {
	return &grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: body}}
}

// newGRPCPair runs the service behind two proxies and returns a client of it.
func newGRPCPair(t *testing.T) (*pair, grpc_testing.TestServiceClient) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, echoService{})
	go server.Serve(l)
	t.Cleanup(server.Stop)
	p := newPair(t, asGRPC, addrOf(l.Addr()), settings{})
	return p, grpcClient(t, p.at)
}

func grpcClient(t *testing.T, at netip.AddrPort) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///cart:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func TestGRPCUnary(t *testing.T) {
	p, client := newGRPCPair(t)
	var trailer metadata.MD
	response, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{
		Payload: &grpc_testing.Payload{Body: make([]byte, 300_000)},
	}, grpc.Trailer(&trailer))
	if err != nil || len(response.GetPayload().GetBody()) != 300_000 || response.GetUsername() != "URI="+web.String() {
		t.Fatalf("%d bytes as %q, %v", len(response.GetPayload().GetBody()), response.GetUsername(), err)
	}
	if got := trailer.Get("x-sum"); len(got) != 1 {
		t.Errorf("trailer %v", trailer)
	}
	p.client.events.wait(t, "of the call", func(e observe.Event) bool {
		return e.Protocol == "grpc" && e.GRPCStatus == 0 && e.Class() == "ok" && e.Path == "/grpc.testing.TestService/UnaryCall"
	})
	_, err = client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{
		ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.AlreadyExists), Message: "grüße %"},
	})
	if s := status.Convert(err); s.Code() != codes.AlreadyExists || s.Message() != "grüße %" {
		t.Errorf("status %v", s)
	}
	p.server.events.wait(t, "of the error", func(e observe.Event) bool { return e.GRPCStatus == 6 && e.Class() == "error" })
}

func TestGRPCStreams(t *testing.T) {
	_, client := newGRPCPair(t)
	out, err := client.StreamingOutputCall(t.Context(), &grpc_testing.StreamingOutputCallRequest{
		ResponseParameters: []*grpc_testing.ResponseParameters{{Size: 1}, {Size: 100_000}, {Size: 0}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 100_000, 0} {
		if r, err := out.Recv(); err != nil || len(r.GetPayload().GetBody()) != want {
			t.Fatalf("%d bytes, %v; want %d", len(r.GetPayload().GetBody()), err, want)
		}
	}
	if _, err := out.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}

	in, err := client.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		payload := &grpc_testing.Payload{Body: make([]byte, 50_000)}
		if err := in.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 500_000 {
		t.Errorf("%d bytes, %v", r.GetAggregatedPayloadSize(), err)
	}

	both, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // one at a time: neither side may hold anything back
		payload := &grpc_testing.Payload{Body: make([]byte, i*100)}
		if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if r, err := both.Recv(); err != nil || len(r.GetPayload().GetBody()) != i*100 {
			t.Fatalf("%d bytes, %v", len(r.GetPayload().GetBody()), err)
		}
	}
	both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

func TestGRPCCallersUnderstandRefusals(t *testing.T) {
	p, client := newGRPCPair(t)
	unary := func() *status.Status {
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{})
		return status.Convert(err)
	}
	p.server.policy(strict, deny, rule("shop/cart/no", deny, web, nil, []string{"/grpc.testing.TestService/*"}))
	if s := unary(); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "rule: shop/cart/no") {
		t.Errorf("denied: %v", s)
	}
	p.server.policy(strict, allow)
	p.client.endpoints(cart, shop)
	if s := unary(); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "no_endpoints") {
		t.Errorf("no endpoints: %v", s)
	}
	p.client.endpoints(cart, shop, p.inside)
	p.client.service(asGRPC, func(port *meshconfig.ServicePort) {
		port.Routes = []*meshconfig.Route{{Name: "brief", RequestTimeout: 50}}
	}, 1)
	_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{FillServerId: true})
	if s := status.Convert(err); s.Code() != codes.DeadlineExceeded || !strings.Contains(s.Message(), "route brief") {
		t.Errorf("timeout: %v", s)
	}
	p.client.service(asGRPC, nil, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = client.UnaryCall(ctx, &grpc_testing.SimpleRequest{FillServerId: true})
	if s := status.Convert(err); s.Code() != codes.DeadlineExceeded {
		t.Errorf("own deadline: %v", s)
	}
}
