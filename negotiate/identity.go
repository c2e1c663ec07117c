package negotiate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Tickets is the cache that the identities of a process share.
type Tickets = cache.Cache[*Ticket]

// Settings belong to the block of configuration that states them, and travel
// with each call: two blocks may use one account in different ways. They do not
// change.
type Settings struct {
	// Name is what operators know the identity by.
	Name string
	// Client asks the KDCs.
	Client *krb5core.Client
	// etypes is the cache key's view of the client's encryption types.
	etypes string
}

// NewSettings returns the settings of a block.
func NewSettings(name string, client *krb5core.Client) *Settings {
	return &Settings{Name: name, Client: client, etypes: client.String()}
}

// IdentityConfig says whose identity it is.
type IdentityConfig struct {
	// Key tells this identity from all others in Tickets.
	Key string
	// Principal is the account as the configuration names it.
	Principal messages.Principal
	// Secret is where its keys come from.
	Secret Secret
	// Tickets holds the tickets.
	Tickets *Tickets
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Observe hears of what happens; nil means nobody does. It must not block.
	Observe func(Event)
}

// An Identity is an account as a running thing: its keys, its tickets, its
// breaker, its clock. It outlives the blocks of configuration that use it, one
// after the other, and is safe for concurrent use.
type Identity struct {
	cfg     IdentityConfig
	clock   *krb5core.Clock
	stamps  sync.Map // realm -> *gss.Clock
	origin  origin
	breaker breaker
	logins  chan struct{} // one at a time, whatever the settings: each may count towards lockout

	// owner tells this identity's tickets from all others in the cache. It changes
	// only when a credential cache changes hands.
	owner   atomic.Pointer[string]
	client  atomic.Pointer[knownClient] // whose ticket was won last
	watched atomic.Int64                // when the credential cache was last looked at, in nanoseconds since 1970
}

// NewIdentity returns an identity. It reads the secret, to fail early, and talks
// to nobody.
func NewIdentity(cfg IdentityConfig) (*Identity, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	clock := krb5core.NewClock(cfg.Now)
	id := &Identity{
		cfg:     cfg,
		clock:   clock,
		breaker: breaker{now: cfg.Now},
		logins:  make(chan struct{}, 1),
	}
	if cfg.Secret.Kind == KindCCache {
		id.origin = &credentialCache{path: cfg.Secret.Path, clock: clock, observe: cfg.Observe}
	} else {
		id.origin = &keyring{name: cfg.Principal, secret: cfg.Secret, clock: clock, observe: cfg.Observe}
	}
	if _, err := id.origin.reload(); err != nil {
		return nil, err
	}
	id.own()
	return id, nil
}

// Principal is the account as the configuration or the credential cache names it.
func (id *Identity) Principal() messages.Principal { return id.origin.principal() }

// String is the principal.
func (id *Identity) String() string { return id.Principal().String() }

// Format keeps %+v and the like from showing what is inside.
func (id *Identity) Format(s fmt.State, _ rune) { fmt.Fprint(s, id.String()) }

// own sets whose tickets are looked for in the cache.
func (id *Identity) own() {
	owner := id.cfg.Key
	if id.cfg.Secret.Kind == KindCCache {
		owner += " " + id.origin.principal().String()
	}
	id.owner.Store(&owner)
}

// watch looks, once a second, whether the credential cache has changed hands:
// tickets of the principal before must not be used any more. Keys need no such
// care, they are looked at when they are used.
func (id *Identity) watch() {
	if id.cfg.Secret.Kind != KindCCache {
		return
	}
	now, last := id.cfg.Now().UnixNano(), id.watched.Load()
	if now-last < int64(time.Second) && now >= last || !id.watched.CompareAndSwap(last, now) {
		return
	}
	id.reload()
}

// reload reads the file again if it has changed.
func (id *Identity) reload() {
	changed, err := id.origin.reload()
	if err != nil || !changed {
		return
	}
	id.breaker.reset()
	before := *id.owner.Load()
	id.own()
	// What the new file holds counts, also where the principal is the same.
	id.cfg.Tickets.Drop(func(k cache.Key) bool { return k.Identity == before && (before != *id.owner.Load() || k.SPN == tgtSPN) })
}

// Target is what a request is to be authenticated to, and for whom.
type Target struct {
	SPN SPN
	// User is whom we act for; the zero User is ourselves.
	User User
}

func (id *Identity) key(s *Settings, t *Target) cache.Key {
	return cache.Key{Identity: *id.owner.Load(), User: t.User.key, Realm: t.SPN.principal.Realm, SPN: t.SPN.text, ETypes: s.etypes}
}

// tgtKey is that of the ticket-granting ticket. Its SPN cannot be a service's, for want
// of a host.
func (id *Identity) tgtKey(s *Settings) cache.Key {
	return cache.Key{Identity: *id.owner.Load(), Realm: id.Principal().Realm, SPN: tgtSPN, ETypes: s.etypes}
}

const tgtSPN = "krbtgt"

// Ticket gives the ticket for the target: at once if one is held, even if no KDC
// can be reached, else as soon as one was won.
func (id *Identity) Ticket(ctx context.Context, s *Settings, t *Target) (*Ticket, cache.Source, error) {
	id.watch()
	for again := true; ; again = false {
		key := id.key(s, t)
		if ticket, ok := id.cfg.Tickets.Get(key); ok {
			return ticket, cache.Cached, nil
		}
		ticket, source, err := id.cfg.Tickets.Fetch(ctx, key, id.policy(key, s, t))
		if !again || !errors.Is(err, errChangedHands) {
			return ticket, source, err
		}
	}
}

// errChangedHands is for what was won with a credential cache that belongs to
// somebody else now, or since it was looked for: it must not be kept as the
// other's.
var errChangedHands = errors.New("the credential cache has changed hands meanwhile")

// owned makes sure that what is fetched for the key is of whom it names.
func (id *Identity) owned(key cache.Key, fetch func(context.Context) (*Ticket, error)) func(context.Context) (*Ticket, error) {
	return func(ctx context.Context) (*Ticket, error) {
		ticket, err := fetch(ctx)
		if key.Identity != *id.owner.Load() {
			return nil, passing(errChangedHands)
		}
		return ticket, err
	}
}

// Successor gives a ticket other than the held one, which the service refused.
// The held one serves others until then. How often that may be is bounded, for
// anybody can make a service refuse (cache.ErrRationed).
func (id *Identity) Successor(ctx context.Context, s *Settings, t *Target, held *Ticket) (*Ticket, cache.Source, error) {
	key := id.key(s, t)
	return id.cfg.Tickets.Successor(ctx, key, held, id.policy(key, s, t))
}

// Confirm tells that the service accepted the ticket.
func (id *Identity) Confirm(s *Settings, t *Target, ticket *Ticket) {
	id.cfg.Tickets.Confirm(id.key(s, t), ticket)
}

func (id *Identity) policy(key cache.Key, s *Settings, t *Target) cache.Policy[*Ticket] {
	target := *t
	return cache.Policy[*Ticket]{
		Timeout: s.Client.Timeout(),
		Fetch:   id.owned(key, func(ctx context.Context) (*Ticket, error) { return id.fetch(ctx, s, &target) }),
	}
}

// Login gets the ticket-granting ticket, if none is held.
func (id *Identity) Login(ctx context.Context, s *Settings) (*Ticket, error) {
	key := id.tgtKey(s)
	if tgt, ok := id.cfg.Tickets.Get(key); ok {
		return tgt, nil
	}
	tgt, _, err := id.cfg.Tickets.Fetch(ctx, key, id.loginPolicy(key, s))
	return tgt, err
}

func (id *Identity) loginPolicy(key cache.Key, s *Settings) cache.Policy[*Ticket] {
	return cache.Policy[*Ticket]{
		Timeout: s.Client.Timeout(),
		Fetch:   id.owned(key, func(ctx context.Context) (*Ticket, error) { return id.login(ctx, s) }),
	}
}

// fetch wins a service ticket.
func (id *Identity) fetch(ctx context.Context, s *Settings, t *Target) (*Ticket, error) {
	begin := id.cfg.Now()
	if t.User.IsZero() {
		if cred := id.origin.held(s, t.SPN); cred != nil {
			return id.ticket(cred)
		}
	}
	cred, err := id.byTGT(ctx, s, func(tgt *Ticket) (*messages.Credential, error) { return id.ask(ctx, s, t, tgt) })
	switch {
	case Remembered(err):
		return nil, err // where it occurred, which has told of it
	case err != nil:
		err = remembered(err, id.cfg.Now)
		id.cfg.Observe(TicketFailed{Principal: id.Principal(), SPN: t.SPN, Err: err})
		return nil, err
	}
	id.cfg.Observe(TicketWon{Credential: cred, Took: id.cfg.Now().Sub(begin)})
	return id.ticket(cred)
}

// byTGT asks for a ticket by the ticket-granting ticket, and once more by a new one
// if the KDC does not take that: its own key has changed, or it lost its memory.
func (id *Identity) byTGT(ctx context.Context, s *Settings, ask func(tgt *Ticket) (*messages.Credential, error)) (*messages.Credential, error) {
	tgt, err := id.Login(ctx, s)
	if err != nil {
		return nil, passing(err)
	}
	key := id.tgtKey(s)
	if old, ok := id.cfg.Tickets.Refreshing(ctx); ok && !old.End().Before(tgt.End()) && !tgt.Start().After(old.Start()) {
		// What is won by this one would end when the old ticket does. (One that came since,
		// and lasts no longer, has shown that there is none that does.)
		if tgt, err = id.cfg.Tickets.Renew(ctx, key, tgt, id.loginPolicy(key, s)); err != nil {
			return nil, passing(err)
		}
	} else {
		tgt = id.newest(ctx, s, key, tgt)
	}
	cred, err := ask(tgt)
	if !tgtRefused(err) {
		return cred, err
	}
	if tgt, _, err = id.cfg.Tickets.Successor(ctx, key, tgt, id.loginPolicy(key, s)); err != nil {
		return nil, err
	}
	return ask(tgt)
}

// newest waits for the successor of a ticket-granting ticket, if it is on its
// way: what is won by the old one ends with it, and soon has to be won again, when
// perhaps no KDC can be reached.
func (id *Identity) newest(ctx context.Context, s *Settings, key cache.Key, held *Ticket) *Ticket {
	ctx, cancel := context.WithTimeout(ctx, s.Client.Timeout()/2)
	defer cancel()
	if tgt, ok := id.cfg.Tickets.Settled(ctx, key); ok {
		return tgt
	}
	return held
}

// ask asks for a service ticket, for us or for a user.
func (id *Identity) ask(ctx context.Context, s *Settings, t *Target, tgt *Ticket) (*messages.Credential, error) {
	if t.User.IsZero() {
		return s.Client.ServiceTicket(ctx, id.origin.account(), tgt.cred, t.SPN.principal)
	}
	return id.askOnBehalf(ctx, s, t, tgt)
}

// ticket makes of a credential what the cache holds.
func (id *Identity) ticket(cred *messages.Credential) (*Ticket, error) {
	realm := cred.Service.Realm
	stamps, ok := id.stamps.Load(realm)
	if !ok {
		fresh, err := gss.NewClock(gss.ClockConfig{
			Now:    id.cfg.Now,
			Offset: func() time.Duration { return id.clock.Offset(realm) },
		})
		if err != nil {
			return nil, err
		}
		stamps, _ = id.stamps.LoadOrStore(realm, fresh)
	}
	return newTicket(cred, id.clientOf(cred), stamps.(*gss.Clock), id.cfg.Now(), id.clock.Offset(realm)), nil
}

// clientOf gives the client's name in a form that our own tickets share.
func (id *Identity) clientOf(cred *messages.Credential) *knownClient {
	known := id.client.Load()
	if known == nil || !known.principal.Equal(cred.Client) || known.principal.Name.NameType != cred.Client.Name.NameType {
		known = &knownClient{cred.Client, cred.Client.String()}
		id.client.Store(known)
	}
	return known
}

// tgtRefused tells whether the KDC refused the ticket-granting ticket rather
// than the service.
func tgtRefused(err error) bool {
	code, ok := krb5core.Code(err)
	if !ok {
		return false
	}
	switch code {
	case messages.KRB_AP_ERR_BAD_INTEGRITY, messages.KRB_AP_ERR_TKT_EXPIRED, messages.KRB_AP_ERR_MODIFIED,
		messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KDC_ERR_TGT_REVOKED, messages.KDC_ERR_NEVER_VALID:
		return true
	}
	return false
}

// login wins a ticket-granting ticket.
func (id *Identity) login(ctx context.Context, s *Settings) (*Ticket, error) {
	select {
	case id.logins <- struct{}{}:
		defer func() { <-id.logins }()
	case <-ctx.Done():
		return nil, remembered(fmt.Errorf("waiting for another login of %s to end: %w", id.Principal(), ctx.Err()), id.cfg.Now)
	}
	changed, err := id.origin.reload()
	if err != nil {
		return nil, err
	}
	if changed {
		id.breaker.reset()
		id.own()
	}
	if err := id.breaker.allow(); err != nil {
		return nil, err
	}
	begin := id.cfg.Now()
	cred, err := id.origin.tgt(ctx, s, id.breaker.left())
	if err != nil {
		answer, opened := id.breaker.record(err)
		event := LoginFailed{Principal: id.Principal(), Err: err}
		if state := id.breaker.state(); opened && state != nil {
			event.Opened = state.Until
		}
		id.cfg.Observe(event)
		return nil, remembered(answer, id.cfg.Now)
	}
	id.breaker.reset()
	id.cfg.Observe(LoggedIn{Credential: cred, Took: id.cfg.Now().Sub(begin)})
	return id.ticket(cred)
}

// Flush forgets all tickets of the identity, closes its breaker, and tells how
// many tickets there were.
func (id *Identity) Flush() int {
	id.breaker.reset()
	id.origin.forget()
	return id.cfg.Tickets.Flush(func(k cache.Key) bool { return k.Identity == *id.owner.Load() })
}

// Close forgets the tickets. Requests that hold one go on with it.
func (id *Identity) Close() {
	id.cfg.Tickets.Drop(func(k cache.Key) bool { return k.Identity == *id.owner.Load() })
}

// Refused is the error with which everything is answered while our credentials
// are refused, else nil.
func (id *Identity) Refused() *RefusedError { return id.breaker.state() }
