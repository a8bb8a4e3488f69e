// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"strings"
	"testing"
)

// TestEveryByte compares the tables with the grammar, byte by byte.
func TestEveryByte(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		s := string([]byte{'a', c, 'a'})
		alpha, digit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z', c >= '0' && c <= '9'
		for name, is := range map[string]struct{ got, want bool }{
			"token":       {ValidToken(s), alpha || digit || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0},
			"lower token": {ValidLowerToken(s), (alpha || digit || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) && (c < 'A' || c > 'Z')},
			"value":       {ValidValue(s), c == '\t' || c >= ' ' && c != 0x7f},
			"target":      {ValidTarget("/" + s), c > ' ' && c < 0x7f && c != '#'},
			"authority":   {ValidAuthority(s), alpha || digit || c < 0x80 && strings.IndexByte("-._~!$&'()*+;=", c) >= 0},
		} {
			if is.got != is.want {
				t.Errorf("%q in a %s: %v, want %v", c, name, is.got, is.want)
			}
		}
		for at := range 20 {
			long := []byte(strings.Repeat("\xff \t~", 5))
			long[at] = c
			want := len(long)
			if c < ' ' && c != '\t' || c == 0x7f {
				want = at
			}
			if got, same := ControlIn(long), ControlIn(string(long)); got != want || same != want {
				t.Errorf("%q at %d: %d and %d, want %d", c, at, got, same, want)
			}
		}
		if got := TokenEnd([]byte(s)); (got == 3) != ValidToken(s) {
			t.Errorf("%q ends a token at %d", c, got)
		}
		if got := TargetEnd([]byte(s)); (got == 3) != ValidTarget("/"+s) {
			t.Errorf("%q ends a target at %d", c, got)
		}
	}
}

func TestValid(t *testing.T) {
	for name, is := range map[string]struct{ got, want bool }{
		"an empty token":                 {ValidToken(""), false},
		"an empty token in lower case":   {ValidLowerToken(""), false},
		"an empty value":                 {ValidValue(""), true},
		"a value of a space":             {ValidValue(" "), false},
		"a value behind a tab":           {ValidValue("\ta"), false},
		"a value before a space":         {ValidValue("a "), false},
		"an empty target":                {ValidTarget(""), false},
		"a target without a slash":       {ValidTarget("a"), false},
		"an asterisk for a target":       {ValidTarget("*"), false},
		"an empty authority":             {ValidAuthority(""), false},
		"a host and a port":              {ValidAuthority("a.b-c:65535"), true},
		"a port too large":               {ValidAuthority("a:65536"), false},
		"a port of six digits":           {ValidAuthority("a:000080"), false},
		"a port that is none":            {ValidAuthority("a:"), false},
		"a port alone":                   {ValidAuthority(":80"), false},
		"two ports":                      {ValidAuthority("a:80:80"), false},
		"an address":                     {ValidAuthority("127.0.0.1:80"), true},
		"an address of IPv6":             {ValidAuthority("[2001:db8::1]:80"), true},
		"an address of IPv6 with IPv4":   {ValidAuthority("[::ffff:127.0.0.1]"), true},
		"an address with a zone":         {ValidAuthority("[fe80::1%25eth0]"), false},
		"an address without brackets":    {ValidAuthority("2001:db8::1"), false},
		"brackets of nothing":            {ValidAuthority("[]"), false},
		"brackets that do not close":     {ValidAuthority("[::1"), false},
		"brackets and a word":            {ValidAuthority("[::1]a"), false},
		"brackets and no port":           {ValidAuthority("[::1]:"), false},
		"a word and brackets":            {ValidAuthority("a[::1]"), false},
		"an escape":                      {ValidAuthority("%2fsocket"), true},
		"half an escape":                 {ValidAuthority("a%2"), false},
		"an escape of no number":         {ValidAuthority("a%zz"), false},
		"a user":                         {ValidAuthority("u@a"), false},
		"a trailer that frames":          {ForbiddenTrailer("CONTENT-Length"), true},
		"a trailer":                      {ForbiddenTrailer("grpc-status"), false},
		"Connection":                     {IsHopByHop("CONNECTION"), true},
		"Keep-Alive":                     {IsHopByHop("keep-alive"), true},
		"Upgrade":                        {IsHopByHop("Upgrade"), true},
		"Proxy-Connection":               {IsHopByHop("proxy-Connection"), true},
		"Transfer-Encoding":              {IsHopByHop("transfer-encoding"), true},
		"TE":                             {IsHopByHop("TE"), false},
		"Accept-Charset, as long as one": {IsHopByHop("Keep-Alivf"), false},
		"strings of different case":      {EqualFold("aZ-_@[`{", "Az-_@[`{"), true},
		"strings that differ by 0x20":    {EqualFold("@[", "`{"), false},
		"strings of different length":    {EqualFold("a", "ab"), false},
		"an item with parameters":        {HasItem("a;q=1 , Trailers ;q=0.5;b, c", "trailers"), true},
		"an item behind empty ones":      {HasItem(", ,a", "a"), true},
		"an item that is part of one":    {HasItem("xa, ax", "a"), false},
		"an item that is a parameter":    {HasItem("x;a", "a"), false},
	} {
		if is.got != is.want {
			t.Errorf("%s: %v, want %v", name, is.got, is.want)
		}
	}
	for authority, want := range map[string]string{"a": "a", "a:1": "a", "[::1]:1": "[::1]", "[::1]": "[::1]", "": ""} {
		if got := HostOf(authority); got != want {
			t.Errorf("the host of %q is %q", authority, got)
		}
	}
	var items []string
	for item := range Items(" a ,, b;c\t,") {
		items = append(items, item)
	}
	if got := fmt.Sprintf("%q", items); got != `["a" "b;c"]` {
		t.Errorf("items are %s", got)
	}
}

// FuzzTables compares the loops with plain ones.
func FuzzTables(f *testing.F) {
	f.Add("Content-Length")
	f.Add("a value\twith all sorts \xff of bytes\x7f")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		end := strings.IndexFunc(toRunes(s), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
		if end < 0 {
			end = len(s)
		}
		if got := ControlIn(s); got != end {
			t.Errorf("ControlIn is %d, want %d", got, end)
		}
		if ValidAuthority(s) && strings.ContainsAny(s, "/@?#, \\\"<>^`{|}\x00\r\n") {
			t.Error("an authority has what ends or lists one")
		}
		if EqualFold(s, strings.ToUpper(s)) != (len(s) == len(strings.ToUpper(s))) && strings.ToValidUTF8(s, "") == s && isASCII(s) {
			t.Error("upper case is not the same")
		}
	})
}

// toRunes makes every byte a character of one byte, those from 0x80 on a letter.
func toRunes(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= 0x80 {
			b[i] = 'x'
		}
	}
	return string(b)
}

func isASCII(s string) bool { return toRunes(s) == s }
