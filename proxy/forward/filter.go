// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/rand/v2"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// filters are those of the request's route; nil: none.
func (x *exchange) filters() *evaluate.Filters {
	if x.choice.Route == nil {
		return nil
	}
	return x.choice.Route.Filters
}

// answersItself is why a request goes nowhere though nothing is wrong with it: its route redirects it.
var answersItself = &refusal.Error{}

// filter acts on what the route's filters say of the request as a whole.
func (x *exchange) filter(f *evaluate.Filters) *refusal.Error {
	if f.Redirect != nil {
		x.redirect = f.Redirect
		x.unpicked()
		return answersItself
	}
	if f.Mirror != nil && !x.tunnel && f.Mirror.Draws(rand.Uint64()) {
		x.mirror = x.choice.MirrorTo()
	}
	return nil
}

// redirected makes the answer that names another place.
func (x *exchange) redirected(h *message.Head) {
	h.Reset()
	h.Status, h.Close = x.redirect.Status, x.last
	h.Add("Location", x.redirect.Location(&x.asks, x.request.Scheme, x.choice.Prefix))
	h.Add("Content-Length", "0")
	x.filters().ResponseHeaders.Apply(h)
	x.event.Status = h.Status
}

// rewrite makes the head that is sent to the endpoint what the filters want.
func (x *exchange) rewrite(out *message.Head) {
	f := x.filters()
	if f == nil {
		return
	}
	if f.Path != nil {
		out.Path = x.target(f.Path.Rewrite(x.asks.Path, x.choice.Prefix))
	}
	if f.Host != "" && (out.Method != methodConnect || out.Protocol != "") { // CONNECT alone goes to its authority
		out.Authority = f.Host
	}
	f.RequestHeaders.Apply(out)
}

// decorate makes the head of an answer what the filters want, and gives a new user the cookie that keeps it where it is.
func (x *exchange) decorate(h *message.Head) {
	if f := x.filters(); f != nil {
		f.ResponseHeaders.Apply(h)
	}
	if x.setCookie {
		h.Add("Set-Cookie", x.choice.Stickiness.SetCookie(x.random))
	}
}
