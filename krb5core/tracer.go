package krb5core

import (
	"context"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// A Tracer sees each message and each decision. Its methods are called by several
// goroutines at a time and must not block. The data of a message holds secrets,
// as [kdc.MessageEvent] says.
type Tracer interface {
	kdc.Observer
	// ObserveExchange is called for each decision of an exchange: which
	// encryption type, why it asks again, which realm it goes on to.
	ObserveExchange(ctx context.Context, op Op, e exchange.Event)
}
