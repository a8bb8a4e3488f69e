// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Stickiness keeps requests of one key on one backend while the weights do not take that away.
type Stickiness struct {
	key        requestKey
	attributes string // of the cookie
}

var stickySources = map[meshconfig.Stickiness_By]keySource{
	meshconfig.Stickiness_BY_COOKIE:          keyCookie,
	meshconfig.Stickiness_BY_HEADER:          keyHeader,
	meshconfig.Stickiness_BY_SOURCE_IDENTITY: keyIdentity,
	meshconfig.Stickiness_BY_SOURCE_IP:       keyAddress,
}

func newStickiness(m *meshconfig.Stickiness) (*Stickiness, error) {
	if m == nil {
		return nil, nil
	}
	source, ok := stickySources[m.GetBy()]
	if !ok {
		return nil, fmt.Errorf("by: unknown value %d", m.GetBy())
	}
	s := &Stickiness{}
	var err error
	if s.key, err = newRequestKey(source, m.GetName()); err != nil {
		return nil, err
	}
	ttl, err := milliseconds("ttl", m.GetTtl())
	if err != nil {
		return nil, err
	}
	if lower := strings.ToLower(s.key.name); source == keyCookie && (strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__secure-")) {
		return nil, fmt.Errorf("name: %q: browsers take such a cookie with Secure alone, which the mesh cannot know to be right", s.key.name)
	}
	s.attributes = "; Path=/"
	if ttl > 0 {
		s.attributes += "; Max-Age=" + strconv.FormatFloat(math.Ceil(ttl.Seconds()), 'f', 0, 64)
	}
	s.attributes += "; HttpOnly; SameSite=Lax"
	return s, nil
}

// SetCookie returns the value of the Set-Cookie field that gives a user the key for which Pick has picked, given the same
// 64 random bits.
func (s *Stickiness) SetCookie(random uint64) string {
	value := cookieValue(random)
	return s.key.name + "=" + string(value[:]) + s.attributes
}

// cookieValue spells 64 bits in hexadecimal digits.
func cookieValue(random uint64) (value [16]byte) {
	const digits = "0123456789abcdef"
	for i := range value {
		value[i] = digits[random>>60]
		random <<= 4
	}
	return value
}

// Pick returns the index of a backend in the Split, given 64 random bits that are drawn for the request; -1 if all weights
// are 0. With Stickiness it goes by the request's key, and where that is to come from a cookie that the request has not,
// by a new one: setCookie says that the answer should bring it. There is nothing to stick to while one backend takes all.
func (c *Choice) Pick(request *Request, random uint64) (backend int, setCookie bool) {
	backend = c.Split.Pick(random)
	if c.Stickiness == nil || backend < 0 || c.Split.takesAll(backend) {
		return backend, false
	}
	hash, ok := c.Stickiness.key.hash(request)
	if !ok {
		if c.Stickiness.key.source != keyCookie {
			return backend, false
		}
		setCookie = true
		hash = fnvOffset
		for _, b := range cookieValue(random) {
			hash = hashByte(hash, b)
		}
	}
	return c.Split.stick(mix(hash)), setCookie
}

func (s *Split) takesAll(backend int) bool { return uint64(s.backends[backend].GetWeight()) == s.total }

// backendSeed tells backends apart. The service counts, so that those who get the canary of one service are others than
// those who get another's.
func backendSeed(b *meshconfig.WeightedBackend) uint64 {
	return mix(hashString(hashByte(hashString(fnvOffset, b.GetService()), '/'), b.GetName()))
}

// stick returns the index of the backend for a key's hash: weighted rendezvous hashing. Each backend draws -ln(u)/weight,
// where u is uniform in (0, 1) by the hash of key and backend, and the least wins. That makes shares of the weights, and a
// key moves only because its backend lost, or the one that it moves to won, against another. Weights of 0 get none.
//
// It counts in integers, because floating point differs between processors; binary logarithms order like natural ones.
func (s *Split) stick(key uint64) int {
	best, bestCost, bestWeight := -1, uint64(0), uint64(0)
	for i, b := range s.backends {
		weight := uint64(b.GetWeight())
		if weight == 0 {
			continue
		}
		cost := negativeLog2(mix(key ^ s.seeds[i]))
		if best >= 0 {
			// cost / weight < bestCost / bestWeight
			high, low := bits.Mul64(cost, bestWeight)
			bestHigh, bestLow := bits.Mul64(bestCost, weight)
			if high > bestHigh || high == bestHigh && low >= bestLow {
				continue
			}
		}
		best, bestCost, bestWeight = i, cost, weight
	}
	return best
}
