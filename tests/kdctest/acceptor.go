package kdctest

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
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
	replays *accept.Replays

	mu     sync.Mutex
	cfg    AcceptorConfig
	keys   serviceKeys
	counts AcceptorCounts
}

// NewAcceptor returns an acceptor; it fails if the keytab cannot be parsed.
func NewAcceptor(cfg AcceptorConfig) (*Acceptor, error) {
	a := &Acceptor{
		cfg: cfg, counts: AcceptorCounts{Refused: make(map[string]int)},
		replays: accept.NewReplays(accept.ReplayMemory, time.Time{}),
	}
	return a, a.Update(func(*AcceptorConfig) {})
}

// Update changes the configuration while requests arrive, such as the keytab, the
// clock or Refuse.
func (a *Acceptor) Update(change func(*AcceptorConfig)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	cfg := a.cfg
	change(&cfg)
	file, err := keytab.Parse(cfg.Keytab)
	if err != nil {
		return fmt.Errorf("the acceptor's keytab: %w", err)
	}
	keys, err := newServiceKeys(file)
	if err != nil {
		return fmt.Errorf("the acceptor's keytab: %w", err)
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

func (a *Acceptor) config() (AcceptorConfig, serviceKeys) {
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
