// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Filters change the requests of a route, or answer them.
// +kubebuilder:validation:XValidation:rule="!has(self.redirect) || !has(self.rewrite) && !has(self.mirror) && !has(self.requestHeaders)",message="filters must not hold redirect beside requestHeaders, rewrite or mirror: a redirected request goes nowhere",fieldPath=".redirect"
type Filters struct {
	// requestHeaders are changed before the request goes to a backend.
	// +optional
	RequestHeaders *HeaderFilter `json:"requestHeaders,omitempty"`

	// responseHeaders are changed before the answer goes to the caller.
	// +optional
	ResponseHeaders *HeaderFilter `json:"responseHeaders,omitempty"`

	// rewrite changes what the backend is asked for.
	// +optional
	Rewrite *Rewrite `json:"rewrite,omitempty"`

	// redirect answers the request with another place to go to.
	// +optional
	Redirect *Redirect `json:"redirect,omitempty"`

	// mirror sends a copy of a share of the requests to another Service. Nobody
	// waits for it and its answers are dropped.
	// +optional
	Mirror *Mirror `json:"mirror,omitempty"`
}

// HeaderFilter removes, then sets, then adds header lines.
// +kubebuilder:validation:XValidation:rule="has(self.set) || has(self.add) || has(self.remove)",message="set at least one of set, add and remove"
type HeaderFilter struct {
	// set gives headers one value, whatever they had. At most 16.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Set []Header `json:"set,omitempty"`

	// add adds a line to headers, beside what they have. At most 16.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Add []Header `json:"add,omitempty"`

	// remove takes headers away, by name. At most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Remove []string `json:"remove,omitempty"`
}

// Header is a header line.
type Header struct {
	// name of the header, at most 128 characters. Host, the framing of messages
	// (Content-Length, Transfer-Encoding, Connection, ...), heddle-* and
	// X-Forwarded-Client-Cert are the proxy's own and refused.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Name string `json:"name"`

	// value of the header, at most 1024 characters, no control characters.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^\x00-\x08\x0a-\x1f\x7f]*$`
	Value string `json:"value,omitempty"`
}

// Rewrite changes what the backend is asked for.
// +kubebuilder:validation:XValidation:rule="has(self.host) || has(self.path)",message="rewrite must set at least one of host and path"
type Rewrite struct {
	// host that the backend sees in place of the caller's, maybe with a port.
	// +optional
	// +kubebuilder:validation:MaxLength=259
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$`
	Host string `json:"host,omitempty"`

	// path that the backend sees. The query stays.
	// +optional
	Path *PathRewrite `json:"path,omitempty"`
}

// PathRewriteType says what of the path is replaced.
// +kubebuilder:validation:Enum=Full;Prefix
type PathRewriteType string

// What of a path is replaced.
const (
	// PathRewriteFull replaces all of it.
	PathRewriteFull PathRewriteType = "Full"
	// PathRewritePrefix replaces the prefix that the route's match took: with
	// match /cart and value /basket, /cart/items becomes /basket/items.
	PathRewritePrefix PathRewriteType = "Prefix"
)

// PathRewrite replaces a path or its prefix.
type PathRewrite struct {
	// type says what is replaced: Full, or Prefix. For Prefix every match of the
	// route must have a path of type Prefix.
	// +required
	Type PathRewriteType `json:"type"`

	// value that takes its place; starts with "/", at most 1024 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^?#\\\s\x00-\x1f\x7f]*$`
	Value string `json:"value"`
}

// Redirect answers a request with another place to go to. What is absent stays
// as in the request.
// +kubebuilder:validation:XValidation:rule="has(self.scheme) || has(self.host) || has(self.port) || has(self.path)",message="redirect must set at least one of scheme, host, port and path"
type Redirect struct {
	// scheme of the place: http or https.
	// +optional
	// +kubebuilder:validation:Enum=http;https
	Scheme string `json:"scheme,omitempty"`

	// host of the place, without port.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Host string `json:"host,omitempty"`

	// port of the place.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// path of the place. The query stays.
	// +optional
	Path *PathRewrite `json:"path,omitempty"`

	// status of the answer: 301, 302, 303, 307 or 308. Default: 302.
	// +optional
	// +kubebuilder:validation:Enum=301;302;303;307;308
	Status int32 `json:"status,omitempty"`
}

// Mirror sends copies of requests to another Service.
type Mirror struct {
	// service that gets the copies. Without port, the port that the caller used.
	// +required
	Service ServicePortReference `json:"service"`

	// percent of the requests that are copied, 1 to 100. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
}
