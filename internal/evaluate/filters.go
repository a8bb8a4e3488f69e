// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Filters change a request and its answer on their way, or answer it. Nobody changes them.
type Filters struct {
	// RequestHeaders and ResponseHeaders may be nil.
	RequestHeaders, ResponseHeaders *HeaderFilter
	// Host is what the server gets for an authority; "": the caller's.
	Host string
	// Path may be nil: it stays.
	Path *PathRewrite
	// Redirect answers the request; nil: nothing does.
	Redirect *Redirect
	// Mirror may be nil.
	Mirror *Mirror
}

// newFilters compiles filters of a route. Prefixes says that its matches take a prefix of the path, or nothing.
func newFilters(m *meshconfig.Filters, prefixes bool) (*Filters, error) {
	f := &Filters{Host: m.GetRewriteHost()}
	var err error
	if f.RequestHeaders, err = newHeaderFilter(m.GetRequestHeaders()); err != nil {
		return nil, fmt.Errorf("request_headers: %w", err)
	}
	if f.ResponseHeaders, err = newHeaderFilter(m.GetResponseHeaders()); err != nil {
		return nil, fmt.Errorf("response_headers: %w", err)
	}
	if f.Host != "" {
		if err := CheckAuthority(f.Host); err != nil {
			return nil, fmt.Errorf("rewrite_host: %w", err)
		}
	}
	if f.Path, err = newPathRewrite(m.GetRewritePath(), prefixes); err != nil {
		return nil, fmt.Errorf("rewrite_path: %w", err)
	}
	if f.Redirect, err = newRedirect(m.GetRedirect(), prefixes); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	if f.Mirror, err = newMirror(m.GetMirror()); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if f.Redirect != nil && (f.Host != "" || f.Path != nil || f.Mirror != nil || f.RequestHeaders != nil) {
		return nil, errors.New("redirect: a request that is redirected goes nowhere: leave out request_headers, rewrite_host, rewrite_path and mirror")
	}
	return f, nil
}

// Fields are field lines that a HeaderFilter can change. Names are compared whatever their case.
type Fields interface {
	Del(name string)        // all lines
	Set(name, value string) // one line in the place of all
	Add(name, value string)
}

// HeaderFilter changes headers.
type HeaderFilter struct {
	remove   []string
	set, add []*meshconfig.HeaderValue
}

func newHeaderFilter(m *meshconfig.HeaderFilter) (*HeaderFilter, error) {
	if m == nil {
		return nil, nil
	}
	f := &HeaderFilter{m.GetRemove(), m.GetSet(), m.GetAdd()}
	for i, name := range f.remove {
		if err := CheckField(name, ""); err != nil {
			return nil, fmt.Errorf("remove[%d]: %w", i, err)
		}
	}
	for i, h := range f.set {
		if err := CheckField(h.GetName(), h.GetValue()); err != nil {
			return nil, fmt.Errorf("set[%d]: %w", i, err)
		}
	}
	for i, h := range f.add {
		if err := CheckField(h.GetName(), h.GetValue()); err != nil {
			return nil, fmt.Errorf("add[%d]: %w", i, err)
		}
	}
	return f, nil
}

// Apply removes, then sets, then adds. A nil filter changes nothing.
func (f *HeaderFilter) Apply(fields Fields) {
	if f == nil {
		return
	}
	for _, name := range f.remove {
		fields.Del(name)
	}
	for _, h := range f.set {
		fields.Set(h.GetName(), h.GetValue())
	}
	for _, h := range f.add {
		fields.Add(h.GetName(), h.GetValue())
	}
}

// fixedFields are those that no filter may touch: they frame the message, concern one connection, or have a filter of their
// own.
var fixedFields = map[string]string{
	"connection": "concerns one connection", "keep-alive": "concerns one connection", "proxy-connection": "concerns one connection",
	"http2-settings": "concerns one connection", "upgrade": "concerns one connection", "te": "concerns one connection",
	"content-length": "frames the message", "transfer-encoding": "frames the message", "trailer": "frames the message",
	"expect":                  "is between caller and server",
	"host":                    "has a filter of its own",
	"x-forwarded-client-cert": "is the mesh's own",
}

// ownPrefix is how the names of the mesh's own fields start.
const ownPrefix = "heddle-"

// CheckField says why a filter may not have a field.
func CheckField(name, value string) error {
	if strings.HasPrefix(name, ":") {
		return fmt.Errorf("%.80q: a pseudo-header cannot be changed", name)
	}
	if !isToken(name) {
		return fmt.Errorf("%.80q: not the name of a header", name)
	}
	// Some servers take an underscore for a dash.
	plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if strings.HasPrefix(plain, ownPrefix) {
		return fmt.Errorf("%.80q is the mesh's own", name)
	}
	if why := fixedFields[plain]; why != "" {
		return fmt.Errorf("%.80q %s", name, why)
	}
	if value != strings.Trim(value, " \t") {
		return fmt.Errorf("%.80q: the value has white space around it", name)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("%.80q: the value has a control character", name)
		}
	}
	return nil
}

// isToken says whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		isLetter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !isLetter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// Mirror sends a copy of a share of the requests to a backend.
type Mirror struct {
	Backend *meshconfig.WeightedBackend // of the section
	percent uint32
}

func newMirror(m *meshconfig.Mirror) (*Mirror, error) {
	if m == nil {
		return nil, nil
	}
	if m.GetBackend() == nil {
		return nil, errors.New("backend is missing")
	}
	if m.GetPercent() > 100 {
		return nil, fmt.Errorf("percent: %d: at most 100", m.GetPercent())
	}
	return &Mirror{m.GetBackend(), m.GetPercent()}, nil
}

// Draws says whether a request is copied, given 64 random bits.
func (m *Mirror) Draws(random uint64) bool { return drawn(m.percent, random) }
