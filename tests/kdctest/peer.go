package kdctest

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
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

// newPeer returns the properties of an accepted token, which it opens once more for what
// an acceptor has no use for.
func newPeer(token []byte, result *accept.Result) (*Peer, error) {
	size, wrapped := len(token), spnego.IsInit(token)
	if wrapped {
		init, err := spnego.ParseInit(token)
		if err != nil {
			return nil, err
		}
		token = init.MechToken
	}
	framed, err := gss.ParseToken(token)
	if err != nil {
		return nil, err
	}
	req, err := messages.ParseAPReq(framed.Body)
	if err != nil {
		return nil, err
	}
	evidence := result.Evidence
	plain, err := evidence.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, req.Authenticator.Cipher)
	if err != nil {
		return nil, err
	}
	auth, err := messages.ParseAuthenticator(plain)
	if err != nil {
		return nil, err
	}
	sum, err := gss.ParseChecksum(auth.Cksum.Value)
	if err != nil {
		return nil, err
	}
	p := &Peer{
		Principal:    result.Client.String(),
		User:         result.Client.Name.String(),
		Realm:        result.Client.Realm,
		Service:      evidence.Service.String(),
		TicketEType:  req.Ticket.EncPart.EType.String(),
		SessionEType: evidence.Key.EType().String(),
		Subkey:       !auth.Subkey.IsZero(),
		Flags:        evidence.Flags.String(),
		EndTime:      evidence.EndTime,
		GSSFlags:     uint32(result.Flags),
		Bound:        sum.Bindings != gss.ChannelBindings{},
		ClaimsCBT:    claimsCBT(auth),
		SPNEGO:       wrapped,
		TokenBytes:   size,
		Client:       result.Client,
		TicketFlags:  evidence.Flags,
	}
	if sum.DelegatedCred != nil {
		if p.Credential, err = openCred(sum.DelegatedCred, evidence.Key); err != nil {
			return nil, fmt.Errorf("delegated credential: %w", err)
		}
		p.Delegated = p.Credential.Client.String()
	}
	return p, nil
}

// claimsCBT looks for KERB_AP_OPTIONS_CBT in the authenticator ([MS-KILE]
// 3.2.5.8: ad-type 143, little-endian 0x4000, inside AD-IF-RELEVANT).
func claimsCBT(auth *messages.Authenticator) bool {
	option, ok := findAuthorization(auth.AuthorizationData, messages.AD_AUTH_DATA_AP_OPTIONS)
	return ok && len(option) >= 2 && option[1]&0x40 != 0
}

// openCred returns the one ticket of a KRB-CRED (RFC 4120, Section 3.6), which is
// encrypted with the session key.
func openCred(der []byte, session enctype.Key) (*messages.Credential, error) {
	cred, err := messages.ParseKRBCred(der)
	if err != nil {
		return nil, err
	}
	plain, err := session.Decrypt(enctype.KEY_USAGE_KRB_CRED, cred.EncPart.Cipher)
	if err != nil {
		return nil, err
	}
	part, err := messages.ParseEncKrbCredPart(plain)
	if err != nil {
		return nil, err
	}
	if len(part.TicketInfo) != 1 || len(cred.Tickets) != 1 {
		return nil, messages.ErrMalformed
	}
	info := part.TicketInfo[0]
	return &messages.Credential{
		Client:    messages.Principal{Name: info.PName, Realm: info.PRealm},
		Service:   messages.Principal{Name: info.SName, Realm: info.SRealm},
		Key:       info.Key,
		AuthTime:  info.AuthTime,
		StartTime: info.StartTime,
		EndTime:   info.EndTime,
		RenewTill: info.RenewTill,
		Flags:     info.Flags,
		Ticket:    cred.Tickets[0].Marshal(),
	}, nil
}
