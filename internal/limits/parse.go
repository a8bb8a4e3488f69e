// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads a list such as "header-bytes=64KiB,streams=100,idle=5m". What it does not name has its default. Its error
// lists all that is wrong with the list, each with the limit and what it may be.
func Parse(list string) (Set, error) {
	s := Default()
	var errs []error
	var seen []Name
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, ok := strings.Cut(item, "=")
		at := slices.IndexFunc(table, func(l Limit) bool { return l.Name == Name(name) })
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%q: want name=value, such as header-bytes=64KiB", item))
		case at < 0:
			errs = append(errs, fmt.Errorf("there is no limit %q: want one of %s", name, names()))
		case slices.Contains(seen, Name(name)):
			errs = append(errs, fmt.Errorf("limit %s is there twice: leave one", name))
		default:
			seen = append(seen, Name(name))
			errs = append(errs, table[at].parse(&s, value))
		}
	}
	if s.ConnectionWindow < s.StreamWindow {
		errs = append(errs, fmt.Errorf("limit %s is below %s: raise it, or lower the other", ConnectionWindow, StreamWindow))
	}
	return s, errors.Join(errs...)
}

func names() string {
	all := make([]string, len(table))
	for i := range table {
		all[i] = string(table[i].Name)
	}
	return strings.Join(all, ", ")
}

// parse reads one value into the set.
func (l *Limit) parse(s *Set, text string) error {
	value, err := l.read(text)
	if off := value == 0 && l.Default == 0; err != nil || !off && (value < l.Min || value > l.Max) {
		return fmt.Errorf("limit %s=%q: want %s", l.Name, text, l.Range())
	}
	l.set(s, value)
	return nil
}

// Range says which values the limit takes.
func (l *Limit) Range() string {
	text := l.Format(l.Min) + " to " + l.Format(l.Max)
	if l.Default == 0 {
		text = "0 (no limit), or " + text
	}
	return text
}

func (l *Limit) read(text string) (int64, error) {
	switch l.Unit {
	case Time:
		d, err := time.ParseDuration(text)
		return int64(d), err
	case Bytes:
		for _, suffix := range suffixes {
			if number, ok := strings.CutSuffix(text, suffix.name); ok {
				n, err := strconv.ParseUint(number, 10, 32)
				if err == nil && int64(n) > math.MaxInt64/suffix.bytes { //nolint:gosec // it has 32 bits
					err = strconv.ErrRange
				}
				return int64(n) * suffix.bytes, err //nolint:gosec // it has 32 bits
			}
		}
	case Count:
	}
	n, err := strconv.ParseUint(text, 10, 62)
	return int64(n), err //nolint:gosec // it has 62 bits
}
