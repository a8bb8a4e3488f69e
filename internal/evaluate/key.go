// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// keySource is where a key that several requests share is taken from.
type keySource uint8

const (
	keyHeader keySource = iota + 1
	keyCookie
	keyQuery
	keyIdentity
	keyAddress
)

// requestKey is a part of a request that tells users or objects apart.
type requestKey struct {
	source keySource
	name   string // of the header, in lower case, cookie or parameter
}

func newRequestKey(source keySource, name string) (requestKey, error) {
	switch source {
	case keyHeader:
		name = strings.ToLower(name)
		fallthrough
	case keyCookie:
		if !isToken(name) {
			return requestKey{}, fmt.Errorf("name: %.80q: want a token", name)
		}
	case keyQuery:
		if name == "" {
			return requestKey{}, fmt.Errorf("name is empty")
		}
	default:
	}
	return requestKey{source, name}, nil
}

// ofSource says whether connections have the key, too.
func (k *requestKey) ofSource() bool { return k.source == keyIdentity || k.source == keyAddress }

// hash returns 64 bits that are the same for equal keys in every proxy. It is not ok if the request has none, or an
// empty one.
func (k *requestKey) hash(r *Request) (hash uint64, ok bool) {
	switch k.source {
	case keyHeader:
		value := r.Authority
		if k.name != "host" {
			value = firstValue(r.Headers, k.name)
		}
		return hashString(fnvOffset, value), value != ""
	case keyCookie:
		value := cookie(r.Headers, k.name)
		return hashString(fnvOffset, value), value != ""
	case keyQuery:
		return hashParameter(r.Query, k.name)
	case keyIdentity:
		if r.Caller == nil {
			return 0, false
		}
		hash = hashString(hashByte(hashString(fnvOffset, r.Caller.TrustDomain), '/'), r.Caller.Namespace)
		return hashString(hashByte(hash, '/'), r.Caller.ServiceAccount), true
	case keyAddress:
		hash = fnvOffset
		for _, b := range r.Source.As16() { // an IPv4 address has one form here
			hash = hashByte(hash, b)
		}
		return hash, r.Source.IsValid()
	}
	return 0, false
}

// hashParameter hashes the first parameter of a name as a form has it.
func hashParameter(query, name string) (hash uint64, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		encoded, value, _ := strings.Cut(pair, "=")
		if value == "" || !formEqual(encoded, name) {
			continue
		}
		hash = fnvOffset
		for i := 0; i < len(value); {
			c, next, valid := formByte(value, i)
			if !valid {
				return 0, false
			}
			hash, i = hashByte(hash, c), next
		}
		return hash, true
	}
	return 0, false
}

// cookie returns the value of the first cookie of a name that has one (RFC 6265, section 5.4), without quotes, or "".
// HTTP/2 may bring several Cookie lines.
func cookie(headers Headers, name string) string {
	if headers == nil {
		return ""
	}
	for i := 0; ; i++ {
		line, ok := headers.Value("cookie", i)
		if !ok {
			return ""
		}
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, _ := strings.Cut(pair, "=")
			if strings.Trim(key, " \t") != name {
				continue
			}
			if value = unquote(strings.Trim(value, " \t")); value != "" {
				return value
			}
		}
	}
}

func unquote(s string) string {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// FNV-1a, of 64 bits.
const (
	fnvOffset uint64 = 14695981039346656037
	fnvPrime  uint64 = 1099511628211
)

func hashByte(hash uint64, b byte) uint64 { return (hash ^ uint64(b)) * fnvPrime }

func hashString(hash uint64, s string) uint64 {
	for i := range len(s) {
		hash = hashByte(hash, s[i])
	}
	return hash
}

// mix spreads every bit over all (the finalizer of SplitMix64), one to one.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Keys are the parts of a request by which consistent hashing knows it, the first that it has.
type Keys struct{ keys []requestKey }

var hashSources = map[meshconfig.HashKey_By]keySource{
	meshconfig.HashKey_BY_HEADER:    keyHeader,
	meshconfig.HashKey_BY_COOKIE:    keyCookie,
	meshconfig.HashKey_BY_QUERY:     keyQuery,
	meshconfig.HashKey_BY_SOURCE_IP: keyAddress,
}

// NewKeys compiles the keys of a cluster's balancing.
func NewKeys(hash []*meshconfig.HashKey) (*Keys, error) {
	k := &Keys{}
	for i, m := range hash {
		source, ok := hashSources[m.GetBy()]
		if !ok {
			return nil, fmt.Errorf("hash[%d]: by: unknown value %d", i, m.GetBy())
		}
		key, err := newRequestKey(source, m.GetName())
		if err != nil {
			return nil, fmt.Errorf("hash[%d]: %w", i, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// Hash returns 64 well-spread bits that are the same in every proxy for requests of the same key. It is not ok if the
// request has none of the keys.
func (k *Keys) Hash(r *Request) (hash uint64, ok bool) {
	for i := range k.keys {
		if hash, ok := k.keys[i].hash(r); ok {
			return mix(hash), true
		}
	}
	return 0, false
}
