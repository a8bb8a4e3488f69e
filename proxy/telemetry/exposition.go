// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// TextFormat is the content type of what Write and Merge write: Prometheus' text format 0.0.4.
const TextFormat = "text/plain; version=0.0.4; charset=utf-8"

// Write writes the metrics of a gatherer as text.
func Write(w io.Writer, from prometheus.Gatherer) error {
	families, err := from.Gather()
	if err != nil {
		return fmt.Errorf("gather the metrics: %w", err)
	}
	encoder := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("write metric %s: %w", f.GetName(), err)
		}
	}
	return nil
}

// maxLine bounds a line of the application's metrics.
const maxLine = 64 << 10

// ErrMalformed is what Merge returns when it left out lines that Prometheus would refuse the whole page for.
var ErrMalformed = errors.New("malformed lines")

// Merge copies the application's metrics behind the proxy's, line by line, so that it needs the memory of one line. A
// line that isn't of the text format, or that speaks of a metric of the proxy's, is left out: one such line would make
// Prometheus drop the page, ours with it. A last line without an end is one that was cut off, and is left out too.
func Merge(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, maxLine)
	out := bufio.NewWriter(w)
	malformed := false
	for {
		text, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			malformed = true
			if err := skipLine(in); err != nil {
				return errors.Join(out.Flush(), ended(err, malformed))
			}
			continue
		case err != nil:
			return errors.Join(out.Flush(), ended(err, malformed || len(text) > 0))
		}
		if !validLine(text[:len(text)-1]) {
			malformed = true
			continue
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
}

func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// ended says how reading ended.
func ended(err error, malformed bool) error {
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case malformed:
		return ErrMalformed
	default:
		return nil
	}
}

// validLine says whether a line may stand on the page:
//
//	# HELP name text | # TYPE name kind | # comment | name {label="value",...} value [timestamp] | nothing
func validLine(b []byte) bool {
	s := strings.Trim(string(b), " \t")
	switch {
	case s == "":
		return true
	case s[0] == '#':
		return validComment(s)
	}
	name, rest := cutName(s, true)
	if name == "" || strings.HasPrefix(name, "heddle_") {
		return false
	}
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, "{") {
		var ok bool
		if rest, ok = cutLabels(rest[1:]); !ok {
			return false
		}
	} else if len(rest) == len(s)-len(name) {
		return false // nothing between name and value
	}
	return validValue(fields(rest))
}

func validComment(s string) bool {
	words := fields(s[1:])
	if len(words) == 0 || (words[0] != "HELP" && words[0] != "TYPE") {
		return true
	}
	if len(words) < 2 || strings.HasPrefix(words[1], "heddle_") {
		return false
	}
	if name, rest := cutName(words[1], true); name == "" || rest != "" {
		return false
	}
	if words[0] == "HELP" {
		return true
	}
	return len(words) == 3 && slices.Contains([]string{"counter", "gauge", "histogram", "summary", "untyped"}, words[2])
}

// fields splits at what the format takes for space, which is less than Unicode does.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
}

// validValue takes a value and perhaps a timestamp in milliseconds.
func validValue(words []string) bool {
	if len(words) < 1 || len(words) > 2 {
		return false
	}
	if strings.ContainsRune(words[0], '_') {
		return false // a number of Go's, not of Prometheus'
	}
	if _, err := strconv.ParseFloat(words[0], 64); err != nil {
		return false
	}
	if len(words) == 2 {
		_, err := strconv.ParseInt(words[1], 10, 64)
		return err == nil
	}
	return true
}

// cutName cuts the name of a metric, or of a label, off; it is empty if there is none.
func cutName(s string, metric bool) (name, rest string) {
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || (c|0x20 >= 'a' && c|0x20 <= 'z') || (metric && c == ':')
		if !letter && (i == 0 || c < '0' || c > '9') {
			break
		}
	}
	return s[:i], s[i:]
}

// cutLabels cuts off what stands between the braces, and the closing one.
func cutLabels(s string) (rest string, ok bool) {
	for {
		s = strings.TrimLeft(s, " \t")
		if strings.HasPrefix(s, "}") {
			return s[1:], true
		}
		var name string
		name, s = cutName(s, false)
		s = strings.TrimLeft(s, " \t")
		if name == "" || !strings.HasPrefix(s, "=") {
			return "", false
		}
		if s, ok = cutQuoted(strings.TrimLeft(s[1:], " \t")); !ok {
			return "", false
		}
		s = strings.TrimLeft(s, " \t")
		if strings.HasPrefix(s, ",") {
			s = s[1:]
		} else if !strings.HasPrefix(s, "}") {
			return "", false
		}
	}
}

// cutQuoted cuts a label's value off, in which only \\, \" and \n are escapes.
func cutQuoted(s string) (rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[i+1:], strings.ToValidUTF8(s[:i], "") == s[:i]
		case '\\':
			i++
			if i == len(s) || !strings.ContainsRune(`\"n`, rune(s[i])) {
				return "", false
			}
		}
	}
	return "", false
}
