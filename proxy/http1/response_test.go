// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

var (
	get     = &message.Head{Method: "GET"}
	head    = &message.Head{Method: "HEAD"}
	connect = &message.Head{Method: "CONNECT"}
	upgrade = &message.Head{Method: "GET", Upgrade: "websocket, foo/2"}
)

// TestAnswers reads what is allowed, whole and in pieces.
func TestAnswers(t *testing.T) {
	closes := func(h message.Head) message.Head { h.Close = true; return h }
	length := func(n string) field { return field{Name: "Content-Length", Value: n} }
	const next = "HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n"
	for name, c := range map[string]struct {
		request *message.Head
		answer  string
		want    told
	}{
		"content by length": {get, "HTTP/1.1 200 OK\nContent-Length: 2\n\nab", told{head: message.Head{Status: 200, Length: 2, Fields: []field{length("2")}}, content: "ab"}},
		"content in chunks, with a trailer": {
			get, "HTTP/1.1 500 So: be it\ntransfer-encoding: chunked\n\n2\nab\n0\nX: y\n\n",
			told{head: message.Head{Status: 500, Length: -1}, content: "ab", trailer: []field{{Name: "X", Value: "y"}}},
		},
		"no reason":                        {get, "HTTP/1.1 404 \nContent-Length: 0\n\n", told{head: message.Head{Status: 404, Fields: []field{length("0")}}}},
		"no reason and no space":           {get, "HTTP/1.1 404\nContent-Length: 0\n\n", told{head: message.Head{Status: 404, Fields: []field{length("0")}}}},
		"a status beyond 599":              {get, "HTTP/1.1 999 \nContent-Length: 0\n\n", told{head: message.Head{Status: 999, Fields: []field{length("0")}}}},
		"204":                              {get, "HTTP/1.1 204 No Content\n\n", told{head: message.Head{Status: 204}}},
		"204 with a length of 0":           {get, "HTTP/1.1 204 No Content\nContent-Length: 0\n\n", told{head: message.Head{Status: 204, Fields: []field{length("0")}}}},
		"304 with a length":                {get, "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n", told{head: message.Head{Status: 304, Fields: []field{length("5")}}}},
		"304 in chunks":                    {get, "HTTP/1.1 304 Not Modified\nTransfer-Encoding: chunked\n\n", told{head: message.Head{Status: 304}}},
		"an answer to HEAD, with a length": {head, "HTTP/1.1 200 OK\nContent-Length: 5\n\n", told{head: message.Head{Status: 200, Fields: []field{length("5")}}}},
		"an answer to HEAD, in chunks":     {head, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", told{head: message.Head{Status: 200}}},
		"an answer to HEAD, with nothing":  {head, "HTTP/1.1 200 OK\n\n", told{head: message.Head{Status: 200}}},
		"100":                              {get, "HTTP/1.1 100 Continue\n\n", told{head: message.Head{Status: 100}}},
		"103 with fields":                  {get, "HTTP/1.1 103 Early Hints\nLink: </a>\n\n", told{head: message.Head{Status: 103, Fields: []field{{Name: "Link", Value: "</a>"}}}}},
		"101": {
			upgrade, "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: WebSocket\n\n",
			told{head: message.Head{Status: 101, Upgrade: "WebSocket", Fields: []field{{Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "WebSocket"}}}},
		},
		"an answer instead of 101": {upgrade, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", told{head: message.Head{Status: 200, Fields: []field{length("0")}}}},
		"426": {
			get, "HTTP/1.1 426 Upgrade Required\nConnection: Upgrade\nUpgrade: foo/2\nContent-Length: 0\n\n",
			told{head: message.Head{Status: 426, Upgrade: "foo/2", Fields: []field{{Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "foo/2"}, length("0")}}},
		},
		"200 to CONNECT":         {connect, "HTTP/1.1 200 OK\n\n", told{head: closes(message.Head{Status: 200})}},
		"403 to CONNECT":         {connect, "HTTP/1.1 403 Forbidden\nContent-Length: 2\n\nno", told{head: message.Head{Status: 403, Length: 2, Fields: []field{length("2")}}, content: "no"}},
		"close":                  {get, "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 0\n\n", told{head: closes(message.Head{Status: 200, Fields: []field{{Name: "Connection", Value: "close"}, length("0")}})}},
		"HTTP/1.0 with a length": {get, "HTTP/1.0 200 OK\nContent-Length: 2\n\nab", told{head: closes(message.Head{Status: 200, HTTP10: true, Length: 2, Fields: []field{length("2")}}), content: "ab"}},
		"HTTP/1.0 that stays": {
			get, "HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nab",
			told{head: message.Head{Status: 200, HTTP10: true, Length: 2, Fields: []field{{Name: "Connection", Value: "keep-alive"}, length("2")}}, content: "ab"},
		},
	} {
		for _, piece := range []int{0, 1, 3} {
			t.Run(name+" in pieces of "+strconv.Itoa(piece), func(t *testing.T) {
				raw := strings.ReplaceAll(c.answer, "\n", "\r\n") + next
				conn := New(&memory{in: []byte(raw), piece: piece}, &defaults, nil)
				got, err := readResponse(conn, c.request)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("got  %+v\nwant %+v", got, c.want)
				}
				if after, err := readResponse(conn, get); err != nil || after.head.Status != 299 {
					t.Errorf("behind it came %+v, %v", after, err)
				}
			})
		}
	}
}

// TestAnswersUntilTheEnd reads content that ends with the connection.
func TestAnswersUntilTheEnd(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		c := New(&memory{in: []byte("HTTP/" + version + " 200 OK\r\n\r\n" + strings.Repeat("x", 50000)), piece: 999}, &defaults, nil)
		got, err := readResponse(c, get)
		if err != nil || len(got.content) != 50000 || got.head.Length != message.Unknown || !got.head.Close {
			t.Errorf("HTTP/%s: got %d bytes, %+v, %v", version, len(got.content), got.head, err)
		}
		if c.Reusable() || c.Alive() {
			t.Errorf("HTTP/%s: the connection counts as usable", version)
		}
	}
	c := New(&memory{in: []byte("HTTP/1.1 200 OK\r\n\r\nab"), last: io.ErrUnexpectedEOF}, &defaults, nil)
	if got, err := readResponse(c, get); !errors.Is(err, io.ErrUnexpectedEOF) || got.content != "ab" {
		t.Errorf("a connection that breaks: got %q, %v", got.content, err)
	}
}

// TestDoubtfulAnswersAreRefused judges servers as strictly as callers.
func TestDoubtfulAnswersAreRefused(t *testing.T) {
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields }
	for name, c := range map[string]struct {
		request *message.Head
		answer  string
	}{
		"an empty line first":                 {get, "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"a request":                           {get, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"a version in lower case":             {get, "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"HTTP/2":                              {get, "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"HTTP/1.2":                            {get, "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"HTTP/0.9":                            {get, "<html>"},
		"ICY":                                 {get, "ICY 200 OK\r\n\r\n"},
		"a status of two digits":              {get, "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"},
		"a status of four digits":             {get, "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"},
		"a status with a plus":                {get, "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"},
		"a status below 100":                  {get, "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"},
		"a status that is a word":             {get, "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"},
		"two spaces before the status":        {get, "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"},
		"a tab behind the status":             {get, "HTTP/1.1 200\tOK\r\nContent-Length: 0\r\n\r\n"},
		"a reason that ends with LF":          {get, "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"},
		"a reason with CR":                    {get, "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"},
		"a reason with NUL":                   {get, "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"},
		"a reason that does not end":          {get, "HTTP/1.1 200 " + strings.Repeat("a", 100<<10)},
		"white space before the first field":  {get, ok(" A: b\r\nContent-Length: 0\r\n\r\n")},
		"a folded field":                      {get, ok("Content-Length: 0\r\nA: b\r\n c\r\n\r\n")},
		"a space before a colon":              {get, ok("Content-Length : 0\r\n\r\n")},
		"a field with a bare LF":              {get, ok("A: b\nContent-Length: 0\r\n\r\n")},
		"a field with a bare CR":              {get, ok("A: b\rc\r\nContent-Length: 0\r\n\r\n")},
		"a field with NUL":                    {get, ok("A: b\x00\r\nContent-Length: 0\r\n\r\n")},
		"both lengths":                        {get, ok("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},
		"both lengths, to HEAD":               {head, ok("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n")},
		"two lengths":                         {get, ok("Content-Length: 0\r\nContent-Length: 1\r\n\r\n")},
		"two equal lengths":                   {get, ok("Content-Length: 1\r\nContent-Length: 1\r\n\r\na")},
		"two lengths, to HEAD":                {head, ok("Content-Length: 0\r\nContent-Length: 1\r\n\r\n")},
		"a signed length":                     {get, ok("Content-Length: +1\r\n\r\na")},
		"a list of lengths":                   {get, ok("Content-Length: 1, 1\r\n\r\na")},
		"a length that is a word, in 304":     {get, "HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n"},
		"gzip as transfer coding":             {get, ok("Transfer-Encoding: gzip\r\n\r\n")},
		"gzip before chunked":                 {get, ok("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")},
		"chunked twice":                       {get, ok("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")},
		"two Transfer-Encodings":              {get, ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},
		"Transfer-Encoding in HTTP/1.0":       {get, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"204 with content":                    {get, "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\na"},
		"204 in chunks":                       {get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"100 with content":                    {get, "HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\na"},
		"100 in chunks":                       {get, "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"100 in HTTP/1.0":                     {get, "HTTP/1.0 100 Continue\r\n\r\n"},
		"200 to CONNECT with content":         {connect, ok("Content-Length: 1\r\n\r\na")},
		"200 to CONNECT in chunks":            {connect, ok("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},
		"101 that nobody asked for":           {get, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		"101 to another protocol":             {upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bar\r\n\r\n"},
		"101 to another version":              {upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo/3\r\n\r\n"},
		"101 to one protocol more":            {upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, bar\r\n\r\n"},
		"101 to nothing":                      {upgrade, "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		"101 without Connection":              {upgrade, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
		"101 with content":                    {upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n"},
		"101 in HTTP/1.0":                     {upgrade, "HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		"a chunk that is too long":            {get, ok("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n")},
		"a chunk size with 0x":                {get, ok("Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n")},
		"a chunk size with a bare LF":         {get, ok("Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n")},
		"Content-Length in a trailer":         {get, ok("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n")},
		"a header too long":                   {get, ok("A: " + strings.Repeat("a", 140<<10) + "\r\n\r\n")},
		"too many fields":                     {get, ok(strings.Repeat("A: b\r\n", 201) + "\r\n")},
		"Connection with what is not a token": {get, ok("Connection: a b\r\nContent-Length: 0\r\n\r\n")},
	} {
		for _, piece := range []int{0, 1} {
			t.Run(name+" in pieces of "+strconv.Itoa(piece), func(t *testing.T) {
				conn := New(&memory{in: []byte(c.answer), piece: piece}, &defaults, nil)
				_, err := readResponse(conn, c.request)
				mustFail(t, err, 502)
				if conn.Reusable() || conn.Alive() {
					t.Error("the connection counts as usable")
				}
			})
		}
	}
}

// TestInterimAnswersAreBounded reads as many interim answers as are allowed, for each request anew.
func TestInterimAnswersAreBounded(t *testing.T) {
	const hint, final = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"
	c := New(&memory{in: []byte(strings.Repeat(strings.Repeat(hint, maxInterim)+final, 2) + strings.Repeat(hint, maxInterim+1)), discard: true}, &defaults, nil)
	request := &message.Head{Method: "GET", Authority: "a", Path: "/"}
	for range 2 {
		if err := c.WriteRequest(request); err != nil {
			t.Fatal(err)
		}
		for i := range maxInterim + 1 {
			got, err := readResponse(c, request)
			if want := i == maxInterim; err != nil || (got.head.Status == 204) != want {
				t.Fatalf("answer %d is %+v, %v", i, got, err)
			}
		}
	}
	var err error
	if err = c.WriteRequest(request); err != nil {
		t.Fatal(err)
	}
	for range maxInterim + 1 {
		_, err = readResponse(c, request)
	}
	mustFail(t, err, 502)
}

// TestLimitsOfAnswers counts the limits of headers for answers, too.
func TestLimitsOfAnswers(t *testing.T) {
	var count counted
	_, err := readResponse(New(&memory{in: []byte("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 300))}, &defaults, &count), get)
	mustFail(t, err, 502)
	if count.of[limits.HeaderFields] != 1 {
		t.Errorf("counted %v", count.of)
	}
}
