// SPDX-License-Identifier: Apache-2.0

package evaluate

import "math/bits"

// logBits are those behind the binary point of negativeLog2: a share of one in a million is right to one in a million.
const logBits = 40

// negativeLog2 returns -log2(x / 2^64) x 2^logBits, rounded up. The lowest bit of x counts as 1.
func negativeLog2(x uint64) uint64 {
	x |= 1
	zeros := bits.LeadingZeros64(x)
	return uint64(zeros+1)<<logBits - log2(x<<zeros)>>(64-logBits)
}

// log2 returns log2(y / 2^63) x 2^64 of y from 2^63 on, to within 2^20. With y = a(1 + z/128), where a is the next of
// logTable below, it is log2(a) and the first five terms of the series for the rest.
func log2(y uint64) uint64 {
	i := y << 1 >> (64 - logTableBits)
	z, _ := bits.Mul64(y<<(1+logTableBits), inverses[i])
	z <<= 1 // in [0, 1), 64 bits behind the point
	sum := uint64(0)
	for _, c := range logSeries {
		product, _ := bits.Mul64(sum, z)
		sum = c - product
	}
	product, _ := bits.Mul64(sum, z)
	log, carry := bits.Add64(logs[i], product, 0)
	return log | -carry // what was rounded up to 1 or more is the most that is less
}

// logSeries is 2^64 / (k x 128^k x ln 2) for k from 5 down to 1.
var logSeries = [...]uint64{0x93bb628, 0x5c551d94b, 0x3d8e13b8740, 0x2e2a8eca57060, 0x2e2a8eca5705fc3}

const logTableBits = 7

// logs and inverses are log2(a) x 2^64 and 2^63 / a of a = 1 + i/128.
var logs, inverses = func() (logs, inverses [1 << logTableBits]uint64) {
	for i := range uint64(1 << logTableBits) {
		logs[i] = log2ByDigits(1<<63 + i<<(63-logTableBits))
		inverses[i], _ = bits.Div64(1<<(logTableBits-1), 0, 1<<logTableBits+i)
	}
	return logs, inverses
}()

// log2ByDigits is log2, slowly.
func log2ByDigits(y uint64) (log uint64) {
	for range 64 {
		// Squared, y is in [1, 4). From 2 on, the next digit of its logarithm is 1 and it is halved.
		high, low := bits.Mul64(y, y)
		digit := high >> 63
		y = high<<(1-digit) | low>>63&(1-digit)
		log = log<<1 | digit
	}
	return log
}
