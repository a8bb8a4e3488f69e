// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Bounds of a regular expression. RE2 takes time in proportion to its size times that of the input, on every request.
const (
	maxRegexLength = 1024
	maxRegexSize   = 1000 // of the program, in instructions, about
)

// compileRegex compiles an RE2 expression that must match the whole input.
func compileRegex(value string) (*regexp.Regexp, error) {
	if len(value) > maxRegexLength {
		return nil, fmt.Errorf("regular expression of %d bytes: at most %d", len(value), maxRegexLength)
	}
	// Parsed by itself first, so that nothing in it can close the group that is put around it.
	parsed, err := syntax.Parse(value, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("not an RE2 regular expression: %w", err)
	}
	if size := regexSize(parsed); size > maxRegexSize {
		return nil, fmt.Errorf("regular expression is too large: repetitions make it %d steps of at most %d", size, maxRegexSize)
	}
	compiled, err := regexp.Compile(`\A(?:` + value + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("not an RE2 regular expression: %w", err)
	}
	return compiled, nil
}

// regexSize estimates how many instructions a compiled expression has, before anything is expanded. It never overflows:
// what is over the bound is cut off at each step.
func regexSize(re *syntax.Regexp) int {
	const limit = maxRegexSize * 1000
	size := 1
	for _, sub := range re.Sub {
		size = min(limit, size+regexSize(sub))
	}
	switch re.Op {
	case syntax.OpLiteral:
		size += len(re.Rune)
	case syntax.OpRepeat:
		size = min(limit, size*max(1, re.Min+1, re.Max))
	default:
	}
	return size
}
