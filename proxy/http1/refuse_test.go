// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

const canary = "GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"

// refused is a request of which nothing may be carried: either its head or its content is refused with a status.
type refused struct {
	request string // lines end as they stand here
	status  int
}

// after builds a request of a request line, Host and more.
func after(fields string) string { return "POST / HTTP/1.1\r\nHost: a\r\n" + fields }

func inChunks(content string) string { return after("Transfer-Encoding: chunked\r\n\r\n" + content) }

var refusedRequests = map[string]refused{
	// The request line.
	"a line without a method":                     {" / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an empty line first":                         {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a bare line feed first":                      {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a method with a colon":                       {"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a method in brackets":                        {"(GET) / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a method with a NUL":                         {"GE\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"two spaces before the target":                {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a tab before the target":                     {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"two spaces before the version":               {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a tab before the version":                    {"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a space behind the version":                  {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
	"a request line that ends with a line feed":   {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
	"a request line that ends with two CRs":       {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400},
	"a request line that ends with CR alone":      {"GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
	"HTTP/0.9":                                    {"GET /\r\n\r\n", 400},
	"a version in lower case":                     {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
	"a version of two digits":                     {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
	"a version with a comma":                      {"GET / HTTP/1,1\r\nHost: a\r\n\r\n", 400},
	"a version without a minor":                   {"GET / HTTP/1\r\nHost: a\r\n\r\n", 400},
	"a version with a plus":                       {"GET / HTTP/+1.1\r\nHost: a\r\n\r\n", 400},
	"another protocol":                            {"GET / ICE/1.1\r\nHost: a\r\n\r\n", 400},
	"a second version":                            {"GET / HTTP/1.1 HTTP/1.0\r\nHost: a\r\n\r\n", 400},
	"HTTP/2.0 in a request line":                  {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
	"the preface of HTTP/2":                       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	"HTTP/1.2":                                    {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
	"HTTP/3.0":                                    {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505},
	"HTTP/0.9 spelt out":                          {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
	"a TLS ClientHello":                           {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
	"an answer instead of a request":              {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400},
	"a target that is a word":                     {"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a target with a fragment":                    {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a target beyond ASCII":                       {"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a target with a DEL":                         {"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a target with a NUL":                         {"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"a target with CR":                            {"GET /\rA HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an asterisk with GET":                        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an asterisk and more with OPTIONS":           {"OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an authority with GET":                       {"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400},
	"a path with CONNECT":                         {"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"CONNECT without a port":                      {"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"CONNECT with an URL":                         {"CONNECT http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n", 400},
	"CONNECT to another host than Host":           {"CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", 400},
	"CONNECT with content":                        {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 1\r\n\r\nx", 400},
	"CONNECT in chunks":                           {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	"an absolute target of another scheme":        {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an absolute target without a host":           {"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an absolute target with a user":              {"GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
	"an absolute target that differs from Host":   {"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an absolute target that has a port and Host": {"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an absolute target with one slash":           {"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	"an absolute target with a backslash":         {"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},

	// Field lines.
	"white space before the first field":     {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
	"a tab before the first field":           {"GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n", 400},
	"a folded field":                         {after("X: a\r\n b\r\n\r\n"), 400},
	"a field folded with a tab":              {after("X: a\r\n\tb\r\n\r\n"), 400},
	"a folded Transfer-Encoding":             {after("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), 400},
	"a line of white space":                  {after("X: a\r\n \r\n\r\n"), 400},
	"a space before the colon":               {after("Content-Length : 0\r\n\r\n"), 400},
	"a tab before the colon":                 {after("Content-Length\t: 0\r\n\r\n"), 400},
	"a vertical tab before the colon":        {after("Content-Length\v: 0\r\n\r\n"), 400},
	"a name with a space":                    {after("Content Length: 0\r\n\r\n"), 400},
	"a name beyond ASCII":                    {after("X-\xff: 0\r\n\r\n"), 400},
	"a name with a NUL":                      {after("X\x00: 0\r\n\r\n"), 400},
	"a name in quotes":                       {after("\"X\": 0\r\n\r\n"), 400},
	"a name with a slash":                    {after("a/b: 0\r\n\r\n"), 400},
	"a field without a name":                 {after(": 0\r\n\r\n"), 400},
	"a field without a colon":                {after("Connection\r\n\r\n"), 400},
	"a field that ends with a line feed":     {after("X: a\nY: b\r\n\r\n"), 400},
	"a field that ends with CR":              {after("X: a\rY: b\r\n\r\n"), 400},
	"a field that ends with CR twice and LF": {after("X: a\r\r\n\r\n"), 400},
	"CR in a value":                          {after("X: a\rb\r\n\r\n"), 400},
	"CR at the end of a value":               {after("X: a \r \r\n\r\n"), 400},
	"LF instead of a value":                  {after("X:\n\r\n\r\n"), 400},
	"NUL in a value":                         {after("X: a\x00b\r\n\r\n"), 400},
	"a form feed in a value":                 {after("X: a\fb\r\n\r\n"), 400},
	"DEL in a value":                         {after("X: a\x7fb\r\n\r\n"), 400},
	"ESC in a long value":                    {after("X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x1bb\r\n\r\n"), 400},
	"a header that ends with LF twice":       {"GET / HTTP/1.1\r\nHost: a\n\n", 400},
	"a header that ends with CRLF twice":     {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
	"a header that ends with CRLF CR":        {"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400},
	"a colon in the line behind the empty":   {"GET / HTTP/1.1\r\n:Host: a\r\n\r\n", 400},

	// Host.
	"no Host":                       {"GET / HTTP/1.1\r\n\r\n", 400},
	"no Host, in absolute form":     {"GET http://a/ HTTP/1.1\r\n\r\n", 400},
	"two Hosts":                     {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
	"two equal Hosts":               {"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
	"two Hosts in HTTP/1.0":         {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
	"an empty Host":                 {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
	"a Host of a port alone":        {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400},
	"a Host with a path":            {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
	"a Host with a user":            {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
	"a Host that is a list":         {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
	"a Host that is a list, joined": {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
	"a Host with a space":           {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
	"a Host with a word for a port": {"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400},
	"a Host with two ports":         {"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400},
	"a Host with too large a port":  {"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400},
	"a Host with an open bracket":   {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
	"a Host behind a bracket":       {"GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400},
	"a Host with half an escape":    {"GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", 400},
	"a Host beyond ASCII":           {"GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", 400},

	// Content-Length.
	"both lengths, CL first":             {after("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
	"both lengths, TE first":             {after("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 400},
	"both lengths, CL of 0":              {after("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"), 400},
	"both lengths, TE unknown":           {after("Transfer-Encoding: x\r\nContent-Length: 0\r\n\r\n"), 400},
	"two lengths":                        {after("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400},
	"two equal lengths":                  {after("Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), 400},
	"two lengths in different cases":     {after("Content-Length: 1\r\ncontent-length: 1\r\n\r\na"), 400},
	"a list of equal lengths":            {after("Content-Length: 1, 1\r\n\r\na"), 400},
	"a list with an empty length":        {after("Content-Length: 1,\r\n\r\na"), 400},
	"a length with a plus":               {after("Content-Length: +1\r\n\r\na"), 400},
	"a length with a minus":              {after("Content-Length: -1\r\n\r\na"), 400},
	"minus nought":                       {after("Content-Length: -0\r\n\r\n"), 400},
	"a hexadecimal length":               {after("Content-Length: 0x1\r\n\r\na"), 400},
	"a length with hexadecimal digits":   {after("Content-Length: a\r\n\r\n0123456789"), 400},
	"an octal length with a letter":      {after("Content-Length: 0o1\r\n\r\na"), 400},
	"a length with an underscore":        {after("Content-Length: 1_0\r\n\r\n0123456789"), 400},
	"a length with a fraction":           {after("Content-Length: 1.0\r\n\r\na"), 400},
	"a length with an exponent":          {after("Content-Length: 1e1\r\n\r\n0123456789"), 400},
	"a length with a space in it":        {after("Content-Length: 1 0\r\n\r\n0123456789"), 400},
	"a length in quotes":                 {after("Content-Length: \"1\"\r\n\r\na"), 400},
	"an empty length":                    {after("Content-Length:\r\n\r\n"), 400},
	"a length of white space":            {after("Content-Length: \t \r\n\r\n"), 400},
	"a length beyond 64 bits":            {after("Content-Length: 18446744073709551617\r\n\r\na"), 400},
	"a length beyond 63 bits":            {after("Content-Length: 9223372036854775808\r\n\r\na"), 400},
	"a length with a no-break space":     {after("Content-Length: 1\xa0\r\n\r\na"), 400},
	"a length with digits beyond ASCII":  {after("Content-Length: \xd9\xa1\r\n\r\na"), 400},
	"a length with a comment":            {after("Content-Length: 1;a\r\n\r\na"), 400},
	"a length of a vertical tab and one": {after("Content-Length: \v1\r\n\r\na"), 400},

	// Transfer-Encoding.
	"two Transfer-Encodings":                     {after("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
	"Transfer-Encoding and a second of identity": {after("Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n\r\n0\r\n\r\n"), 400},
	"chunked twice":                              {after("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n0\r\n\r\n"), 400},
	"chunked before gzip":                        {after("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), 400},
	"chunked before identity":                    {after("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400},
	"gzip before chunked":                        {after("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501},
	"gzip alone":                                 {after("Transfer-Encoding: gzip\r\n\r\n"), 400},
	"identity":                                   {after("Transfer-Encoding: identity\r\n\r\n"), 400},
	"xchunked":                                   {after("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 400},
	"chunked with a vertical tab":                {after("Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"), 400},
	"chunked with a NUL":                         {after("Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n"), 400},
	"chunked in quotes":                          {after("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), 400},
	"chunked with a parameter":                   {after("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"), 400},
	"chunked in brackets":                        {after("Transfer-Encoding: [chunked]\r\n\r\n0\r\n\r\n"), 400},
	"chunked cut by a space":                     {after("Transfer-Encoding: chu nked\r\n\r\n0\r\n\r\n"), 400},
	"chunked with an equals sign":                {after("Transfer-Encoding: =chunked\r\n\r\n0\r\n\r\n"), 400},
	"chunked behind a comma":                     {after("Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"), 400},
	"chunked before a comma":                     {after("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), 400},
	"an empty Transfer-Encoding":                 {after("Transfer-Encoding:\r\n\r\n0\r\n\r\n"), 400},
	"a comma for Transfer-Encoding":              {after("Transfer-Encoding: ,\r\n\r\n0\r\n\r\n"), 400},
	"Transfer-Encoding in HTTP/1.0":              {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	"a space behind Transfer-Encoding":           {after("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), 400},
	"an underscore in place of the colon":        {after("Transfer-Encoding_ chunked\r\n\r\n0\r\n\r\n"), 400},

	// Other fields.
	"an expectation besides 100-continue":    {after("Expect: 200-ok\r\nContent-Length: 1\r\n\r\na"), 417},
	"an expectation before 100-continue":     {after("Expect: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na"), 417},
	"an empty expectation":                   {after("Expect:\r\nContent-Length: 1\r\n\r\na"), 417},
	"an expectation of two":                  {after("Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\na"), 417},
	"Connection with what is no token":       {after("Connection: a b\r\n\r\n"), 400},
	"Connection with more names than a page": {after("Connection: " + strings.Repeat("a,", 600) + "\r\n\r\n"), 431},

	// Chunks.
	"a chunk size with a plus":                    {inChunks("+1\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with a minus":                   {inChunks("-1\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with 0x":                        {inChunks("0x1\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with an underscore":             {inChunks("1_0\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with a space before":            {inChunks(" 1\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with a space behind":            {inChunks("1 \r\na\r\n0\r\n\r\n"), 400},
	"a chunk size with a tab behind":              {inChunks("1\t\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size of 17 digits":                   {inChunks("00000000000000001\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size beyond 64 bits":                 {inChunks("10000000000000001\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size beyond 63 bits":                 {inChunks("8000000000000000\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size that is a word":                 {inChunks("xyz\r\na\r\n0\r\n\r\n"), 400},
	"an empty chunk size":                         {inChunks("\r\na\r\n0\r\n\r\n"), 400},
	"an empty chunk size with extension":          {inChunks(";a\r\na\r\n0\r\n\r\n"), 400},
	"a chunk size that ends with LF":              {inChunks("1\na\r\n0\r\n\r\n"), 400},
	"a chunk size that ends with CR":              {inChunks("1\ra\r\n0\r\n\r\n"), 400},
	"a chunk size that ends with CR twice and LF": {inChunks("1\r\r\na\r\n0\r\n\r\n"), 400},
	"a chunk that ends with LF":                   {inChunks("1\r\na\n0\r\n\r\n"), 400},
	"a chunk that ends with CR":                   {inChunks("1\r\na\r0\r\n\r\n"), 400},
	"a chunk that is too long":                    {inChunks("1\r\nab\r\n0\r\n\r\n"), 400},
	"a chunk without its end":                     {inChunks("1\r\na0\r\n\r\n"), 400},
	"an extension without a name":                 {inChunks("1;\r\na\r\n0\r\n\r\n"), 400},
	"an extension with LF":                        {inChunks("1;a\nb\r\na\r\n0\r\n\r\n"), 400},
	"an extension with CR":                        {inChunks("1;a\rb\r\na\r\n0\r\n\r\n"), 400},
	"an extension with a NUL":                     {inChunks("1;a\x00\r\na\r\n0\r\n\r\n"), 400},
	"an extension with a space":                   {inChunks("1; b\r\na\r\n0\r\n\r\n"), 400},
	"an extension without a value":                {inChunks("1;a=\r\na\r\n0\r\n\r\n"), 400},
	"an extension with CRLF in quotes":            {inChunks("1;a=\"\r\n\"\r\na\r\n0\r\n\r\n"), 400},
	"an extension with LF behind quotes":          {inChunks("1;a=\"b\"\na\r\n0\r\n\r\n"), 400},
	"an extension too long":                       {inChunks("1;" + strings.Repeat("a", 2000) + "\r\na\r\n0\r\n\r\n"), 400},
	"many extensions":                             {inChunks(strings.Repeat("1;"+strings.Repeat("a", 900)+"\r\na\r\n", 20) + "0\r\n\r\n"), 400},

	"a request in place of a chunk's end":   {inChunks("1\r\na" + canary), 400},
	"a request in place of a chunk":         {inChunks(canary), 400},
	"a request in place of a trailer's end": {inChunks("0\r\nX: y\r\n" + canary), 400},

	// Trailers.
	"Content-Length in a trailer":    {inChunks("0\r\nContent-Length: 1\r\n\r\n"), 400},
	"Transfer-Encoding in a trailer": {inChunks("0\r\ntransfer-encoding: chunked\r\n\r\n"), 400},
	"Host in a trailer":              {inChunks("0\r\nHOST: b\r\n\r\n"), 400},
	"Authorization in a trailer":     {inChunks("0\r\nAuthorization: x\r\n\r\n"), 400},
	"a folded trailer":               {inChunks("0\r\nX: a\r\n b\r\n\r\n"), 400},
	"white space before a trailer":   {inChunks("0\r\n X: a\r\n\r\n"), 400},
	"a trailer that ends with LF":    {inChunks("0\r\nX: a\n\r\n"), 400},
	"a trailer with a bad name":      {inChunks("0\r\nX : a\r\n\r\n"), 400},
	"a trailer with a NUL":           {inChunks("0\r\nX: \x00\r\n\r\n"), 400},
	"chunks that end with LF":        {inChunks("0\r\n\n"), 400},
	"chunks that end with CR":        {inChunks("0\r\n\rX"), 400},
	"a request in place of trailers": {inChunks("0\r\nGET / HTTP/1.1\r\n\r\n"), 400},
}

// TestDoubtfulRequestsAreRefused reads each request whole and in single bytes, with another one behind that must not be
// read.
func TestDoubtfulRequestsAreRefused(t *testing.T) {
	for name, r := range refusedRequests {
		for _, piece := range []int{0, 1, 7} {
			t.Run(name+" in pieces of "+strconv.Itoa(piece), func(t *testing.T) {
				c := New(&memory{in: []byte(r.request + canary), piece: piece}, &defaults, nil)
				_, err := readRequest(c)
				mustFail(t, err, r.status)
				if c.Reusable() || c.Alive() {
					t.Error("the connection counts as usable")
				}
				if err := c.Wait(time.Time{}); statusOf(err) != r.status {
					t.Errorf("behind it: %v", err)
				}
				if next, err := readRequest(c); statusOf(err) != r.status {
					t.Errorf("behind it %q was read, with %v", next.head.Path, err)
				}
			})
		}
	}
}

// TestLimitsOfHeads finds heads that are too large, with the status of RFC 6585 or 9110, and counts them.
func TestLimitsOfHeads(t *testing.T) {
	set := limits.Set{HeaderBytes: 20 << 10, HeaderFields: 10, RequestLine: 12 << 10}.WithDefaults()
	for name, c := range map[string]struct {
		request string
		status  int
		limit   limits.Name
	}{
		"a request line too long":              {"GET /" + strings.Repeat("a", 13<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, limits.RequestLine},
		"a request line that does not end":     {"GET /" + strings.Repeat("a", 60<<10), 414, limits.RequestLine},
		"a method that does not end":           {strings.Repeat("a", 60<<10), 414, limits.RequestLine},
		"a field too long":                     {after("X: " + strings.Repeat("a", 20<<10) + "\r\n\r\n"), 431, limits.HeaderBytes},
		"a field that does not end":            {after("X: " + strings.Repeat("a", 60<<10)), 431, limits.HeaderBytes},
		"a name that does not end":             {after(strings.Repeat("a", 60<<10)), 431, limits.HeaderBytes},
		"a header that does not end":           {after(strings.Repeat("X: "+strings.Repeat("a", 5<<10)+"\r\n", 8)), 431, limits.HeaderBytes},
		"too many fields":                      {after(strings.Repeat("X: a\r\n", 10) + "\r\n"), 431, limits.HeaderFields},
		"a trailer too long":                   {inChunks("0\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n"), 431, limits.HeaderBytes},
		"a trailer that does not end":          {inChunks("0\r\nX: " + strings.Repeat("a", 60<<10)), 431, limits.HeaderBytes},
		"too many trailers":                    {inChunks("0\r\n" + strings.Repeat("X: a\r\n", 11) + "\r\n"), 431, limits.HeaderFields},
		"the largest request line":             {"GET /" + strings.Repeat("a", 12<<10-16) + " HTTP/1.1\r\nHost: a\r\n\r\n", 0, ""},
		"as many fields as may be":             {after(strings.Repeat("X: a\r\n", 9) + "\r\n"), 0, ""},
		"a header as large as may be":          {after("X: " + strings.Repeat("a", 20<<10-32-1-32-5) + "\r\n\r\n"), 0, ""},
		"a header one byte larger than may be": {after("X: " + strings.Repeat("a", 20<<10-32-1-32-4) + "\r\n\r\n"), 431, limits.HeaderBytes},
	} {
		for _, piece := range []int{0, 1, 1000} {
			t.Run(name+" in pieces of "+strconv.Itoa(piece), func(t *testing.T) {
				var count counted
				_, err := readRequest(New(&memory{in: []byte(c.request), piece: piece}, &set, &count))
				mustFail(t, err, c.status)
				if c.limit != "" && (count.of[c.limit] != 1 || len(count.of) != 1) {
					t.Errorf("counted %v, want one of %s", count.of, c.limit)
				}
			})
		}
	}
}

// TestCutRequests says what is left of a request that does not come to its end.
func TestCutRequests(t *testing.T) {
	for _, whole := range []string{
		after("Content-Length: 4\r\nX: y\r\n\r\nabcd"),
		inChunks("4;a=\"b\"\r\nabcd\r\n1\r\ne\r\n0\r\nX: y\r\n\r\n"),
	} {
		for n := range len(whole) {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := readRequest(New(&memory{in: []byte(whole[:n])}, &defaults, nil)); !errors.Is(err, want) {
				t.Errorf("%q: got %v, want %v", whole[:n], err, want)
			}
		}
		if _, err := readRequest(New(&memory{in: []byte(whole)}, &defaults, nil)); err != nil {
			t.Errorf("%q: %v", whole, err)
		}
	}
}
