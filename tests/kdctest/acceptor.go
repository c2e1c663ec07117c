package kdctest

import (
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Refusal says how an acceptor treats valid tokens.
type Refusal int

const (
	// RefuseNone accepts them.
	RefuseNone Refusal = iota
	// RefuseGood answers them with a bare 401.
	RefuseGood
	// RefuseGoodWithAPRep answers them with 401 and with a valid AP-REP if one was
	// requested: the user is authenticated but not authorized.
	RefuseGoodWithAPRep
)

// Stickiness says what an acceptor does with a token on a connection that is authenticated.
type Stickiness int

const (
	// StickyNever authenticates each request by its own token.
	StickyNever Stickiness = iota
	// StickyUnread takes it for a request of the connection's user, and does not read the
	// token.
	StickyUnread
	// StickyUser verifies the token and answers it, and takes the request for one of the
	// connection's user all the same: a faulty acceptor.
	StickyUser
)

// AcceptorConfig says what an acceptor accepts and how it answers.
type AcceptorConfig struct {
	// Keytab is a keytab file's content with the keys of the services.
	Keytab []byte
	// Bindings is how channel bindings are treated.
	Bindings BindingsMode
	// Refuse says how valid tokens are treated; with RefuseWhen only those for
	// which it returns true. It is called from many goroutines at once.
	Refuse     Refusal
	RefuseWhen func() bool
	// Challenges are the WWW-Authenticate values of a 401 that has no token to
	// send; "Negotiate" if nil. IIS says "Negotiate" and "NTLM".
	Challenges []string
	// BareRefusals makes refusals a bare 401 as IIS's mostly are, instead of a
	// NegTokenResp with a KRB-ERROR.
	BareRefusals bool
	// MicrosoftMech makes NegTokenResp name Kerberos by Microsoft's OID, as
	// Windows does.
	MicrosoftMech bool
	// PerConnection accepts requests without a token as the identity that last
	// authenticated on their connection (IIS's authPersistNonNTLM,
	// GssapiConnectionBound), and says so with Persistent-Auth.
	PerConnection bool
	// Sticky says whose a request with a token is on a connection that is authenticated.
	Sticky Stickiness
	// MaxSkew bounds the clock difference of authenticators; five minutes if zero.
	MaxSkew time.Duration
	// Now is the acceptor's clock; time.Now if nil.
	Now func() time.Time
	// Rand is the source of subkeys and confounders; crypto/rand if nil. It
	// must be safe for concurrent use.
	Rand io.Reader
}

// AcceptorCounts counts the decisions of an acceptor since its start.
type AcceptorCounts struct {
	// Accepted counts valid tokens, Persisted requests that were accepted by their
	// connection's identity, Missing those without a token.
	Accepted, Persisted, Missing int
	// Misattributed counts requests that were served as another user's than their token's
	// (Sticky); MisattributedUnsafe those of methods other than GET, HEAD and OPTIONS.
	Misattributed, MisattributedUnsafe int
	// Refused counts refused tokens by kind: the error's registered name, or
	// "garbage", "bindings", "policy" for good tokens refused.
	Refused map[string]int
}

// Acceptor verifies Kerberos tokens (RFC 4121, RFC 4178, RFC 4559). It is safe
// for concurrent use.
type Acceptor struct {
	replays replayCache

	mu     sync.Mutex
	cfg    AcceptorConfig
	keys   *keytab.Keytab
	counts AcceptorCounts
}

// NewAcceptor returns an acceptor; it fails if the keytab cannot be parsed.
func NewAcceptor(cfg AcceptorConfig) (*Acceptor, error) {
	a := &Acceptor{cfg: cfg, counts: AcceptorCounts{Refused: make(map[string]int)}}
	return a, a.Update(func(*AcceptorConfig) {})
}

// Update changes the configuration while requests arrive, such as the keytab, the
// clock or Refuse.
func (a *Acceptor) Update(change func(*AcceptorConfig)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	cfg := a.cfg
	change(&cfg)
	keys, err := keytab.Parse(cfg.Keytab)
	if err != nil {
		return fmt.Errorf("the acceptor's keytab: %w", err)
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Challenges == nil {
		cfg.Challenges = []string{"Negotiate"}
	}
	a.cfg, a.keys = cfg, keys
	return nil
}

// Counts returns a snapshot.
func (a *Acceptor) Counts() AcceptorCounts {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts
	c.Refused = maps.Clone(c.Refused)
	return c
}

// ResetCounts resets the counts to zero.
func (a *Acceptor) ResetCounts() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts = AcceptorCounts{Refused: make(map[string]int)}
}

func (a *Acceptor) count(f func(*AcceptorCounts)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.counts)
}

func (a *Acceptor) config() (AcceptorConfig, *keytab.Keytab) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg, a.keys
}

// AcceptError says why a token was refused.
type AcceptError struct {
	Kind string             // as in AcceptorCounts.Refused
	Code messages.ErrorCode // of the KRB-ERROR; zero if the token is not Kerberos
	Text string
}

// Error returns kind and reason.
func (e *AcceptError) Error() string { return e.Kind + ": " + e.Text }

// acceptance is the verification of one token.
type acceptance struct {
	cfg    AcceptorConfig
	keys   *keytab.Keytab
	now    time.Time
	req    *messages.APReq
	key    enctype.Key // the service's
	ticket *messages.EncTicketPart
	auth   *messages.Authenticator
	sum    gssChecksum
}

// verifyAPReq verifies an AP-REQ as RFC 4120, Section 3.2.3 and RFC 4121, Section 4.1
// require of an acceptor.
// channel is the bindings of the connection, nil if it has none.
func (a *Acceptor) verifyAPReq(der []byte, channel *[16]byte) (*acceptance, error) {
	cfg, keys := a.config()
	x := &acceptance{cfg: cfg, keys: keys, now: cfg.Now()}
	req, err := messages.ParseAPReq(der)
	if err != nil {
		return x, &AcceptError{"garbage", messages.KRB_AP_ERR_MSG_TYPE, err.Error()}
	}
	x.req = req
	for _, check := range []func() error{x.openTicket, x.openAuthenticator, x.checkTimes, x.readChecksum} {
		if err := check(); err != nil {
			return x, err
		}
	}
	if fault := bindingsFault(cfg.Bindings, channel, x.sum.bindings, x.claimsCBT()); fault != "" {
		return x, &AcceptError{"bindings", messages.KRB_ERR_GENERIC, fault}
	}
	key := replayKey{
		client:  x.auth.CName.String() + "@" + x.auth.CRealm,
		service: req.Ticket.SName.String() + "@" + req.Ticket.Realm,
		ctime:   x.auth.CTime.Unix(),
		cusec:   x.auth.CUSec,
	}
	if a.replays.seen(key, x.now, cfg.MaxSkew) {
		return x, refused(messages.KRB_AP_ERR_REPEAT, "authenticator came before")
	}
	return x, nil
}

func refused(code messages.ErrorCode, text string) *AcceptError {
	return &AcceptError{code.String(), code, text}
}

// openTicket finds the service's key and decrypts the ticket with it.
func (x *acceptance) openTicket() error {
	t := &x.req.Ticket
	service := messages.Principal{Name: t.SName, Realm: t.Realm}
	known, sameType := false, false
	for _, e := range x.keys.Entries {
		if !e.Principal.Equal(service) {
			continue
		}
		known = true
		if e.Key.EType() != t.EncPart.EType {
			continue
		}
		sameType = true
		if !t.EncPart.HasKVNO || e.KVNO == t.EncPart.KVNO {
			x.key = e.Key
		}
	}
	switch {
	case !known:
		return refused(messages.KRB_AP_ERR_NOT_US, "no key for "+service.String())
	case !sameType:
		return refused(messages.KRB_AP_ERR_NOKEY, "no key of the ticket's type for "+service.String())
	case x.key.IsZero():
		return refused(messages.KRB_AP_ERR_BADKEYVER, fmt.Sprintf("no key of version %d for %s", t.EncPart.KVNO, service))
	}
	plain, err := x.key.Decrypt(enctype.KEY_USAGE_TICKET, t.EncPart.Cipher)
	if err != nil {
		return refused(messages.KRB_AP_ERR_MODIFIED, "ticket does not decrypt")
	}
	if x.ticket, err = messages.ParseEncTicketPart(plain); err != nil {
		return refused(messages.KRB_AP_ERR_MODIFIED, err.Error())
	}
	return nil
}

func (x *acceptance) openAuthenticator() error {
	plain, err := x.ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, x.req.Authenticator.Cipher)
	if err != nil {
		return refused(messages.KRB_AP_ERR_MODIFIED, "authenticator does not decrypt")
	}
	if x.auth, err = messages.ParseAuthenticator(plain); err != nil {
		return refused(messages.KRB_AP_ERR_MODIFIED, err.Error())
	}
	if !x.auth.CName.Equal(x.ticket.CName) || x.auth.CRealm != x.ticket.CRealm {
		return refused(messages.KRB_AP_ERR_BADMATCH, "authenticator is of another client than the ticket")
	}
	return nil
}

// checkTimes allows the skew on a ticket's end too, as deployed acceptors do.
func (x *acceptance) checkTimes() error {
	skew := x.cfg.MaxSkew
	start := x.ticket.StartTime
	if start.IsZero() {
		start = x.ticket.AuthTime
	}
	switch {
	case x.auth.CTime.Sub(x.now).Abs() > skew:
		return refused(messages.KRB_AP_ERR_SKEW, "clocks differ too much")
	case start.Sub(x.now) > skew || x.ticket.Flags&messages.TKT_FLG_INVALID != 0:
		return refused(messages.KRB_AP_ERR_TKT_NYV, "ticket is not valid yet")
	case x.now.Sub(x.ticket.EndTime) > skew:
		return refused(messages.KRB_AP_ERR_TKT_EXPIRED, "ticket has expired")
	}
	return nil
}

// claimsCBT looks for KERB_AP_OPTIONS_CBT in the authenticator ([MS-KILE]
// 3.2.5.8: ad-type 143, little-endian 0x4000, inside AD-IF-RELEVANT).
func (x *acceptance) claimsCBT() bool {
	for _, outer := range x.auth.AuthorizationData {
		if outer.Type != messages.AD_IF_RELEVANT {
			continue
		}
		inner, err := messages.ParseAuthorizationData(outer.Value)
		if err != nil {
			continue
		}
		for _, e := range inner {
			if e.Type == messages.AD_AUTH_DATA_AP_OPTIONS && len(e.Value) >= 2 && e.Value[1]&0x40 != 0 {
				return true
			}
		}
	}
	return false
}
