package caddynegotiate

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/connections"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

func init() {
	caddy.RegisterModule(new(handlerTransport))
}

// handlerProtocol is the name of handlerTransport among the transports.
const handlerProtocol = "negotiate_handler"

// handlerTransport is the `http` transport with other connections for the requests of
// Handler than for all others, because an upstream may consider a connection
// authenticated as the client of its first request. Handler puts it in the place of
// `http` while the configuration is loaded; it is not meant to be configured.
//
// It also is what puts the token on the request, so that no other transport, and no
// connection of another one, can get it.
type handlerTransport struct {
	reverseproxy.HTTPTransport                            // for requests without a token
	tokens                     reverseproxy.HTTPTransport // the same, with HTTP/1.1
	pool                       *connections.Pool          // of tokens, by account
}

// CaddyModule returns the Caddy module information.
func (*handlerTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport." + handlerProtocol,
		New: func() caddy.Module { return new(handlerTransport) },
	}
}

// UnmarshalJSON reads the settings twice: provisioning uses them up.
func (t *handlerTransport) UnmarshalJSON(text []byte) error {
	return errors.Join(caddy.StrictUnmarshalJSON(text, &t.HTTPTransport), caddy.StrictUnmarshalJSON(text, &t.tokens))
}

// Provision builds both transports. HTTP/2 does not keep requests apart: clones of a
// transport share its connections.
func (t *handlerTransport) Provision(ctx caddy.Context) error {
	t.tokens.Versions = []string{"1.1"}
	if t.tokens.WriteBufferSize == 0 {
		t.tokens.WriteBufferSize = writeBufferSize
	}
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	if err := t.tokens.Provision(ctx); err != nil {
		return err
	}
	t.pool = connections.New(t.tokens.Transport)
	return nil
}

// Cleanup closes idle connections.
func (t *handlerTransport) Cleanup() error {
	return errors.Join(t.tokens.Cleanup(), t.HTTPTransport.Cleanup())
}

// RoundTrip sends the request, with the token that is meant for it if there is one.
func (t *handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s, _ := r.Context().Value(sendingKey{}).(*sending)
	if s == nil || !s.take(t) {
		return t.HTTPTransport.RoundTrip(r)
	}
	out := httpauth.CloneRequest(r.Context(), r)
	out.Header["Authorization"] = []string{s.token}
	t.tokens.SetScheme(out)
	info, _ := reverseproxy.GetDialInfo(r.Context())
	return t.pool.RoundTrip(out, connections.Route{Upstream: info.Address, Owner: s.client})
}

// sending is one sending of a request by Handler, and the context of that request. The
// first reverse_proxy that the request reaches takes the token, for all its attempts.
// Another one does not get it: it may be reached through the routes of `handle_response`,
// which run with the same context.
type sending struct {
	context.Context
	token  string // the value of Authorization
	client string // the client principal
	by     atomic.Pointer[handlerTransport]
}

type sendingKey struct{}

// Value returns the sending itself, and what the context in it has.
func (s *sending) Value(key any) any {
	if key == (sendingKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// take reports whether the transport may send the token.
func (s *sending) take(t *handlerTransport) bool {
	return s.by.CompareAndSwap(nil, t) || s.by.Load() == t
}

// taken reports whether a transport has sent the token.
func (s *sending) taken() bool { return s.by.Load() != nil }

// over is what has taken the token of a sending that has ended.
var over = new(handlerTransport)

// end keeps the token from being sent from now on. It reports whether it was.
func (s *sending) end() bool { return s.by.Swap(over) != nil }
