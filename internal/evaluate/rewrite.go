// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// PathRewrite gives requests another path.
type PathRewrite struct {
	prefix bool
	value  string // normalised
}

func newPathRewrite(m *meshconfig.PathRewrite, prefixes bool) (*PathRewrite, error) {
	if m == nil {
		return nil, nil
	}
	value, err := normalizeValue(m.GetValue())
	if err != nil {
		return nil, fmt.Errorf("value %.80q: %w", m.GetValue(), err)
	}
	if m.GetPrefix() && !prefixes {
		return nil, errors.New("prefix: the matches of the route must have a path of type Prefix, or none")
	}
	return &PathRewrite{m.GetPrefix(), value}, nil
}

// Rewrite returns the path that takes the place of a normalised one, normalised, too. Prefix is that of the Choice. What
// does not start with a slash, such as "*", stays.
func (p *PathRewrite) Rewrite(path, prefix string) string {
	if !strings.HasPrefix(path, "/") {
		return path
	}
	rest := strings.TrimPrefix(path, prefix)
	if !p.prefix || rest == "" {
		return p.value
	}
	// Both are normalised and meet at a raw slash, where every reading of a path starts anew: so the whole is normalised.
	return strings.TrimSuffix(p.value, "/") + rest
}

// Redirect answers a request with another place for it (RFC 9110, section 15.4).
type Redirect struct {
	// Status is 301, 302, 303, 307 or 308.
	Status int

	scheme string // "http", "https" or "": the request's
	host   string // as it stands in an authority, or ""
	port   string // or ""
	path   *PathRewrite
}

func newRedirect(m *meshconfig.Redirect, prefixes bool) (*Redirect, error) {
	if m == nil {
		return nil, nil
	}
	r := &Redirect{Status: int(m.GetStatus()), scheme: m.GetScheme()}
	switch r.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, fmt.Errorf("status: %d: want 301, 302, 303, 307 or 308", m.GetStatus())
	}
	switch r.scheme {
	case "", "http", "https":
	default:
		return nil, fmt.Errorf("scheme: %.80q: want http or https", r.scheme)
	}
	if m.GetHost() != "" {
		host, err := newHostMatcher(m.GetHost())
		if err != nil || host.below {
			return nil, fmt.Errorf("host: %.80q: want a name or an address, without a port", m.GetHost())
		}
		if r.host = m.GetHost(); host.address.IsValid() {
			r.host = "[" + host.address.String() + "]"
		}
	}
	if m.GetPort() > 65535 {
		return nil, fmt.Errorf("port: %d: want 1 to 65535", m.GetPort())
	}
	if m.GetPort() != 0 {
		r.port = strconv.Itoa(int(m.GetPort()))
	}
	var err error
	if r.path, err = newPathRewrite(m.GetPath(), prefixes); err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	if r.scheme == "" && r.host == "" && r.port == "" && r.path == nil {
		return nil, errors.New("none of scheme, host, port and path is given: it would lead to itself")
	}
	return r, nil
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// Location returns where the request, which came in a scheme ("" is http), should go. Prefix is that of the Choice. What
// the redirect does not name is the request's; the port goes with the scheme, and is left out where it is the scheme's
// own. A request without an authority gets a reference to a path alone.
func (r *Redirect) Location(request *Request, scheme, prefix string) string {
	if scheme == "" {
		scheme = "http"
	}
	host, port := cutPort(request.Authority)
	if r.scheme != "" && r.scheme != scheme {
		scheme, port = r.scheme, ""
	}
	if r.host != "" {
		host = r.host
	}
	if r.port != "" {
		port = r.port
	}
	var b strings.Builder
	if host != "" {
		b.WriteString(scheme)
		b.WriteString("://")
		b.WriteString(host)
		if port != "" && port != defaultPorts[scheme] {
			b.WriteByte(':')
			b.WriteString(port)
		}
	}
	if strings.HasPrefix(request.Path, "/") {
		path := request.Path
		if r.path != nil {
			path = r.path.Rewrite(path, prefix)
		}
		b.WriteString(path)
		if request.Query != "" {
			b.WriteByte('?')
			b.WriteString(request.Query)
		}
	}
	return b.String()
}
