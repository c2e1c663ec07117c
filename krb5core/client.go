package krb5core

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// DefaultTimeout bounds one acquisition, all exchanges and KDCs together.
const DefaultTimeout = 10 * time.Second

// Realms is the configuration of realms; *krb5conf.Config implements it.
type Realms interface {
	// RealmOf returns the realm of a host, empty if unknown.
	RealmOf(host string) string
	// CAPath returns the realms between two, in order; nil if no path is configured.
	CAPath(client, server string) []string
	// Configured reports whether the configuration names the realm. A KDC may refer the login of an
	// account with a password to such a realm only.
	Configured(realm string) bool
}

// Config says how a [Client] works.
type Config struct {
	// Sender asks the KDCs. Required.
	Sender *kdc.Sender
	// Finder is the Sender's; with it a second KDC is asked before a refusal
	// is believed. Nil: refusals are confirmed at the same KDC.
	Finder kdc.Finder
	// TCPOnly keeps everything off UDP.
	TCPOnly bool
	// ETypes are the permitted encryption types in order of preference.
	// Default: enctype.Strong().
	ETypes []enctype.ID
	// Timeout bounds one acquisition. Default: DefaultTimeout.
	Timeout time.Duration
	// Lifetime is requested for tickets; zero requests the longest that the KDC allows.
	Lifetime time.Duration
	// MaxSkew is how far a KDC's clock and ours may differ before it matters.
	// Default: exchange.DefaultMaxSkew.
	MaxSkew time.Duration
	// Canonicalize lets KDCs correct the name of every account, and refer to
	// another realm, not only of those that are user principal names (RFC 6806).
	Canonicalize bool
	// Realms may be nil: then every host is looked for in the account's own
	// realm, whose KDC may refer to another (RFC 6806, Section 8), and a
	// password is proved in no other realm.
	Realms Realms
	// PKINIT is for logins with certificates.
	PKINIT PKINITConfig
	// Armor protects logins, and with them the requests for tickets (FAST, RFC
	// 6113): with it nothing is sent or believed without. May be nil.
	Armor *Armor
	// Passwords asks the servers that change passwords (RFC 3244); nil if no password is to be changed.
	Passwords *kdc.Sender
	// Tracer may be nil.
	Tracer Tracer
}

// PKINITConfig is what logins with certificates need beside the certificate.
type PKINITConfig struct {
	// Roots are the CAs that may issue certificates of KDCs, nil for the system's.
	Roots *x509.CertPool
	// WeakGroups permits MODP group 2 if a KDC accepts no other.
	WeakGroups bool
}

// A Client gets tickets and returns them to its caller; it keeps none. It holds
// settings only, and is safe for concurrent use.
type Client struct {
	cfg Config
}

// NewClient checks the configuration and returns a client.
func NewClient(cfg Config) (*Client, error) {
	if cfg.Sender == nil {
		return nil, errors.New("a client needs a Sender to ask KDCs with")
	}
	if len(cfg.ETypes) == 0 {
		cfg.ETypes = enctype.Strong()
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, exchange.DefaultMaxSkew)
	return &Client{cfg: cfg}, nil
}

// Timeout is the bound of one acquisition.
func (c *Client) Timeout() time.Duration { return c.cfg.Timeout }

// ETypes are the permitted encryption types; callers do not modify them.
func (c *Client) ETypes() []enctype.ID { return c.cfg.ETypes }

// Armored reports whether logins are protected by FAST armor.
func (c *Client) Armored() bool { return c.cfg.Armor != nil }

// Canonicalize reports whether KDCs may correct the name of every account.
func (c *Client) Canonicalize() bool { return c.cfg.Canonicalize }

// Lifetime is the lifetime requested for tickets; zero requests as long as the KDC
// allows.
func (c *Client) Lifetime() time.Duration { return c.cfg.Lifetime }

// env is the environment of the operation's exchanges; now is the time of the realm that they begin
// in.
func (c *Client) env(ctx context.Context, op Op, now func() time.Time) exchange.Env {
	e := exchange.Env{
		ETypes:   c.cfg.ETypes,
		Lifetime: c.cfg.Lifetime,
		MaxSkew:  c.cfg.MaxSkew,
		Now:      now,
	}
	if c.cfg.Tracer != nil {
		e.Trace = func(e exchange.Event) { c.cfg.Tracer.ObserveExchange(ctx, op, e) }
	}
	return e
}

// session is the session of a ticket-granting ticket for the operation's exchanges.
func (c *Client) session(ctx context.Context, a *Account, op Op, tgt *messages.Credential) exchange.Session {
	realm := tgt.Service.Realm
	s := exchange.Session{
		Env:   c.env(ctx, op, func() time.Time { return a.clock.Now(realm) }),
		TGT:   tgt,
		FAST:  c.Armored(),
		Known: a.known(tgt.Client),
	}
	if c.cfg.Realms != nil {
		s.CAPath = c.cfg.Realms.CAPath
	}
	return s
}

// realmOf returns the realm to look for a service in, empty if only the KDC can tell.
func (c *Client) realmOf(service messages.Principal) string {
	if service.Realm != "" || c.cfg.Realms == nil || len(service.Name.NameString) < 2 {
		return service.Realm
	}
	return c.cfg.Realms.RealmOf(service.Name.NameString[1])
}
