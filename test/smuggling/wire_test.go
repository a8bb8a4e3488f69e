// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// message is a request or an answer as it was on the wire, taken apart by the strictest reading of RFC 9112.
type message struct {
	start   string   // the request line, or status line
	fields  []string // lines, without their CRLF
	framing string   // "none", "length", "chunked" or "close"
	body    string
	trailer []string
}

// value returns the value of the first field of a name.
func (m *message) value(name string) string {
	for _, line := range m.fields {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.Trim(v, " \t")
		}
	}
	return ""
}

// count is how many fields have a name.
func (m *message) count(name string) int {
	n := 0
	for _, line := range m.fields {
		if have, _, ok := strings.Cut(line, ":"); ok && strings.EqualFold(have, name) {
			n++
		}
	}
	return n
}

// status is that of an answer.
func (m *message) status() int {
	code, _ := strconv.Atoi(m.start[len("HTTP/1.1 "):][:3])
	return code
}

func (m *message) String() string {
	return fmt.Sprintf("%s %q %s %q %q", m.start, m.fields, m.framing, m.body, m.trailer)
}

// errBreach is what is no HTTP/1.1 by the strictest reading.
var errBreach = errors.New("a breach of RFC 9112")

func breach(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBreach, fmt.Sprintf(format, args...))
}

// What strict lines look like. Targets are those that a proxy may send: a path, "*", the absolute form,
// and that of CONNECT.
var (
	requestLine = regexp.MustCompile(`^[!#$%&'*+\-.^_` + "`" + `|~0-9A-Za-z]+ (/[!-~]*|\*|https?://[!-~]+|(\[[0-9A-Fa-f:.]+\]|[!$%&'()*+,;=\-.0-9A-Z_a-z~]+):[0-9]+) HTTP/1\.1$`)
	statusLine  = regexp.MustCompile(`^HTTP/1\.1 [1-9][0-9][0-9] [\t\x20-\x7e\x80-\xff]*$`)
	fieldLine   = regexp.MustCompile(`^[!#$%&'*+\-.^_` + "`" + `|~0-9A-Za-z]+:[ \t]*([!-~\x80-\xff]([\t\x20-\x7e\x80-\xff]*[!-~\x80-\xff])?)?[ \t]*$`)
	digits      = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	hexDigits   = regexp.MustCompile(`^[0-9a-fA-F]{1,15}$`)
)

// readLine reads a line that ends with CRLF and has neither CR nor LF before.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		if line != "" && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(line, "\r\n") {
		return "", breach("a line ends without CRLF: %q", line)
	}
	return line, nil
}

func readFields(r *bufio.Reader) ([]string, error) {
	var lines []string
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, midway(err)
		}
		if line == "" {
			return lines, nil
		}
		if !fieldLine.MatchString(latin1(line)) {
			return nil, breach("field line %q", line)
		}
		lines = append(lines, line)
	}
}

// latin1 makes each byte a character, for regular expressions.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func midway(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readHead reads a head whose first line matches a pattern.
func readHead(r *bufio.Reader, first *regexp.Regexp) (*message, error) {
	start, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !first.MatchString(latin1(start)) {
		return nil, breach("first line %q", start)
	}
	m := &message{start: start}
	if m.fields, err = readFields(r); err != nil {
		return nil, err
	}
	lengths, codings := m.count("Content-Length"), m.count("Transfer-Encoding")
	switch {
	case lengths+codings > 1:
		return nil, breach("%d lengths and %d transfer codings in %q", lengths, codings, m.fields)
	case codings == 1 && m.value("Transfer-Encoding") != "chunked":
		return nil, breach("transfer coding %q", m.value("Transfer-Encoding"))
	case lengths == 1 && !digits.MatchString(m.value("Content-Length")):
		return nil, breach("length %q", m.value("Content-Length"))
	case codings == 1:
		m.framing = "chunked"
	case lengths == 1:
		m.framing = "length"
	default:
		m.framing = "none"
	}
	return m, nil
}

// readContent reads what the head announces.
func (m *message) readContent(r *bufio.Reader) error {
	switch m.framing {
	case "length":
		n, err := strconv.Atoi(m.value("Content-Length"))
		if err != nil {
			return breach("%v", err)
		}
		b := make([]byte, min(n, 8<<20))
		if _, err := io.ReadFull(r, b); err != nil {
			return midway(err)
		}
		m.body = string(b)
	case "chunked":
		return m.readChunks(r)
	case "close":
		b, err := io.ReadAll(r)
		m.body = string(b)
		return err
	}
	return nil
}

func (m *message) readChunks(r *bufio.Reader) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return midway(err)
		}
		if !hexDigits.MatchString(line) {
			return breach("chunk size %q", line)
		}
		size, err := strconv.ParseUint(line, 16, 60)
		if err != nil || size > 8<<20 {
			return breach("chunk size %q", line)
		}
		if size == 0 {
			m.trailer, err = readFields(r)
			return err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return midway(err)
		}
		if string(b[size:]) != "\r\n" {
			return breach("a chunk of %d ends with %q", size, b[size:])
		}
		m.body += string(b[:size])
	}
}

// readRequest reads one request. io.EOF says that there is none.
func readRequest(r *bufio.Reader, interim func(*message)) (*message, error) {
	m, err := readHead(r, requestLine)
	if err != nil {
		return nil, err
	}
	if m.count("Host") != 1 {
		return nil, breach("%d Host fields in %q", m.count("Host"), m.fields)
	}
	interim(m)
	return m, m.readContent(r)
}

// readAnswer reads one final answer to a method, and how many interim ones came before.
func readAnswer(r *bufio.Reader, method string) (m *message, interim int, err error) {
	for {
		if m, err = readHead(r, statusLine); err != nil {
			return nil, interim, err
		}
		if m.status() >= 200 || m.status() == 101 {
			break
		}
		interim++
	}
	switch {
	case method == "HEAD", m.status() == 204, m.status() == 304, m.status() == 101:
		m.framing = "none"
	case m.framing == "none":
		m.framing = "close"
	}
	return m, interim, m.readContent(r)
}
