package accept

import "github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"

// BindingsMode says how an acceptor treats channel bindings.
type BindingsMode int

const (
	// BindingsAuto refuses wrong ones, on a connection without TLS any, and none from a client that
	// says that it knows them.
	BindingsAuto BindingsMode = iota
	// BindingsRequired refuses wrong and absent ones.
	BindingsRequired
	// BindingsOff ignores them.
	BindingsOff
)

// checkBindings verifies that the token was made for the connection that it came over.
func (x *exchange) checkBindings() *Error {
	mode, verify, absent := x.cfg.Bindings, x.request.Bindings, x.sum.Bindings == gss.ChannelBindings{}
	switch {
	case mode == BindingsOff:
		return nil
	case mode == BindingsRequired && verify == nil:
		return refuse(NoBindings)
	case absent && (mode == BindingsRequired || verify != nil && x.claimsBindings()):
		return refuse(BindingsMissing)
	case absent:
		return nil
	case verify == nil || !verify(x.sum.Bindings):
		return refuse(BindingsWrong)
	}
	x.bound = true
	return nil
}
