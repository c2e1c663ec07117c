package krb5core

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// DefaultTimeout bounds one acquisition, all exchanges and KDCs together.
const DefaultTimeout = 10 * time.Second

// Realms tells what is known of realms beforehand. A *krb5conf.Config is one.
type Realms interface {
	// RealmOf gives the realm of a host, empty if unknown.
	RealmOf(host string) string
	// CAPath gives the realms between two, in order; nil if the way is not known.
	CAPath(client, server string) []string
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
	// Lifetime is asked for tickets; zero asks for as long as the KDC allows.
	Lifetime time.Duration
	// MaxSkew is how far a KDC's clock and ours may differ before it matters.
	// Default: exchange.DefaultMaxSkew.
	MaxSkew time.Duration
	// Canonicalize lets KDCs correct the name of every account, and refer to
	// another realm, not only of those that are user principal names (RFC 6806).
	Canonicalize bool
	// Realms may be nil: then every host is looked for in the account's own
	// realm, whose KDC may refer to another (RFC 6806 8).
	Realms Realms
	// Armor protects logins, and with them the requests for tickets (FAST, RFC
	// 6113): with it nothing is sent or believed without. May be nil.
	Armor *Armor
	// Tracer may be nil.
	Tracer Tracer
	// Rand is where nonces, subkeys and confounders come from. Default: crypto/rand.
	Rand io.Reader
}

// A Client gets tickets. It keeps none: whoever calls it does. It holds settings
// only, and is safe for concurrent use.
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
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = exchange.DefaultMaxSkew
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Client{cfg: cfg}, nil
}

// Timeout is what bounds one acquisition.
func (c *Client) Timeout() time.Duration { return c.cfg.Timeout }

// ETypes are the permitted encryption types; callers do not modify them.
func (c *Client) ETypes() []enctype.ID { return c.cfg.ETypes }

// opinion is whom a second opinion is not wanted from.
type opinion struct{ first kdc.Server }

// outcome is what is to be told of a drive, however it ended.
type outcome struct {
	last     kdc.Reply
	realm    string // whose KDC was asked last
	preAuths int
	answered bool // the error follows from what a KDC answered
}

// drive lets a machine and the KDCs take turns until the machine is done.
func (c *Client) drive(ctx context.Context, m exchange.Machine, second *opinion) (outcome, error) {
	var (
		out   outcome
		reply []byte
	)
	for {
		request, err := m.Step(reply)
		if err != nil || request == nil {
			out.answered = reply != nil
			return out, err
		}
		query := kdc.Query{
			Realm:   request.Realm,
			Message: request.Message,
			PreAuth: request.PreAuth,
			TCPOnly: c.cfg.TCPOnly || second != nil,
		}
		var foreign atomic.Pointer[error] // why the last reply was passed over
		query.Check = func(reply []byte) kdc.Verdict { return verdict(m, reply, &foreign) }
		if second != nil {
			query.Avoid = []kdc.Server{second.first}
		}
		if request.PreAuth {
			out.preAuths++
		}
		out.realm = request.Realm
		out.last, err = c.cfg.Sender.Send(ctx, query)
		if err != nil {
			if why := foreign.Load(); why != nil {
				// Silence is only half the truth: something came, and was no good.
				err = fmt.Errorf("%w; %w", err, *why)
			}
			return out, err
		}
		reply = out.last.Message
	}
}

// verdict judges a reply for the sender.
func verdict(m exchange.Machine, reply []byte, foreign *atomic.Pointer[error]) kdc.Verdict {
	if err := m.Check(reply); errors.Is(err, exchange.ErrForeign) {
		foreign.Store(&err)
		return kdc.Foreign
	}
	if refusal, err := messages.ParseKRBError(reply); err == nil && refusal.Code() == messages.KDC_ERR_SVC_UNAVAILABLE {
		return kdc.NextKDC
	}
	return kdc.Accept
}

// exchange runs a machine, and runs a second one before a refusal is believed:
// by a stream, since anyone can forge a datagram, and at another KDC if there is
// one, since the first may not have heard of a change yet. What else a datagram
// led to (a KDC that takes no type of ours, say) is doubted in the same way: a
// KRB-ERROR may lie behind it. With believe, the first refusal ends it.
func (c *Client) exchange(ctx context.Context, fail *Error, believe bool, start func(again bool) (exchange.Machine, error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()

	m, err := start(false)
	if err != nil {
		return fail.with(outcome{}, err)
	}
	out, err := c.drive(ctx, m, nil)
	fail.count(out, err)
	var refusal *messages.KRBError
	refused, stream := errors.As(err, &refusal), out.last.Protocol != kdc.UDP
	if err == nil || !out.answered || stream && !refused {
		return fail.with(out, err)
	}
	if believe || stream && !c.hasOther(ctx, out.realm, out.last.Server) {
		fail.Confirmed = stream
		return fail.with(out, err)
	}
	m, startErr := start(true)
	if startErr != nil {
		fail.Confirmed = stream
		return fail.with(out, err)
	}
	again, errAgain := c.drive(ctx, m, &opinion{out.last.Server})
	fail.count(again, errAgain)
	if errAgain == nil {
		return nil
	}
	if errors.As(errAgain, &refusal) {
		fail.Confirmed = true
		return fail.with(again, errAgain)
	}
	if again.answered && !refused {
		return fail.with(again, errAgain)
	}
	// Nobody else could be asked: what came by a stream is as good as it gets.
	fail.Confirmed = stream
	return fail.with(out, err)
}

// count adds up the proofs of a key that were sent, and those that were refused.
func (e *Error) count(out outcome, err error) {
	e.PreAuths += out.preAuths
	if code, ok := Code(err); ok && (code == messages.KDC_ERR_PREAUTH_FAILED || code == messages.KRB_AP_ERR_BAD_INTEGRITY) {
		e.KeysRefused += out.preAuths
	}
}

// hasOther tells whether the realm has a KDC beside the given one.
func (c *Client) hasOther(ctx context.Context, realm string, server kdc.Server) bool {
	if c.cfg.Finder == nil {
		return false
	}
	servers, err := c.cfg.Finder.KDCs(ctx, realm)
	return err == nil && slices.ContainsFunc(servers, func(s kdc.Server) bool { return s != server })
}

// with completes the error by its cause; nil if there is none.
func (e *Error) with(out outcome, err error) error {
	if err == nil {
		return nil
	}
	e.Err = err
	if out.realm != "" {
		e.Realm = out.realm
	}
	if out.last.Addr != "" {
		e.KDC = out.last.Server.String()
	}
	if refusal, ok := errors.AsType[*messages.KRBError](err); ok {
		e.Refused, e.Code, e.Status = true, refusal.Code(), refusal.Data().Status
	}
	if _, ok := errors.AsType[*exchange.UnarmoredError](err); ok {
		e.Confirmed = false // by whatever it came: it may be anybody's
	}
	return e
}

// salted notes what the KDC said of the client's key.
func (e *Error) salted(hint *exchange.PreAuthHint) {
	if hint != nil && hint.HasSalt {
		e.Salt, e.HasSalt = clip(hint.Salt, maxErrorSalt), true
	}
}

// trace gives the machines a function that reports their decisions.
func (c *Client) trace(ctx context.Context, op Op) func(exchange.Event) {
	if c.cfg.Tracer == nil {
		return nil
	}
	return func(e exchange.Event) { c.cfg.Tracer.ObserveExchange(ctx, op, e) }
}

// maxPreAuths is how many pre-authenticated requests a login sends, however many
// KDCs there are: each may count towards lockout.
const maxPreAuths = 3

// Login gets a ticket-granting ticket by the account's keys (RFC 4120 3.1). The
// first login of an account asks what its password is salted with; later ones
// know. At most two pre-authenticated requests prove the same key, and three are
// sent in all.
func (c *Client) Login(ctx context.Context, a *Account) (*messages.Credential, error) {
	return c.login(ctx, a, maxPreAuths, false)
}

// LoginWithin is Login with at most that many pre-authenticated requests, for
// accounts of which some were refused before.
func (c *Client) LoginWithin(ctx context.Context, a *Account, preAuths int) (*messages.Credential, error) {
	return c.login(ctx, a, preAuths, false)
}

// LoginOnce is Login with a key that is not expected to work: it is proved once,
// and if it is refused, nobody else is asked.
func (c *Client) LoginOnce(ctx context.Context, a *Account) (*messages.Credential, error) {
	return c.login(ctx, a, 1, true)
}

// errNoProofLeft ends a login that may not send another pre-authenticated request.
var errNoProofLeft = errors.New("no pre-authenticated request may be sent any more")

func (c *Client) login(ctx context.Context, a *Account, preAuths int, once bool) (*messages.Credential, error) {
	var (
		sent, refused int
		last          error
	)
	tgt, err := c.armored(ctx, a, func(ctx context.Context, armor *messages.Credential) (*messages.Credential, error) {
		if last != nil && sent >= preAuths {
			return nil, last
		}
		tgt, err := c.loginWith(ctx, a, armor, preAuths-sent, once)
		if e, ok := errors.AsType[*Error](err); ok { // other armor is no reason for more proofs
			e.PreAuths, e.KeysRefused = e.PreAuths+sent, e.KeysRefused+refused
			sent, refused = e.PreAuths, e.KeysRefused
		}
		last = err
		return tgt, err
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Op == OpArmor { // its own proofs are not all that were sent
		e.PreAuths, e.KeysRefused = e.PreAuths+sent, e.KeysRefused+refused
	}
	return tgt, err
}

func (c *Client) loginWith(ctx context.Context, a *Account, armor *messages.Credential, preAuths int, once bool) (*messages.Credential, error) {
	realm := a.principal.Realm
	fail := &Error{Op: OpLogin, Realm: realm, Client: a.principal.String()}
	var login *exchange.AS
	err := c.exchange(ctx, fail, once, func(again bool) (exchange.Machine, error) {
		if fail.PreAuths >= preAuths {
			return nil, errNoProofLeft
		}
		cfg := exchange.ASConfig{
			MaxPreAuth:   preAuths - fail.PreAuths,
			Client:       a.principal,
			Canonicalize: a.canonicalize() || c.cfg.Canonicalize,
			ETypes:       c.cfg.ETypes,
			Keys:         a.keys,
			Armor:        armor,
			Options:      messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_RENEWABLE_OK,
			Lifetime:     c.cfg.Lifetime,
			Now:          func() time.Time { return a.clock.Now(realm) },
			Rand:         c.cfg.Rand,
			MaxSkew:      c.cfg.MaxSkew,
			Trace:        c.trace(ctx, OpLogin),
		}
		if again {
			fail.salted(login.Result().Hint) // the second one may not come as far
		} else {
			cfg.Hint = a.hint.Load()
		}
		var err error
		login, err = exchange.NewAS(cfg)
		return login, err
	})
	if err != nil {
		a.hint.Store(nil)
		if login != nil {
			fail.salted(login.Result().Hint)
		}
		return nil, err
	}
	result := login.Result()
	a.hint.Store(result.Hint)
	a.learn(realm, learnt{result.Offset, result.OffsetConfirmed, realm, c.cfg.MaxSkew}, result.Credential.Service.Realm)
	return result.Credential, nil
}

// learnt is an offset that a machine found on top of what was known.
type learnt struct {
	offset    time.Duration
	confirmed bool
	realm     string // whose; any if offset is 0
	maxSkew   time.Duration
}

// learn takes over what a machine that went by the clock of the base realm has
// learnt. The KDC of the realm that it ended in has accepted that time: what was
// known of that realm's clock stays only if the two do not exclude each other.
func (a *Account) learn(base string, l learnt, end string) {
	used := a.clock.Offset(base) + l.offset
	if l.offset != 0 {
		if !l.confirmed {
			return
		}
		a.clock.Learn(l.realm, used)
	}
	if (a.clock.Offset(end) - used).Abs() > l.maxSkew {
		a.clock.Learn(end, used)
	}
}

// ServiceTicket gets a ticket for a service by a ticket-granting ticket that
// Login returned (RFC 4120 3.3), across realms if need be. A service whose realm
// is empty is looked for where the configuration says its host is, else in the
// client's realm, whose KDC may refer to another (RFC 6806 8).
func (c *Client) ServiceTicket(ctx context.Context, a *Account, tgt *messages.Credential, service messages.Principal) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpService, exchange.TGSConfig{
		TGT:     tgt,
		Service: service.Name,
		Realm:   c.realmOf(service),
		Options: messages.KDC_OPT_FORWARDABLE,
	})
}

// Renew gets a ticket-granting ticket with a later end by one that is renewable
// and has not ended yet (RFC 4120 3.3.3.1).
func (c *Client) Renew(ctx context.Context, a *Account, tgt *messages.Credential) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpRenew, exchange.TGSConfig{
		TGT:     tgt,
		Service: tgt.Service.Name,
		Realm:   tgt.Service.Realm,
		Options: messages.KDC_OPT_RENEWABLE | messages.KDC_OPT_FORWARDABLE,
		Renew:   true,
	})
}

// Forward gets a ticket-granting ticket that may be handed to a service (RFC
// 4120 2.6).
func (c *Client) Forward(ctx context.Context, a *Account, tgt *messages.Credential) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpForward, exchange.TGSConfig{
		TGT:     tgt,
		Service: messages.TGSName(tgt.Service.Realm),
		Realm:   tgt.Service.Realm,
		Options: messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_FORWARDED,
	})
}

func (c *Client) tgs(ctx context.Context, a *Account, op Op, cfg exchange.TGSConfig) (*messages.Credential, error) {
	cfg.ETypes = c.cfg.ETypes
	cfg.Lifetime = c.cfg.Lifetime
	cfg.Known = a.known(cfg.TGT.Client)
	cfg.CAPath = c.caPath()
	cfg.FAST = c.cfg.Armor != nil
	cfg.Now = a.nowAt(cfg.TGT)
	cfg.Rand = c.cfg.Rand
	cfg.MaxSkew = c.cfg.MaxSkew
	cfg.Trace = c.trace(ctx, op)
	return c.ask(ctx, a, op, cfg.TGT, messages.Principal{Name: cfg.Service, Realm: cfg.Realm}, func() (ticketMachine, error) {
		return exchange.NewTGS(cfg)
	})
}

// ticketMachine is an exchange that wins one ticket by another.
type ticketMachine interface {
	exchange.Machine
	Result() *exchange.TGSResult
}

// ask runs an exchange with the ticket-granting service.
func (c *Client) ask(
	ctx context.Context, a *Account, op Op, tgt *messages.Credential, service messages.Principal, start func() (ticketMachine, error),
) (*messages.Credential, error) {
	fail := &Error{Op: op, Realm: tgt.Service.Realm, Client: tgt.Client.String(), Service: strings.TrimSuffix(service.String(), "@")}
	var x ticketMachine
	err := c.exchange(ctx, fail, false, func(bool) (exchange.Machine, error) {
		var err error
		x, err = start()
		return x, err
	})
	if err != nil {
		return nil, err
	}
	result := x.Result()
	a.remember(result.Referrals, service.Realm)
	end := result.Credential.Service.Realm
	if end == tgt.Client.Realm && result.Realm != "" {
		end = result.Realm // another realm's KDC must not set the clock of ours by saying that its ticket is of it
	}
	a.learn(tgt.Service.Realm, learnt{result.Offset, result.OffsetConfirmed, result.OffsetRealm, c.cfg.MaxSkew}, end)
	return result.Credential, nil
}

func (c *Client) caPath() func(client, server string) []string {
	if c.cfg.Realms == nil {
		return nil
	}
	return c.cfg.Realms.CAPath
}

// realmOf gives the realm to look for a service in, empty if only the KDC can tell.
func (c *Client) realmOf(service messages.Principal) string {
	if service.Realm != "" || c.cfg.Realms == nil || len(service.Name.NameString) < 2 {
		return service.Realm
	}
	return c.cfg.Realms.RealmOf(service.Name.NameString[1])
}

// String tells clients apart whose tickets must not stand for each other's: by
// the permitted types, and by the armor.
func (c *Client) String() string { return fmt.Sprint(c.cfg.ETypes) + c.armorText() }
