// SPDX-License-Identifier: Apache-2.0

package grpchealth

import (
	"encoding/binary"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

func TestRequest(t *testing.T) {
	for _, service := range []string{"", "cart", "shop.Cart"} {
		frame := Request(service)
		var m grpc_health_v1.HealthCheckRequest
		err := proto.Unmarshal(frame[prefix:], &m)
		if err != nil || m.GetService() != service || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-prefix {
			t.Errorf("%q: %x: %v", service, frame, err)
		}
	}
}

// FuzzServing compares with protobuf's own: only a whole message whose last status is SERVING passes.
func FuzzServing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 4, 0x12, 0, 8, 2})
	f.Add([]byte{0, 0, 0, 0, 2, 0x13, 0x14})
	f.Fuzz(func(t *testing.T, p []byte) {
		status, err := decode(p)
		isServing := Serving(p) == nil
		if len(p) < prefix || p[0] != 0 || int(binary.BigEndian.Uint32(p[1:])) != len(p)-prefix {
			if err == nil || isServing {
				t.Errorf("%x is taken", p)
			}
			return
		}
		var want grpc_health_v1.HealthCheckResponse
		wrong := proto.Unmarshal(p[prefix:], &want)
		if (wrong == nil) != (err == nil) {
			t.Fatalf("%x: %v, and %v", p, err, wrong)
		}
		if err == nil && int32(status) != int32(want.GetStatus()) { //nolint:gosec // an enum is cut so
			t.Errorf("%x: %d, and %d", p, status, want.GetStatus())
		}
		if isServing != (err == nil && status == serving) {
			t.Errorf("%x: serving is %v, status %d, %v", p, isServing, status, err)
		}
	})
}
