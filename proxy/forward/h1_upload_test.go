// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

func TestContentCanBeSentAgain(t *testing.T) {
	const most = 64 << 10
	for name, c := range map[string]struct {
		length int64
		is     func(u *upload)
		want   bool
	}{
		"that has not begun to be read":       {most + 1, func(*upload) {}, true},
		"that was too much":                   {most + 1, func(u *upload) { u.lost = true }, false},
		"that is being read and will fit":     {most, func(u *upload) { u.runs, u.to = true, &streamed{} }, true},
		"that is being read and may not fit":  {message.Unknown, func(u *upload) { u.runs, u.to = true, &streamed{} }, false},
		"that is being read and will not fit": {most + 1, func(u *upload) { u.runs, u.to = true, &streamed{} }, false},
		"that nobody takes at this time":      {most + 1, func(u *upload) { u.runs = true }, true},
		"that has all come":                   {most, func(u *upload) { u.runs, u.to, u.whole = true, &streamed{}, true }, true},
		"that was read and was too much":      {message.Unknown, func(u *upload) { u.runs, u.lost = true, true }, false},
		"that has broken off":                 {message.Unknown, func(u *upload) { u.runs, u.failed = true, true }, false},
	} {
		d := &h1{side: &side{Options: Options{Limits: limits.Set{ReplayBytes: most}}}}
		d.request.Length = c.length
		d.content.init(d)
		c.is(&d.content)
		if got := d.content.replayable(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
