// SPDX-License-Identifier: Apache-2.0

// Package message is what HTTP/1.1 and HTTP/2 have in common (RFC 9110): the head of a request or answer, and the rules
// for what may stand in it. The codecs fill a Head strictly and write one; what is between them works on it alone.
package message

// Field is one field line. Name has the case in which it came; HTTP/2 knows lower case alone. Value has no white space
// around it.
type Field struct {
	Name, Value string
	// NeverIndexed says that whoever sends it by HTTP/2 must not put it into a table (RFC 7541, section 7.1.3): it came so.
	NeverIndexed bool
}

// String returns the field as a line of HTTP/1.1 has it.
func (f Field) String() string { return f.Name + ": " + f.Value }

// Unknown is the length of content that ends with its framing: a chunk of size 0, END_STREAM or the end of the connection.
const Unknown int64 = -1

// Head is the head of a request, or of an answer.
//
// A codec fills it anew for each message and uses its memory again: strings and fields are valid until the codec says.
type Head struct {
	// Of a request.
	Method string
	// Scheme is "http", "https" or empty where nobody said.
	Scheme string
	// Authority is that of the absolute form or :authority, otherwise the Host field's value; empty in HTTP/1.0 alone.
	Authority string
	// Path is what follows the authority: "/a?b=c", "*" with OPTIONS, empty with CONNECT.
	Path string
	// Protocol is :protocol of an extended CONNECT (RFC 8441), otherwise empty.
	Protocol string

	// Of an answer.
	Status int

	// Fields are the field lines in the order in which they came. Host is among them on HTTP/1.1, so that it keeps its
	// place; Content-Length is, at most once, exactly when it was sent; Transfer-Encoding is not.
	Fields []Field

	// Length is that of the content in bytes, or Unknown, or 0 where there is none.
	Length int64
	// HTTP10 says that the sender speaks HTTP/1.0, Close that it closes the connection after this message.
	HTTP10, Close bool
	// Upgrade is the protocol that Upgrade and Connection ask for or agree to (RFC 9110, section 7.8), or empty.
	Upgrade string
	// Expect says that the sender of a request waits for 100 (Continue) before the content.
	Expect bool
}

// Reset empties the head and keeps its memory.
func (h *Head) Reset() {
	clear(h.Fields)
	*h = Head{Fields: h.Fields[:0]}
}

// usualFields is for how many fields a head of a connection that waits keeps memory.
const usualFields = 32

// Release empties the head of a connection that waits: strings of the last message would keep the buffer that they point
// into, and memory for many fields is given up.
func (h *Head) Release() {
	h.Reset()
	if cap(h.Fields) > usualFields {
		h.Fields = nil
	}
}

// Add appends a field line.
func (h *Head) Add(name, value string) { h.Fields = append(h.Fields, Field{Name: name, Value: value}) }
