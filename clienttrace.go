package caddynegotiate

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/textproto"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// traced returns the context of the request to the upstream. Its trace is reverse_proxy's,
// with two functions in front: gotConn, and one that keeps challenges out of informational
// responses. With `mutual_auth required` none of these is passed on: the upstream proves
// itself by the final response.
//
// The trace takes the place of reverse_proxy's instead of being composed with it:
// httptrace.WithClientTrace composes functions by reflection.
func (x *trip) traced() context.Context {
	var outer httptrace.ClientTrace
	if t := httptrace.ContextClientTrace(x.ctx); t != nil {
		outer = *t
	}
	trace := outer
	trace.GotConn = func(info httptrace.GotConnInfo) {
		x.gotConn(info)
		if outer.GotConn != nil {
			outer.GotConn(info)
		}
	}
	trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
		negotiate.DropChallenges(http.Header(header))
		if outer.Got1xxResponse == nil || x.transport.MutualAuth == "required" {
			return nil
		}
		return outer.Got1xxResponse(code, header)
	}
	return httptrace.WithClientTrace(untraced{x.ctx}, &trace)
}

// untraced is a context without its parent's trace.
type untraced struct{ context.Context }

// Value implements context.Context.
func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}
