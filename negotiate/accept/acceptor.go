package accept

import (
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Config says what an acceptor accepts.
type Config struct {
	// Keys has the keys of the account.
	Keys Keys
	// Services are the principals that tickets may be for, compared without regard to case as
	// Active Directory does; an empty realm is any. If there are none, every service of
	// class HTTP is accepted. The name in a ticket is not protected: what counts is the key.
	Services []messages.Principal
	// ETypes are the encryption types of tickets and their session keys; nil means enctype.Strong.
	ETypes []enctype.ID
	// Bindings says how channel bindings are treated.
	Bindings BindingsMode
	// MaxSkew bounds the difference of clocks; zero means five minutes.
	MaxSkew time.Duration
	// Replays is where authenticators are remembered; nil means the process's own.
	Replays *Replays
	// Now is the acceptor's clock; nil means time.Now.
	Now func() time.Time
	// Rand is the source of subkeys and confounders, safe for concurrent use; nil means
	// crypto/rand.
	Rand io.Reader
}

const defaultSkew = 5 * time.Minute

// Acceptor verifies tokens. It is safe for concurrent use.
type Acceptor struct {
	cfg        Config
	beginnings beginnings
}

// New returns an acceptor. It fails if there are no keys.
func New(cfg Config) (*Acceptor, error) {
	if cfg.Keys == nil {
		return nil, errors.New("an acceptor without keys")
	}
	if cfg.ETypes == nil {
		cfg.ETypes = enctype.Strong()
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = defaultSkew
	}
	if cfg.Replays == nil {
		cfg.Replays = process
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Acceptor{cfg: cfg}, nil
}

// Request is a token and the connection that it came over.
type Request struct {
	// Base64 is the token as a header field has it, which is the faster form: most of a token is
	// the same as in the client's token before.
	Base64 string
	// Token is the token without its base64, if Base64 is empty. It is not modified, and nothing of
	// it is kept.
	Token []byte
	// Bindings reports whether the client's channel bindings are those of the connection; nil means
	// that the connection has none, being without TLS.
	Bindings func(gss.ChannelBindings) bool
	// Address is the client's. A ticket that is restricted to addresses is refused if it is not
	// among them or not known.
	Address netip.Addr
}

// Result is a client that has signed in.
type Result struct {
	// Client is the user, as the KDC names them.
	Client messages.Principal
	// Account is what the PAC says of the client; nil if the ticket has no PAC, or one without the
	// account's SID and groups, as MIT's KDCs issue. It is shared by all tokens of a ticket, as
	// the evidence is, and must not be modified.
	Account *Account
	// Evidence is the client's ticket with its session key and times, for S4U2Proxy. Its Service is
	// the name in the ticket.
	Evidence *messages.Credential
	// Flags are the flags of the client's context.
	Flags gss.Flags
	// Bound reports whether the client has bound the token to the channel and the bindings were
	// verified.
	Bound bool
	// Token is the answer, to be sent with the final response; nil if none is due.
	Token []byte
}

// Accept verifies a token. The error is an *Error.
func (a *Acceptor) Accept(r Request) (*Result, error) {
	x := &exchange{cfg: &a.cfg, beginnings: &a.beginnings, request: r, now: a.cfg.Now()}
	for _, step := range steps {
		if err := step(x); err != nil {
			x.complete(err)
			return nil, err
		}
	}
	return &Result{
		Client: x.ticket.evidence.Client, Account: x.ticket.account, Evidence: x.ticket.evidence,
		Flags: x.sum.Flags, Bound: x.bound, Token: x.answer,
	}, nil
}

// steps are what a token must pass, in their order. That it is new is looked up last, so that only
// tokens which are good in every other respect are remembered.
var steps = [...]func(*exchange) *Error{
	(*exchange).unwrap,
	(*exchange).checkRequest,
	(*exchange).openTicket,
	(*exchange).openAuthenticator,
	(*exchange).checkTimes,
	(*exchange).checkClient,
	(*exchange).checkAddress,
	(*exchange).checkTransited,
	(*exchange).readChecksum,
	(*exchange).checkBindings,
	(*exchange).verifyMIC,
	(*exchange).remember,
	(*exchange).keep,
	(*exchange).reply,
}

// exchange is the verification of one token.
type exchange struct {
	cfg        *Config
	beginnings *beginnings
	request    Request
	now        time.Time

	offer  offer
	req    *messages.APReq
	key    *Key // that opened the ticket
	ticket *openTicket
	plain  []byte // of the authenticator
	auth   *messages.Authenticator
	sum    gss.Checksum
	bound  bool
	answer []byte
}

// checkRequest verifies what of the AP-REQ is not encrypted.
func (x *exchange) checkRequest() *Error {
	service := x.service()
	switch {
	case x.req.APOptions&messages.AP_OPTS_USE_SESSION_KEY != 0:
		return refuse(UserToUser)
	case !x.cfg.accepts(service):
		return refuse(WrongService)
	case !x.cfg.allows(x.req.Ticket.EncPart.EType):
		return refuse(WeakEType)
	}
	return nil
}

// service is the principal in the ticket.
func (x *exchange) service() messages.Principal {
	return messages.Principal{Name: x.req.Ticket.SName, Realm: x.req.Ticket.Realm}
}

// accepts reports whether a ticket may be for a service.
func (c *Config) accepts(service messages.Principal) bool {
	name := service.Name.NameString
	if len(c.Services) == 0 {
		return len(name) == 2 && strings.EqualFold(name[0], "HTTP")
	}
	for _, s := range c.Services {
		if (s.Realm == "" || strings.EqualFold(s.Realm, service.Realm)) && slices.EqualFunc(s.Name.NameString, name, strings.EqualFold) {
			return true
		}
	}
	return false
}

// allows reports whether an encryption type may be used.
func (c *Config) allows(id enctype.ID) bool { return slices.Contains(c.ETypes, id) }
