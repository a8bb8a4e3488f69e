// SPDX-License-Identifier: Apache-2.0

// Package grpchealth is the wire form of the gRPC health checking protocol, grpc.health.v1
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md), without a gRPC library.
package grpchealth

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Path is where Health.Check is asked.
const Path = "/grpc.health.v1.Health/Check"

const (
	fieldService = 1 // of HealthCheckRequest, a string
	fieldStatus  = 1 // of HealthCheckResponse, an enum
	serving      = 1
)

// prefix is the length of what stands before a message of gRPC: a flag and four bytes of its length.
const prefix = 5

// Request is a HealthCheckRequest in its frame. Without a service it asks for the whole server.
func Request(service string) []byte {
	frame := make([]byte, prefix)
	if service != "" {
		frame = protowire.AppendTag(frame, fieldService, protowire.BytesType)
		frame = protowire.AppendString(frame, service)
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-prefix)) //nolint:gosec // callers bound the name
	return frame
}

// Serving returns nil if an answer is one whole HealthCheckResponse in its frame, uncompressed, that says SERVING, else
// an error that says what it is. Any bytes may be given.
func Serving(answer []byte) error {
	status, err := decode(answer)
	if err == nil && status != serving {
		err = fmt.Errorf("its serving status is %d, not SERVING", status)
	}
	return err
}

func decode(p []byte) (status uint64, err error) {
	if len(p) < prefix || p[0] != 0 || int64(binary.BigEndian.Uint32(p[1:])) != int64(len(p)-prefix) {
		return 0, errors.New("its answer is not one message as it is")
	}
	for p = p[prefix:]; len(p) > 0; {
		number, kind, n := protowire.ConsumeTag(p)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		if number > protowire.MaxValidNumber {
			return 0, errors.New("its answer has a field of an impossible number")
		}
		p = p[n:]
		if number == fieldStatus && kind == protowire.VarintType {
			status, n = protowire.ConsumeVarint(p)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, p)
		}
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		p = p[n:]
	}
	return status, nil
}
