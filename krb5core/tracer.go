package krb5core

import (
	"context"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// A Tracer observes each message and each decision. Its methods are called concurrently and must
// not block. The data of a message holds secrets, see [kdc.MessageEvent].
type Tracer interface {
	kdc.Observer
	// ObserveExchange is called for each decision of an exchange: the encryption type, why a
	// request is repeated, the realm that is asked next.
	ObserveExchange(ctx context.Context, op Op, e exchange.Event)
}
