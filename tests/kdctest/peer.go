package kdctest

import (
	"context"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Peer is an authenticated client with the properties of its token.
type Peer struct {
	// Principal is user@REALM, User the part before the realm.
	Principal string `json:"principal"`
	User      string `json:"user"`
	Realm     string `json:"realm"`
	// Service is the principal that the ticket was for.
	Service string `json:"service"`
	// TicketEType is the encryption type of the ticket, SessionEType that of its key.
	TicketEType  string `json:"ticket_etype"`
	SessionEType string `json:"session_etype"`
	// Subkey says that the authenticator has one.
	Subkey bool `json:"subkey"`
	// Flags are the ticket's.
	Flags string `json:"flags"`
	// EndTime is the ticket's.
	EndTime time.Time `json:"end_time"`
	// GSSFlags are those of the initiator's checksum (RFC 4121, Section 4.1.1.1).
	GSSFlags uint32 `json:"gss_flags"`
	// Bound says that the token has channel bindings; ClaimsCBT that the client
	// claims to support them.
	Bound     bool `json:"bound"`
	ClaimsCBT bool `json:"claims_cbt"`
	// Delegated is the client of the delegated ticket-granting ticket; empty without one.
	Delegated string `json:"delegated,omitempty"`
	// SPNEGO says that the token was wrapped; it is false for a raw Kerberos token.
	SPNEGO bool `json:"spnego"`
	// TokenBytes is the token's size before base64.
	TokenBytes int `json:"token_bytes"`
	// Connection is the number of the connection, if known; Persisted says that
	// the identity is that of the connection, not of a token.
	Connection int64 `json:"connection,omitempty"`
	Persisted  bool  `json:"persisted,omitempty"`

	// Client is the principal, TicketFlags the flags.
	Client      messages.Principal   `json:"-"`
	TicketFlags messages.TicketFlags `json:"-"`
	// Credential is the delegated ticket-granting ticket, nil without one.
	Credential *messages.Credential `json:"-"`
}

type peerKey struct{}

// PeerFrom returns the client of a request that Protect has accepted.
func PeerFrom(ctx context.Context) (*Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(*Peer)
	return p, ok
}

func withPeer(ctx context.Context, p *Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// peer returns the properties of an accepted token.
func (x *acceptance) peer() *Peer {
	client := messages.Principal{Name: x.ticket.CName, Realm: x.ticket.CRealm}
	p := &Peer{
		Principal:    client.String(),
		User:         client.Name.String(),
		Realm:        client.Realm,
		Service:      messages.Principal{Name: x.req.Ticket.SName, Realm: x.req.Ticket.Realm}.String(),
		TicketEType:  x.req.Ticket.EncPart.EType.String(),
		SessionEType: x.ticket.Key.EType().String(),
		Subkey:       !x.auth.Subkey.IsZero(),
		Flags:        x.ticket.Flags.String(),
		EndTime:      x.ticket.EndTime,
		GSSFlags:     x.sum.flags,
		Bound:        x.sum.bindings != [16]byte{},
		ClaimsCBT:    x.claimsCBT(),
		Client:       client,
		TicketFlags:  x.ticket.Flags,
		Credential:   x.sum.delegated,
	}
	if x.sum.delegated != nil {
		p.Delegated = x.sum.delegated.Client.String()
	}
	return p
}
