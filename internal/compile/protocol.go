// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// protocols of a ServiceProfile.
var protocols = map[v1alpha1.PortProtocol]meshconfig.Protocol{
	v1alpha1.ProtocolHTTP1:  meshconfig.Protocol_PROTOCOL_HTTP1,
	v1alpha1.ProtocolHTTP2:  meshconfig.Protocol_PROTOCOL_HTTP2,
	v1alpha1.ProtocolGRPC:   meshconfig.Protocol_PROTOCOL_GRPC,
	v1alpha1.ProtocolTCP:    meshconfig.Protocol_PROTOCOL_TCP,
	v1alpha1.ProtocolTLS:    meshconfig.Protocol_PROTOCOL_TLS,
	v1alpha1.ProtocolOpaque: meshconfig.Protocol_PROTOCOL_OPAQUE,
}

var protocolNames = []v1alpha1.PortProtocol{
	v1alpha1.ProtocolHTTP1, v1alpha1.ProtocolHTTP2, v1alpha1.ProtocolGRPC,
	v1alpha1.ProtocolTCP, v1alpha1.ProtocolTLS, v1alpha1.ProtocolOpaque,
}

// appProtocols are the values of a Service's appProtocol, and the names of ports up to the first dash ("http-metrics"),
// as other meshes read them. "kubernetes.io/" stands before those of KEP-3726. The databases are here because their
// servers speak first, which costs a wait where nothing is declared. "http" is any version: many servers take HTTP/2 with
// prior knowledge on such a port, and whoever calls one with it knows that.
var appProtocols = map[string]meshconfig.Protocol{
	"http":     meshconfig.Protocol_PROTOCOL_HTTP,
	"http1":    meshconfig.Protocol_PROTOCOL_HTTP1,
	"ws":       meshconfig.Protocol_PROTOCOL_HTTP1,
	"grpc-web": meshconfig.Protocol_PROTOCOL_HTTP1,
	"http2":    meshconfig.Protocol_PROTOCOL_HTTP2,
	"h2c":      meshconfig.Protocol_PROTOCOL_HTTP2,
	"grpc":     meshconfig.Protocol_PROTOCOL_GRPC,
	"https":    meshconfig.Protocol_PROTOCOL_TLS,
	"tls":      meshconfig.Protocol_PROTOCOL_TLS,
	"wss":      meshconfig.Protocol_PROTOCOL_TLS,
	"tcp":      meshconfig.Protocol_PROTOCOL_TCP,
	"mongo":    meshconfig.Protocol_PROTOCOL_TCP,
	"mysql":    meshconfig.Protocol_PROTOCOL_TCP,
	"redis":    meshconfig.Protocol_PROTOCOL_TCP,
	"postgres": meshconfig.Protocol_PROTOCOL_TCP,
}

// declaredProtocol returns what a Service says that its port speaks: by appProtocol, else by the port's name. A profile
// wins over both.
func declaredProtocol(p *corev1.ServicePort) meshconfig.Protocol {
	if p.AppProtocol != nil {
		name := strings.TrimPrefix(strings.ToLower(*p.AppProtocol), "kubernetes.io/")
		if protocol, ok := appProtocols[name]; ok {
			return protocol
		}
	}
	name := strings.ToLower(p.Name)
	if name == "grpc-web" || strings.HasPrefix(name, "grpc-web-") {
		return meshconfig.Protocol_PROTOCOL_HTTP1
	}
	prefix, _, _ := strings.Cut(name, "-")
	return appProtocols[prefix]
}

// hasRequests says whether a port may carry HTTP requests: if it is declared as HTTP, or not declared.
func hasRequests(p meshconfig.Protocol) bool {
	switch p {
	case meshconfig.Protocol_PROTOCOL_TCP, meshconfig.Protocol_PROTOCOL_TLS, meshconfig.Protocol_PROTOCOL_OPAQUE:
		return false
	default:
		return true
	}
}

// isHTTP2 says whether requests come to a server by HTTP/2 alone, as one with prior knowledge takes them.
func isHTTP2(p meshconfig.Protocol) bool {
	return p == meshconfig.Protocol_PROTOCOL_HTTP2 || p == meshconfig.Protocol_PROTOCOL_GRPC
}

// protocolLabel is a protocol as users write it.
func protocolLabel(p meshconfig.Protocol) string {
	for _, name := range protocolNames {
		if protocols[name] == p {
			return string(name)
		}
	}
	return "unknown"
}
