// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// PathMatchType says how a path is compared.
// +kubebuilder:validation:Enum=Exact;Prefix;Regex
type PathMatchType string

// The ways to compare a path.
const (
	// PathMatchExact compares the whole path, by case.
	PathMatchExact PathMatchType = "Exact"
	// PathMatchPrefix compares whole elements of the path: /cart matches /cart,
	// /cart/ and /cart/items, and not /cartoon.
	PathMatchPrefix PathMatchType = "Prefix"
	// PathMatchRegex asks that an RE2 expression matches the whole path.
	PathMatchRegex PathMatchType = "Regex"
)

// HeaderMatchType says how the value of a header is compared.
// +kubebuilder:validation:Enum=Exact;Regex
type HeaderMatchType string

// The ways to compare the value of a header.
const (
	// HeaderMatchExact compares the whole value, by case.
	HeaderMatchExact HeaderMatchType = "Exact"
	// HeaderMatchRegex asks that an RE2 expression matches the whole value.
	HeaderMatchRegex HeaderMatchType = "Regex"
)

// RequestMatch describes requests. A request matches when all that is given
// matches; what is absent does not constrain.
// +kubebuilder:validation:XValidation:rule="has(self.path) || has(self.method) || has(self.headers) || has(self.query) || has(self.hosts) || has(self.grpc) || has(self.callers)",message="a match must set at least one of path, method, headers, query, hosts, grpc and callers; for every request use path {type: Prefix, value: /}"
// +kubebuilder:validation:XValidation:rule="!has(self.grpc) || !has(self.path) && !has(self.method)",message="a match must not set grpc beside path or method: a gRPC method is a path, and always POST",fieldPath=".grpc"
type RequestMatch struct {
	// path that the request asks for, without its query.
	// +optional
	Path *PathMatch `json:"path,omitempty"`

	// method of the request in capitals, for example GET. gRPC calls are all POST:
	// use grpc.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Z0-9_-]*$`
	Method string `json:"method,omitempty"`

	// headers that the request must carry, all of them; at most 8, each name
	// once. An absent list does not constrain.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.name.lowerAscii() == b.name.lowerAscii()))",message="headers must name each header once: names differ by more than case"
	Headers []HeaderMatch `json:"headers,omitempty"`

	// query parameters that the request must carry, all of them; at most 8, each
	// name once. An absent list does not constrain.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Query []QueryMatch `json:"query,omitempty"`

	// hosts that the request may be for, one of them: the name that the caller
	// used, without port, or "*.example.com" for every name below. At most 8.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Hosts []string `json:"hosts,omitempty"`

	// grpc is the method that is called; in place of path and method.
	// +optional
	GRPC *GRPCMatch `json:"grpc,omitempty"`

	// callers that the request may come from; one entry that matches is enough.
	// At most 8.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Callers []CallerMatch `json:"callers,omitempty"`
}

// QueryMatch compares a parameter of the query, decoded. Of one that comes
// several times one value that matches is enough.
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || self.value.size() <= 256",message="query[].value must be at most 256 characters for type Regex",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || 'a'.matches(self.value) || !'a'.matches(self.value)",message="query[].value must be an RE2 regular expression for type Regex",fieldPath=".value"
type QueryMatch struct {
	// name of the parameter, by case; 1 to 128 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`

	// type says how value is compared. Exact: the whole value. Regex: an RE2
	// expression that must match the whole value. Default: Exact.
	// +optional
	// +kubebuilder:default=Exact
	Type HeaderMatchType `json:"type,omitempty"`

	// value to compare with, by case; at most 1024 characters, a Regex at most
	// 256. Exact with "" asks for the parameter without a value.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value,omitempty"`
}

// GRPCMatch describes calls of gRPC.
type GRPCMatch struct {
	// service with its package: shop.Payments.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	Service string `json:"service"`

	// method of the service. Absent: all of them.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	Method string `json:"method,omitempty"`
}

// CallerMatch says who calls. Both lists that are set must match, by one value
// each. Callers are workloads of the mesh, known by their identity.
// +kubebuilder:validation:XValidation:rule="has(self.serviceAccounts) || has(self.namespaces)",message="callers[] must set at least one of serviceAccounts and namespaces"
type CallerMatch struct {
	// serviceAccounts of the caller: "name" in this object's namespace, or
	// "namespace/name". 1 to 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`

	// namespaces of the caller. 1 to 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`
}

// PathMatch compares the path of a request after normalisation: dot segments
// resolved, repeated slashes merged, escapes in one form. What is forwarded is
// the same normalised path.
// +kubebuilder:validation:XValidation:rule="self.type == 'Regex' || self.value.startsWith('/')",message="path.value must start with \"/\" for type Exact and Prefix",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule=`self.type == 'Regex' || !self.value.matches(r'[?#\\[:space:][:cntrl:]]|//|/[.][.]?(/|$)|%([^0-9A-Fa-f]|.?$|.[^0-9A-Fa-f])')`,message="path.value is compared with the normalised path without its query: take out ?, #, backslashes, white space, //, /./, /../ and broken % escapes",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || self.value.size() <= 256",message="path.value must be at most 256 characters for type Regex",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || 'a'.matches(self.value) || !'a'.matches(self.value)",message="path.value must be an RE2 regular expression for type Regex",fieldPath=".value"
type PathMatch struct {
	// type says how value is compared. Exact: the whole path. Prefix: whole
	// elements, so /cart matches /cart and /cart/items but not /cartoon. Regex:
	// an RE2 expression that must match the whole path. Default: Prefix.
	// +optional
	// +kubebuilder:default=Prefix
	Type PathMatchType `json:"type,omitempty"`

	// value to compare with, by case; starts with "/" (not asked of a Regex). At
	// most 1024 characters, a Regex at most 256. Percent escapes are compared in
	// their normalised form, so /caf%c3%a9 and /café are the same value.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// HeaderMatch compares a header of a request. Of a header that comes in several
// lines one line that matches is enough.
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || self.value.size() <= 256",message="headers[].value must be at most 256 characters for type Regex",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type != 'Regex' || 'a'.matches(self.value) || !'a'.matches(self.value)",message="headers[].value must be an RE2 regular expression for type Regex",fieldPath=".value"
type HeaderMatch struct {
	// name of the header, whatever its case; letters, digits and the other
	// characters that a header name may have (RFC 9110 token), at most 128. Host
	// stands for the authority of the request on HTTP/2 too.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Name string `json:"name"`

	// type says how value is compared. Exact: the whole value. Regex: an RE2
	// expression that must match the whole value; ".*" asks only that the header
	// is there. Default: Exact.
	// +optional
	// +kubebuilder:default=Exact
	Type HeaderMatchType `json:"type,omitempty"`

	// value to compare with, by case; 1 to 1024 characters, a Regex at most 256,
	// no control characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^\x00-\x08\x0a-\x1f\x7f]*$`
	Value string `json:"value"`
}
