// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// answer ends every request with 200 when it has ended.
type answer struct{ s *Stream }

func (a answer) Head(_ *message.Head, end bool) {
	if end {
		a.s.SendHead(&message.Head{Status: 200}, true)
	}
}

func (a answer) Data(p []byte, end bool) {
	a.s.Consumed(len(p))
	a.Head(nil, end)
}
func (a answer) Trailer([]message.Field) { a.Head(nil, true) }
func (a answer) Reset(*StreamError)      {}
func (a answer) Drained(int)             {}

func answering(s *Stream) Sink { return answer{s} }

func with(fields []string, more ...string) []string {
	return append(append([]string(nil), fields...), more...)
}

// What a client does wrong on the wire, and what it hears.
func TestServerAnswersFrames(t *testing.T) {
	for name, test := range map[string]struct {
		send func(p *raw)
		want string
	}{
		"a good request is answered":                {func(p *raw) { p.head(1, true, get...) }, "END"},
		"a request with trailer fields is answered": {func(p *raw) { p.head(1, false, post...); p.head(1, true, "x-a: b") }, "END"},
		"padding is taken off": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteDataPadded(1, true, []byte("x"), make([]byte, 255))
		}, "END"},
		"a frame of an unknown type is passed over": {func(p *raw) { _ = p.WriteRawFrame(0x77, 0xff, 5, []byte("?")); p.head(1, true, get...) }, "END"},
		"a head in two frames is one":               {func(p *raw) { split(p, 1, true, p.block(get...)) }, "END"},
		"a PING is answered":                        {func(p *raw) { _ = p.WritePing(false, [8]byte{1}) }, "PING"},
		"PRIORITY means nothing":                    {func(p *raw) { _ = p.WritePriority(9, xhttp2.PriorityParam{StreamDep: 1}); p.head(1, true, get...) }, "END"},
		"DATA beyond content-length": {func(p *raw) {
			p.head(1, false, with(post, "content-length: 3")...)
			_ = p.WriteData(1, false, []byte("four"))
		}, "RST_STREAM PROTOCOL_ERROR"},
		"DATA short of content-length": {func(p *raw) {
			p.head(1, false, with(post, "content-length: 3")...)
			_ = p.WriteData(1, true, []byte("ab"))
		}, "RST_STREAM PROTOCOL_ERROR"},
		"trailer fields before content-length":       {func(p *raw) { p.head(1, false, with(post, "content-length: 3")...); p.head(1, true, "x-a: b") }, "RST_STREAM PROTOCOL_ERROR"},
		"a pseudo-field in the trailer":              {func(p *raw) { p.head(1, false, post...); p.head(1, true, ":path: /") }, "RST_STREAM PROTOCOL_ERROR"},
		"content-length in the trailer":              {func(p *raw) { p.head(1, false, post...); p.head(1, true, "content-length: 0") }, "RST_STREAM PROTOCOL_ERROR"},
		"a second head that does not end the stream": {func(p *raw) { p.head(1, false, post...); p.head(1, false, "x-a: b") }, "RST_STREAM PROTOCOL_ERROR"},
		"DATA after the end":                         {func(p *raw) { p.head(1, true, with(get, "x-wait: 1")...); _ = p.WriteData(1, true, nil) }, "RST_STREAM STREAM_CLOSED"},
		"DATA on an idle stream":                     {func(p *raw) { _ = p.WriteData(1, true, nil) }, "GOAWAY PROTOCOL_ERROR"},
		"DATA without a stream":                      {func(p *raw) { _ = p.WriteData(0, true, nil) }, "GOAWAY PROTOCOL_ERROR"},
		"more padding than payload": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteRawFrame(xhttp2.FrameData, flagPadded, 1, []byte{2, 0})
		}, "GOAWAY PROTOCOL_ERROR"},
		"a stream with an even number":             {func(p *raw) { p.head(2, true, get...) }, "GOAWAY PROTOCOL_ERROR"},
		"a stream with a lower number than before": {func(p *raw) { p.head(5, false, post...); p.head(3, false, post...) }, "GOAWAY PROTOCOL_ERROR"},
		"HEADERS without a stream":                 {func(p *raw) { p.head(0, true, get...) }, "GOAWAY PROTOCOL_ERROR"},
		"a frame within a head": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1})
			_ = p.WritePing(false, [8]byte{})
		}, "GOAWAY PROTOCOL_ERROR"},
		"CONTINUATION without a head": {func(p *raw) { _ = p.WriteContinuation(1, true, nil) }, "GOAWAY PROTOCOL_ERROR"},
		"CONTINUATION of another stream": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1})
			_ = p.WriteContinuation(3, true, nil)
		}, "GOAWAY PROTOCOL_ERROR"},
		"a stream that depends on itself":      {func(p *raw) { _ = p.WritePriority(1, xhttp2.PriorityParam{StreamDep: 1}) }, "RST_STREAM PROTOCOL_ERROR"},
		"RST_STREAM on an idle stream":         {func(p *raw) { _ = p.WriteRSTStream(1, xhttp2.ErrCodeCancel) }, "GOAWAY PROTOCOL_ERROR"},
		"WINDOW_UPDATE on an idle stream":      {func(p *raw) { _ = p.WriteWindowUpdate(1, 1) }, "GOAWAY PROTOCOL_ERROR"},
		"WINDOW_UPDATE of nothing":             {func(p *raw) { _ = p.WriteWindowUpdate(0, 0) }, "GOAWAY PROTOCOL_ERROR"},
		"a connection's window over 2^31-1":    {func(p *raw) { _ = p.WriteWindowUpdate(0, windowMost) }, "GOAWAY FLOW_CONTROL_ERROR"},
		"WINDOW_UPDATE of nothing on a stream": {func(p *raw) { p.head(1, false, post...); _ = p.WriteWindowUpdate(1, 0) }, "RST_STREAM PROTOCOL_ERROR"},
		"a stream's window over 2^31-1":        {func(p *raw) { p.head(1, false, post...); _ = p.WriteWindowUpdate(1, windowMost) }, "RST_STREAM FLOW_CONTROL_ERROR"},
		"settings make a stream's window over 2^31-1": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteWindowUpdate(1, 1)
			_ = p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: windowMost})
		}, "GOAWAY FLOW_CONTROL_ERROR"},
		"a frame that is too long": {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FramePing, 0, 0, make([]byte, frameMost+1)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"a PING of seven bytes":    {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FramePing, 0, 0, make([]byte, 7)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"PUSH_PROMISE":             {func(p *raw) { _ = p.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2}) }, "GOAWAY PROTOCOL_ERROR"},
		"an index that is not in the table": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0x7f}, EndHeaders: true})
		}, "GOAWAY COMPRESSION_ERROR"},
		"a head on a stream that has ended": {func(p *raw) { p.head(1, true, get...); p.next(xhttp2.FrameHeaders); p.head(1, true, get...) }, "GOAWAY STREAM_CLOSED"},
		"a head with padding and a priority": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...), EndHeaders: true, EndStream: true, PadLength: 9, Priority: xhttp2.PriorityParam{StreamDep: 3, Weight: 1}})
		}, "END"},
		"a head that depends on itself": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...), EndHeaders: true, EndStream: true, Priority: xhttp2.PriorityParam{StreamDep: 1, Weight: 1}})
		}, "RST_STREAM PROTOCOL_ERROR"},
		"a head with more padding than payload": {func(p *raw) {
			_ = p.WriteRawFrame(xhttp2.FrameHeaders, flagPadded|flagEndHeaders, 1, []byte{9, 0x82})
		}, "GOAWAY PROTOCOL_ERROR"},
		"a head with padding and no length of it": {func(p *raw) {
			_ = p.WriteRawFrame(xhttp2.FrameHeaders, flagPadded|flagEndHeaders, 1, nil)
		}, "GOAWAY FRAME_SIZE_ERROR"},
		"a head too short for a priority": {func(p *raw) {
			_ = p.WriteRawFrame(xhttp2.FrameHeaders, flagPriority|flagEndHeaders, 1, []byte{0, 0, 0, 0})
		}, "GOAWAY FRAME_SIZE_ERROR"},
		"DATA with padding and no length of it": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteRawFrame(xhttp2.FrameData, flagPadded, 1, nil)
		}, "GOAWAY FRAME_SIZE_ERROR"},
		"DATA within a head": {func(p *raw) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1})
			_ = p.WriteData(1, true, nil)
		}, "GOAWAY PROTOCOL_ERROR"},
		"a head on a stream that the client reset": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteRSTStream(1, xhttp2.ErrCodeCancel)
			p.head(1, true, "x-a: b")
		}, "RST_STREAM STREAM_CLOSED"},
		"SETTINGS on a stream":             {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameSettings, 0, 1, nil) }, "GOAWAY PROTOCOL_ERROR"},
		"an acknowledgement with settings": {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameSettings, flagAck, 0, make([]byte, 6)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"ENABLE_PUSH of 2":                 {setting(settingPush, 2), "GOAWAY PROTOCOL_ERROR"},
		"INITIAL_WINDOW_SIZE of 2^31":      {setting(settingWindow, 1<<31), "GOAWAY FLOW_CONTROL_ERROR"},
		"MAX_FRAME_SIZE of 100":            {setting(settingFrameSize, 100), "GOAWAY PROTOCOL_ERROR"},
		"ENABLE_CONNECT_PROTOCOL of 2":     {setting(settingExtendedConnect, 2), "GOAWAY PROTOCOL_ERROR"},
		"PING on a stream":                 {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FramePing, 0, 1, make([]byte, 8)) }, "GOAWAY PROTOCOL_ERROR"},
		"GOAWAY on a stream":               {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameGoAway, 0, 1, make([]byte, 8)) }, "GOAWAY PROTOCOL_ERROR"},
		"GOAWAY that is cut short":         {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameGoAway, 0, 0, make([]byte, 7)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"RST_STREAM without a stream":      {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameRSTStream, 0, 0, make([]byte, 4)) }, "GOAWAY PROTOCOL_ERROR"},
		"RST_STREAM of three bytes":        {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameRSTStream, 0, 1, make([]byte, 3)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"WINDOW_UPDATE of three bytes":     {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, 0, make([]byte, 3)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"PRIORITY without a stream":        {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FramePriority, 0, 0, make([]byte, 5)) }, "GOAWAY PROTOCOL_ERROR"},
		"PRIORITY of four bytes": {func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteRawFrame(xhttp2.FramePriority, 0, 1, make([]byte, 4))
		}, "RST_STREAM FRAME_SIZE_ERROR"},
		"settings that are cut short":                 {func(p *raw) { _ = p.WriteRawFrame(xhttp2.FrameSettings, 0, 0, make([]byte, 5)) }, "GOAWAY FRAME_SIZE_ERROR"},
		"GOAWAY with a later last stream than before": {func(p *raw) { _ = p.WriteGoAway(1, 0, nil); _ = p.WriteGoAway(3, 0, nil) }, "GOAWAY PROTOCOL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, done := rawServer(t, &Config{}, func(s *Stream) Sink {
				return answering(s)
			})
			test.send(p)
			got := p.outcome()
			if strings.Contains(name, "after the end") && got == "END" {
				got = p.outcome()
				if got == "GOAWAY STREAM_CLOSED" { // it had been answered
					got = "RST_STREAM STREAM_CLOSED"
				}
			}
			if got != test.want {
				t.Fatalf("%s, not %s", got, test.want)
			}
			if !strings.HasPrefix(got, "GOAWAY") {
				return
			}
			p.net.Close()
			var why *ConnError
			if err := <-done; !errors.As(err, &why) || "GOAWAY "+why.Code.String() != got {
				t.Errorf("Serve returns %v", err)
			}
		})
	}
}

// setting sends one setting.
func setting(id xhttp2.SettingID, value uint32) func(p *raw) {
	return func(p *raw) { _ = p.WriteSettings(xhttp2.Setting{ID: id, Val: value}) }
}

func split(p *raw, id uint32, end bool, block []byte) {
	_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block[:3], EndStream: end})
	_ = p.WriteContinuation(id, true, block[3:])
}

// What stands in the head of a request, and what comes of it.
func TestServerJudgesRequests(t *testing.T) {
	const fine, malformed = "END", "RST_STREAM PROTOCOL_ERROR"
	connect := []string{":method: CONNECT", ":authority: a.test:443"}
	for name, test := range map[string]struct {
		fields []string
		want   string
	}{
		"fields of all kinds":                   {with(get, "x-a: b", "te: trailers", "cookie: a=b", "empty: "), fine},
		"host that equals :authority":           {with(get, "host: A.test"), fine},
		"host instead of :authority":            {[]string{":method: GET", ":scheme: http", ":path: /", "host: a.test"}, fine},
		"OPTIONS *":                             {[]string{":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a.test"}, fine},
		"CONNECT":                               {connect, fine},
		"extended CONNECT":                      {with(connect, ":protocol: websocket", ":scheme: http", ":path: /"), fine},
		"content-length 0":                      {with(get, "content-length: 0"), fine},
		"neither host nor :authority":           {[]string{":method: GET", ":scheme: http", ":path: /"}, malformed},
		"host that is not :authority":           {with(get, "host: b.test"), malformed},
		"two hosts":                             {with(get, "host: a.test", "host: a.test"), malformed},
		"a user in :authority":                  {[]string{":method: GET", ":scheme: http", ":path: /", ":authority: u@a.test"}, malformed},
		"an empty :authority":                   {[]string{":method: GET", ":scheme: http", ":path: /", ":authority: ", "host: a.test"}, malformed},
		"no :method":                            {get[1:], malformed},
		"no :scheme":                            {[]string{":method: GET", ":path: /", ":authority: a.test"}, malformed},
		"no :path":                              {get[:3], malformed},
		"an empty :path":                        {with(get[:3], ":path: "), malformed},
		"a relative :path":                      {with(get[:3], ":path: a"), malformed},
		"an absolute URI as :path":              {with(get[:3], ":path: http://a.test/"), malformed},
		"a space in :path":                      {with(get[:3], ":path: /a b"), malformed},
		"a fragment in :path":                   {with(get[:3], ":path: /a#b"), malformed},
		"GET *":                                 {with(get[:3], ":path: *"), malformed},
		"a method that is not a token":          {with(get[1:], ":method: G T"), malformed},
		"another scheme":                        {with([]string{get[0], get[2], get[3]}, ":scheme: ftp"), malformed},
		"a pseudo-field twice":                  {with(get, ":path: /"), malformed},
		"a pseudo-field after a field":          {with([]string{"x-a: b"}, get...), malformed},
		"an unknown pseudo-field":               {with(get, ":other: x"), malformed},
		":status in a request":                  {with(get, ":status: 200"), malformed},
		"CONNECT with :path":                    {with(connect, ":path: /"), malformed},
		"CONNECT without :authority":            {[]string{":method: CONNECT", "host: a.test"}, malformed},
		":protocol without CONNECT":             {with(get, ":protocol: websocket"), malformed},
		"extended CONNECT without :path":        {with(connect, ":protocol: websocket", ":scheme: http"), malformed},
		"upper case in a name":                  {with(get, "X-A: b"), malformed},
		"a space in a name":                     {with(get, "x a: b"), malformed},
		"a colon in a name":                     {with(get, "x:a: b"), malformed},
		"a line end in a value":                 {with(get, "x-a: b\r\nx: y"), malformed},
		"NUL in a value":                        {with(get, "x-a: b\x00"), malformed},
		"a space before a value":                {with(get, "x-a:  b"), malformed},
		"a space after a value":                 {with(get, "x-a: b "), malformed},
		"a line end in :path":                   {with(get[:3], ":path: /\n"), malformed},
		"connection":                            {with(get, "connection: close"), malformed},
		"keep-alive":                            {with(get, "keep-alive: 5"), malformed},
		"proxy-connection":                      {with(get, "proxy-connection: close"), malformed},
		"transfer-encoding":                     {with(get, "transfer-encoding: chunked"), malformed},
		"upgrade":                               {with(get, "upgrade: h2c"), malformed},
		"te of anything but trailers":           {with(get, "te: trailers, gzip"), malformed},
		"two lengths":                           {with(get, "content-length: 0", "content-length: 0"), malformed},
		"a list of lengths":                     {with(get, "content-length: 0, 0"), malformed},
		"a signed length":                       {with(get, "content-length: +0"), malformed},
		"a length that is no number of 64 bits": {with(get, "content-length: 18446744073709551616"), malformed},
		"a length and no content":               {with(get, "content-length: 1"), malformed},
	} {
		t.Run(name, func(t *testing.T) {
			refused := 0
			p, _, _ := rawServer(t, &Config{ExtendedConnect: true, Refused: func(status int, _ string) { refused = status }}, answering)
			p.head(1, true, test.fields...)
			if got := p.outcome(); got != test.want {
				t.Fatalf("%s, not %s", got, test.want)
			}
			// The connection goes on, and HPACK's state is right.
			p.head(3, true, with(get, "x-a: again")...)
			if got := p.outcome(); got != fine {
				t.Fatalf("the next request: %s", got)
			}
			if (refused == 400) != (test.want == malformed) {
				t.Errorf("refused with %d", refused)
			}
		})
	}
}

// What stands in an answer, and what the client's sink hears.
func TestClientJudgesAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		send   func(p *raw)
		want   string // events, and the code of a reset
	}{
		"a head and content":                     {"GET", func(p *raw) { p.head(1, false, ":status: 200"); _ = p.WriteData(1, true, []byte("x")) }, "head 200, data"},
		"interim answers first":                  {"GET", func(p *raw) { p.head(1, false, ":status: 103"); p.head(1, true, ":status: 204") }, "head 103, head 204"},
		"a trailer":                              {"GET", func(p *raw) { p.head(1, false, ":status: 200"); p.head(1, true, "x-a: b") }, "head 200, trailer"},
		"the length of an answer to HEAD":        {"HEAD", func(p *raw) { p.head(1, true, ":status: 200", "content-length: 9") }, "head 200"},
		"the length of what was not modified":    {"GET", func(p *raw) { p.head(1, true, ":status: 304", "content-length: 9") }, "head 304"},
		"an empty frame after the head of a 204": {"GET", func(p *raw) { p.head(1, false, ":status: 204"); _ = p.WriteData(1, true, nil) }, "head 204, data"},
		"content of an answer to HEAD":           {"HEAD", func(p *raw) { p.head(1, false, ":status: 200"); _ = p.WriteData(1, true, []byte("x")) }, "head 200, reset PROTOCOL_ERROR"},
		"content of a 204":                       {"GET", func(p *raw) { p.head(1, false, ":status: 204"); _ = p.WriteData(1, true, []byte("x")) }, "head 204, reset PROTOCOL_ERROR"},
		"101":                                    {"GET", func(p *raw) { p.head(1, false, ":status: 101") }, "reset PROTOCOL_ERROR"},
		"no status":                              {"GET", func(p *raw) { p.head(1, true, "x-a: b") }, "reset PROTOCOL_ERROR"},
		"a status of two digits":                 {"GET", func(p *raw) { p.head(1, true, ":status: 20") }, "reset PROTOCOL_ERROR"},
		"a status that is no number":             {"GET", func(p *raw) { p.head(1, true, ":status: 2x0") }, "reset PROTOCOL_ERROR"},
		"two statuses":                           {"GET", func(p *raw) { p.head(1, true, ":status: 200", ":status: 200") }, "reset PROTOCOL_ERROR"},
		":path in an answer":                     {"GET", func(p *raw) { p.head(1, true, ":status: 200", ":path: /") }, "reset PROTOCOL_ERROR"},
		"an interim answer that ends":            {"GET", func(p *raw) { p.head(1, true, ":status: 100") }, "reset PROTOCOL_ERROR"},
		"connection":                             {"GET", func(p *raw) { p.head(1, true, ":status: 200", "connection: close") }, "reset PROTOCOL_ERROR"},
		"a line end in a value":                  {"GET", func(p *raw) { p.head(1, true, ":status: 200", "x-a: b\nc") }, "reset PROTOCOL_ERROR"},
		"two lengths":                            {"GET", func(p *raw) { p.head(1, true, ":status: 200", "content-length: 1", "content-length: 2") }, "reset PROTOCOL_ERROR"},
		"content beyond its length": {"GET", func(p *raw) {
			p.head(1, false, ":status: 200", "content-length: 1")
			_ = p.WriteData(1, true, []byte("xy"))
		}, "head 200, reset PROTOCOL_ERROR"},
		"content before the head":              {"GET", func(p *raw) { _ = p.WriteData(1, true, []byte("x")) }, "reset PROTOCOL_ERROR"},
		"content after an interim answer":      {"GET", func(p *raw) { p.head(1, false, ":status: 100"); _ = p.WriteData(1, true, []byte("x")) }, "head 100, reset PROTOCOL_ERROR"},
		"the server resets":                    {"GET", func(p *raw) { _ = p.WriteRSTStream(1, xhttp2.ErrCodeInternal) }, "reset INTERNAL_ERROR"},
		"the server refuses":                   {"GET", func(p *raw) { _ = p.WriteRSTStream(1, xhttp2.ErrCodeRefusedStream) }, "reset REFUSED_STREAM unprocessed"},
		"the server leaves before the request": {"GET", func(p *raw) { _ = p.WriteGoAway(0, 0, nil) }, "reset REFUSED_STREAM unprocessed"},
		"a head over the limit":                {"GET", func(p *raw) { p.head(1, true, ":status: 200", "x-a: "+strings.Repeat("a", 9000)) }, "reset ENHANCE_YOUR_CALM"},
		"an unasked stream":                    {"GET", func(p *raw) { p.head(2, true, ":status: 200") }, "reset CANCEL"},
		"PUSH_PROMISE": {"GET", func(p *raw) {
			_ = p.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "reset CANCEL"},
	} {
		t.Run(name, func(t *testing.T) {
			set := limits.Default()
			set.HeaderBytes = 8 << 10
			p, c, _ := rawClient(t, &Config{Limits: &set})
			e := newEar(nil)
			e.take = false
			h := message.Head{Method: test.method, Scheme: "http", Authority: "a.test", Path: "/"}
			if _, err := c.Open(&h, true, e); err != nil {
				t.Fatal(err)
			}
			p.next(xhttp2.FrameHeaders)
			test.send(p)
			e.wait(t, func(s said) bool { return s.end || s.what == "reset" })
			var got []string
			for _, s := range e.heard() {
				text := s.what
				switch s.what {
				case "head":
					text += " " + string(rune('0'+s.head.Status/100)) + string(rune('0'+s.head.Status/10%10)) + string(rune('0'+s.head.Status%10))
				case "reset":
					text += " " + s.why.Code.String()
					if s.why.Unprocessed {
						text += " unprocessed"
					}
				}
				got = append(got, text)
			}
			if text := strings.Join(got, ", "); text != test.want {
				t.Errorf("%s, not %s", text, test.want)
			}
		})
	}
}

// What is written of a head: names in lower case, nothing of one connection alone, Host as :authority.
func TestWritesHeads(t *testing.T) {
	fields := []message.Field{
		{Name: "Host", Value: "a.test"},
		{Name: "X-Upper", Value: "B"},
		{Name: "Connection", Value: "x"},
		{Name: "Keep-Alive", Value: "5"},
		{Name: "Proxy-Connection", Value: "x"},
		{Name: "Transfer-Encoding", Value: "chunked"},
		{Name: "Upgrade", Value: "x"},
		{Name: "TE", Value: "gzip, trailers"},
		{Name: "te", Value: "gzip"},
		{Name: "Content-Length", Value: "0"},
	}
	const rest = "x-upper: B, te: trailers, content-length: 0"
	p, c, _ := rawClient(t, &Config{}, xhttp2.Setting{ID: settingExtendedConnect, Val: 1})
	await(t, c.ExtendedConnect)
	for _, test := range []struct {
		head message.Head
		want string
	}{
		{message.Head{Method: "GET", Path: "/", Authority: "a.test"}, ":method: GET, :scheme: http, :path: /, :authority: a.test, " + rest},
		{message.Head{Method: "CONNECT", Authority: "a.test:1"}, ":method: CONNECT, :authority: a.test:1, " + rest},
		{
			message.Head{Method: "CONNECT", Protocol: "websocket", Scheme: "https", Path: "/", Authority: "a.test"},
			":method: CONNECT, :protocol: websocket, :scheme: https, :path: /, :authority: a.test, " + rest,
		},
	} {
		test.head.Fields = fields
		if _, err := c.Open(&test.head, true, newEar(nil)); err != nil {
			t.Fatal(err)
		}
		if got := p.fields(); got != test.want {
			t.Errorf("%s, not %s", got, test.want)
		}
	}
	hall := newHall()
	p, _, _ = rawServer(t, &Config{}, hall.accept)
	p.head(1, true, get...)
	e := hall.next(t)
	for _, status := range []int{103, 299} {
		e.s.SendHead(&message.Head{Status: status, Fields: fields}, false)
		if got, want := p.fields(), fmt.Sprintf(":status: %d, %s", status, rest); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	e.s.SendHead(&message.Head{Status: 200}, true) // there can be one only
	e.s.SendTrailer([]message.Field{{Name: "Grpc-Status", Value: "0"}, {Name: "Connection", Value: "x"}})
	if got := p.fields(); got != "grpc-status: 0" {
		t.Error(got)
	}
}

// fields reads the next head.
func (p *raw) fields() string {
	p.t.Helper()
	f := p.next(xhttp2.FrameHeaders).(*xhttp2.HeadersFrame)
	fields, err := p.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil {
		p.t.Fatal(err)
	}
	var all []string
	for _, f := range fields {
		all = append(all, f.Name+": "+f.Value)
	}
	return strings.Join(all, ", ")
}

// A sink that is not there is a stream that is refused.
func TestRefusesStreamsThatNobodyTakes(t *testing.T) {
	p, _, _ := rawServer(t, &Config{}, func(*Stream) Sink { return nil })
	p.head(1, true, get...)
	if got := p.outcome(); got != "RST_STREAM REFUSED_STREAM" {
		t.Error(got)
	}
}

// Trailer fields that are too many reset the stream, and are counted.
func TestTrailersOverALimit(t *testing.T) {
	count := &counted{}
	p, _, _ := rawServer(t, &Config{Limits: tight(), Count: count}, answering)
	p.head(1, false, post...)
	p.head(1, true, strings.Split(strings.Repeat("x-a: b,", 30)+"x-a: b", ",")...)
	if got := p.outcome(); got != "RST_STREAM ENHANCE_YOUR_CALM" || count.of(limits.HeaderFields) != 1 {
		t.Error(got, count.of(limits.HeaderFields))
	}
}
