// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// perShard is how many endpoints a shard holds at most on average. An endpoint that comes or goes has its shard sent
// again and no other.
const perShard = 64

// newShards deals endpoints into shards by a hash of the address. Without endpoints there is one shard, empty.
func newShards(service string, endpoints map[netip.Addr]*meshconfig.Endpoint, listed int) []*meshconfig.Endpoints {
	n := shardCount(listed)
	shards := make([]*meshconfig.Endpoints, n)
	for i := range shards {
		shards[i] = &meshconfig.Endpoints{Service: service, Shard: uint32(i), Shards: uint32(n)}
	}
	addresses := make([]netip.Addr, 0, len(endpoints))
	for ip := range endpoints {
		addresses = append(addresses, ip)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	for _, ip := range addresses {
		shard := shards[shardOf(ip, n)]
		shard.Endpoints = append(shard.Endpoints, endpoints[ip])
	}
	return shards
}

// shardCount returns the power of two that has at most perShard endpoints in a shard.
func shardCount(endpoints int) int {
	n := (endpoints + perShard - 1) / perShard
	if n <= 1 {
		return 1
	}
	return min(1<<bits.Len(uint(n-1)), meshconfig.MaxShards)
}

// shardOf takes the high bits of the hash, so that doubling the number of shards splits each in two.
func shardOf(ip netip.Addr, shards int) int {
	b := ip.As16()
	h := mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
	high, _ := bits.Mul64(h, uint64(shards))
	return int(high)
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
