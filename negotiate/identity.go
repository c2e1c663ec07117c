package negotiate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// Tickets is the cache that the identities of a process share.
type Tickets = cache.Cache[*Ticket]

// IdentityConfig configures an Identity.
type IdentityConfig struct {
	// Key tells this identity from all others in Tickets.
	Key string
	// Principal is the account as the configuration names it.
	Principal messages.Principal
	// Secret is where its keys come from.
	Secret Secret
	// Tickets holds the tickets.
	Tickets *Tickets
	// Breakers returns where the breaker's state is kept beyond the process; nil for nowhere.
	// It may be nil.
	Breakers func() BreakerStore
	// Next returns a password that may have become the account's, as another process says; empty for
	// none. It is called before each login, and may be nil.
	Next func(context.Context) string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Observe is called with events; it may be nil. It must not block.
	Observe func(Event)
}

// An Identity is an account at run time: its keys, its tickets, its breaker,
// its clock. It outlives the blocks of configuration that use it, one after the other,
// and is safe for concurrent use.
type Identity struct {
	cfg      IdentityConfig
	clock    *krb5core.Clock
	source   ticketSource
	platform *platformTickets // the source, if it is the operating system
	breaker  breaker
	kept     *keptBreaker
	unknown  *unknownServices
	logins   chan struct{} // one at a time, whatever the settings: each may count towards lockout

	// owner changes only when a credential cache that is not pinned gets another principal, or
	// the process another account.
	owner   atomic.Pointer[owner]
	client  atomic.Pointer[knownClient]        // of the ticket obtained last
	proven  atomic.Pointer[messages.Principal] // the account's name in a ticket request that succeeded
	watched atomic.Int64                       // when the credential cache is checked next, in nanoseconds since 1970
	pause   atomic.Int64                       // until then, in nanoseconds

	mu        sync.Mutex
	stamps    map[string]*gss.Clock     // by realm, at most maxStamps
	acceptors map[string]*acceptorClock // by service, at most maxStamps
	corrected messages.Principal        // the name that was reported last
}

// owner is who an identity's tickets belong to.
type owner struct {
	key       string // tells this identity's tickets from all others in the cache
	principal messages.Principal
}

// maxStamps bounds the clocks that an identity keeps, because a trusted realm's KDC may name any
// realm in its tickets, and clients may choose services.
const maxStamps = 256

// ticketSource is where an identity's tickets come from: a login with keys ([keyring],
// [managedCertificate]), a credential cache that another program fills ([credentialCache]), or
// the operating system ([platformTickets]).
type ticketSource interface {
	// reload reads the file or the cache again if it has changed, and reports whether it
	// had. One that cannot be read leaves what is held in use.
	reload(ctx context.Context) (changed bool, err error)
	// principal is the client of the tickets, as far as known without a KDC.
	principal() messages.Principal
	// owner tells the accounts apart that a source may have one after the other; empty if it
	// always has the same.
	owner() string
	// account is the account to request further tickets as.
	account() *krb5core.Account
	// tgt gets a ticket-granting ticket within the budget. It is not called twice at a
	// time.
	tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error)
	// held returns a service ticket that is there without a request, nil if there is none.
	held(s *Settings, spn SPN) *messages.Credential
	// forget lets everything be tried again.
	forget()
}

// NewIdentity returns an identity. It reads the secret, to fail early, and contacts no
// KDC.
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
		unknown: newUnknownServices(cfg.Now),
		logins:  make(chan struct{}, 1),
		stamps:  make(map[string]*gss.Clock),

		acceptors: make(map[string]*acceptorClock),
	}
	late := false
	if cfg.Secret.Kind == KindCCache {
		id.source, late = newCredentialCache(&cfg, clock), cfg.Secret.ccache.Late()
	} else if cfg.Secret.Kind == KindPlatform {
		id.platform = newPlatformTickets(&cfg, clock)
		id.source, late = id.platform, true
	} else if cfg.Secret.managed {
		id.source = newManagedCertificate(&cfg, clock)
	} else if cfg.Secret.Kind == KindGMSA {
		id.source = newManagedPassword(&cfg, clock, id.breaker.reset)
	} else {
		file := watchedFile{path: cfg.Secret.Path, more: cfg.Secret.more, observe: cfg.Observe}
		if cfg.Secret.Path != "" {
			file.more = append(slices.Clone(file.more), candidate.Path(cfg.Secret.Path))
		}
		id.source = &keyring{name: cfg.Principal, secret: cfg.Secret, file: file, clock: clock}
	}
	if _, err := id.source.reload(context.Background()); err != nil && !late {
		return nil, err
	}
	id.kept = newKeptBreaker(cfg.Breakers, &id.breaker, id.source)
	id.updateOwner()
	return id, nil
}

// Configured is the account as the configuration or the credential cache names it.
func (id *Identity) Configured() messages.Principal { return id.source.principal() }

// Principal is the account as its KDC names it, once a ticket request with that name has
// succeeded, until then as configured: in the reply to a login the name is not
// authenticated.
func (id *Identity) Principal() messages.Principal {
	if proven := id.proven.Load(); proven != nil {
		return *proven
	}
	return id.Configured()
}

func (id *Identity) String() string { return id.Principal().String() }

// prove records the client of a ticket-granting ticket that a KDC has accepted. A name that
// is not the configured one is reported once.
func (id *Identity) prove(client messages.Principal) {
	if id.cfg.Secret.follows() || client.Equal(id.Principal()) {
		return
	}
	id.proven.Store(&client)
	id.mu.Lock()
	again := client.Equal(id.Configured()) || client.Equal(id.corrected)
	if !again {
		id.corrected = client
	}
	id.mu.Unlock()
	if !again {
		id.cfg.Observe(NameCorrected{Configured: id.Configured(), Principal: client})
	}
}

// Format keeps %+v and the like from showing secrets.
func (id *Identity) Format(s fmt.State, _ rune) { fmt.Fprint(s, id.String()) }

// updateOwner sets whose tickets are looked up in the cache.
func (id *Identity) updateOwner() {
	o := owner{key: id.cfg.Key, principal: id.source.principal()}
	if who := id.source.owner(); who != "" {
		o.key += " " + who
	}
	id.owner.Store(&o)
}

// How often a source of tickets is checked, and how long a request that does so may wait for
// what fills it. After a failure the pause doubles up to the longest.
const (
	watchPause   = time.Second
	watchLongest = 8 * time.Second
	watchTimeout = time.Second
)

// watch checks, from time to time, whether the credential cache or the process has another
// principal: tickets of the previous one must not be used any more. Keys need no such check,
// they are read again when they are used.
func (id *Identity) watch() {
	if !id.cfg.Secret.follows() {
		return
	}
	now, next := id.cfg.Now(), id.watched.Load()
	// A clock that was set back must not keep it from being checked.
	due := now.UnixNano() >= next || next-now.UnixNano() > int64(watchLongest)
	if !due || !id.watched.CompareAndSwap(next, now.Add(watchLongest).UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	pause := watchPause
	if err := id.reload(ctx); err != nil {
		pause = min(2*max(time.Duration(id.pause.Load()), watchPause), watchLongest)
	}
	id.pause.Store(int64(pause))
	id.watched.Store(now.Add(pause).UnixNano())
}

func (id *Identity) reload(ctx context.Context) error {
	changed, err := id.source.reload(ctx)
	if err != nil || !changed {
		return err
	}
	id.breaker.reset()
	before := id.owner.Load().key
	id.updateOwner()
	// The ticket-granting ticket of the new file is used, also for the same principal.
	id.cfg.Tickets.Drop(func(k cache.Key) bool {
		return k.Identity == before && (before != id.owner.Load().key || k.SPN == tgtSPN)
	})
	return nil
}

// KeyAccounts reads the secret again if it has changed, and returns the accounts whose keys open
// tickets to the identity, that with the newest ones first. While the secret does not change they
// are the same again. There are none for a secret without keys: a credential cache, a certificate.
func (id *Identity) KeyAccounts(ctx context.Context) []*krb5core.Account {
	source, ok := id.source.(interface{ keyAccounts() []*krb5core.Account })
	if !ok || id.cfg.Secret.certificate != nil {
		return nil
	}
	_ = id.reload(ctx) // what was read before stays in use, and the failure is reported
	return source.keyAccounts()
}

// Flush removes all tickets of the identity and closes its breaker. It returns how many
// tickets there were.
func (id *Identity) Flush() int {
	if refused := id.breaker.state(); refused != nil && refused.by != nil {
		refused.by.reset() // it may be that of the armor's account
	}
	id.breaker.reset()
	id.kept.flush()
	id.source.forget()
	return id.FlushTickets(func(cache.Key) bool { return true })
}

// FlushTickets removes the identity's tickets whose key matches, and returns how many there
// were. The operating system forgets its own, too.
func (id *Identity) FlushTickets(match func(cache.Key) bool) int {
	if id.platform != nil {
		for _, item := range id.cfg.Tickets.Snapshot(func(k cache.Key) bool { return id.Owns(k) && match(k) }) {
			_ = id.platform.purge(item.Value.platform.spn) // it reports the error
		}
	}
	return id.cfg.Tickets.Flush(id.owner.Load().key, match)
}

// Close removes the tickets. Requests that hold one keep using it. It waits a moment for a login
// under way, so that its refused proofs are kept (IdentityConfig.Breakers).
func (id *Identity) Close() {
	if source, ok := id.source.(*managedPassword); ok {
		source.as.Close()
	}
	id.kept.settle()
	id.cfg.Tickets.Drop(id.Owns)
	if id.platform != nil {
		id.platform.platform.Close()
	}
}

// Refused returns the error that all requests get while the credentials are refused,
// else nil.
func (id *Identity) Refused() *RefusedError { return id.breaker.state() }

// ticket returns the ticket that the cache holds for a credential.
func (id *Identity) ticket(cred *messages.Credential) (*Ticket, error) {
	realm := cred.Service.Realm
	stamps, err := id.stampsOf(realm)
	if err != nil {
		return nil, err
	}
	t := newTicket(cred, id.clientOf(cred), stamps, id.cfg.Now(), id.clock.Offset(realm))
	t.acceptor = id.acceptorOf(cred.Service)
	return t, nil
}

// acceptorOf returns the clock that the tickets for a service share, nil beyond maxStamps.
func (id *Identity) acceptorOf(service messages.Principal) *acceptorClock {
	name := service.String()
	id.mu.Lock()
	defer id.mu.Unlock()
	clock, ok := id.acceptors[name]
	if !ok && len(id.acceptors) < maxStamps {
		clock = new(acceptorClock)
		id.acceptors[name] = clock
	}
	return clock
}

// stampsOf returns the clock that the realm's tickets share. Beyond maxStamps each ticket has a
// clock of its own.
func (id *Identity) stampsOf(realm string) (*gss.Clock, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if stamps, ok := id.stamps[realm]; ok {
		return stamps, nil
	}
	stamps, err := gss.NewClock(gss.ClockConfig{
		Now:    id.cfg.Now,
		Offset: func() time.Duration { return id.clock.Offset(realm) },
	})
	if err == nil && len(id.stamps) < maxStamps {
		id.stamps[realm] = stamps
	}
	return stamps, err
}

// clientOf returns the client's name in a form that the identity's own tickets share.
func (id *Identity) clientOf(cred *messages.Credential) *knownClient {
	known := id.client.Load()
	if known == nil || !known.principal.Equal(cred.Client) || known.principal.Name.NameType != cred.Client.Name.NameType {
		known = &knownClient{cred.Client, cred.Client.String()}
		id.client.Store(known)
	}
	return known
}
