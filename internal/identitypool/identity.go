package identitypool

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/logging"
	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/internal/rotation"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Ref is a reference of one block of the configuration to an identity, with the settings
// of the block. It is safe for concurrent use.
type Ref struct {
	pool      *Pool
	identity  *Identity
	resolved  *config.Resolved
	initiator *negotiate.Initiator
	kdc       *metrics.KDC
	reader    *Ref // of the account that reads the password; nil without one
	released  atomic.Bool
}

// Open returns a reference to the identity of the credentials, which it creates unless
// another block has it. name is the identity's in the configuration; if it is empty, the
// principal takes its place. logger is for requests to KDCs. No KDC is asked.
func (p *Pool) Open(resolved *config.Resolved, name string, logger *zap.Logger) (*Ref, error) {
	realm := resolved.Principal.Realm
	kdcs := metrics.NewKDC(realm, resolved.Realms.Named(realm, resolved.Servers))
	tracer, err := logging.NewTracer(logging.TracerConfig{Logger: logger, Metrics: kdcs, Trace: resolved.Trace, Packets: resolved.TracePackets})
	if err != nil {
		return nil, &config.SettingError{Setting: "trace", Err: err}
	}
	client, err := resolved.NewClient(tracer, p.health)
	if err != nil {
		return nil, err
	}
	value, _, err := p.identities.LoadOrNew(resolved.PoolKey, func() (caddy.Destructor, error) {
		var err error
		id := &Identity{accepting: newAccepting()}
		cfg := negotiate.IdentityConfig{
			Key: resolved.PoolKey, Principal: resolved.Principal, Secret: resolved.Secret, Tickets: p.tickets, Breakers: p.breakers,
			Observe: id.observe(logging.Events(resolved.Principal)),
		}
		if resolved.Secret.RotateEvery > 0 {
			id.rotation = rotation.New(rotation.Config{Principal: resolved.Principal, Secret: resolved.Secret, Store: p.passwords, Logger: logging.Logger})
			cfg.Next = id.rotation.Next
		}
		id.Identity, err = negotiate.NewIdentity(cfg)
		return id, err
	})
	if err != nil {
		return nil, err
	}
	if resolved.Missing != nil {
		logger.Warn("credential cache cannot be used yet: requests fail until it is filled", zap.Error(resolved.Missing))
	}
	r := &Ref{pool: p, identity: value.(*Identity), resolved: resolved, kdc: kdcs}
	settings := negotiate.NewSettings(cmp.Or(name, resolved.Title()), client)
	if resolved.Reader != nil {
		if r.reader, err = p.Open(resolved.Reader, "", logger); err != nil {
			_, _ = p.identities.Delete(resolved.PoolKey)
			return nil, err
		}
		settings.Passwords = &negotiate.PasswordReader{Reader: r.reader.initiator, Directory: resolved.Directory}
	}
	r.initiator = r.identity.Initiator(settings)
	r.identity.replace(nil, r)
	return r, nil
}

// Share returns another reference to the identity with the same settings.
func (r *Ref) Share() *Ref {
	// The pool has the key, because r is a reference.
	r.pool.identities.LoadOrStore(r.resolved.PoolKey, r.identity)
	other := &Ref{pool: r.pool, identity: r.identity, resolved: r.resolved, initiator: r.initiator, kdc: r.kdc}
	if r.reader != nil {
		other.reader = r.reader.Share()
	}
	r.identity.replace(nil, other)
	return other
}

// Release gives the reference back. It may be called more than once, and on nil.
func (r *Ref) Release() {
	if r != nil && r.released.CompareAndSwap(false, true) {
		r.identity.replace(r)
		_, _ = r.pool.identities.Delete(r.resolved.PoolKey)
		r.reader.Release()
	}
}

// Initiator gets tickets with the settings of the block.
func (r *Ref) Initiator() *negotiate.Initiator { return r.initiator }

// Resolved are the credentials of the block.
func (r *Ref) Resolved() *config.Resolved { return r.resolved }

// Realms has the settings of realms that the block uses.
func (r *Ref) Realms() *config.RealmConfig { return r.resolved.Realms }

// Requests are the counters of the identity. They change with its names: callers ask for
// them for each request.
func (r *Ref) Requests() *metrics.Requests { return r.identity.requests.Load() }

// LoginAtStart logs in, in the background, unless the block says not to.
func (r *Ref) LoginAtStart(ctx context.Context) {
	if !r.resolved.LoginAtStart {
		return
	}
	r.identity.asked.Store(true)
	go func() { _, _ = r.initiator.Login(ctx) }() // the identity's observer logs the result
}

// Rotate changes the account's password in the background, whenever it is due, until ctx ends; if the
// block says so.
func (r *Ref) Rotate(ctx context.Context) {
	if rotation := r.identity.rotation; rotation != nil {
		go rotation.Run(ctx, r.initiator)
	}
}

// Identity is an identity in the pool, with the names that the configuration has for it.
type Identity struct {
	*negotiate.Identity

	// rotation changes its password; nil for one that is not changed.
	rotation *rotation.Rotation
	// requests counts under the first of the names. It is read for every request.
	requests atomic.Pointer[metrics.Requests]
	// asked reports whether a login has begun at start or has ended; tried, whether one has
	// ended, successful or not.
	asked, tried atomic.Bool
	// lastEnd is when the last ticket-granting ticket ends; nil if there was none.
	lastEnd atomic.Pointer[time.Time]

	accepting accepting

	mu       sync.Mutex
	refs     []*Ref    // by name
	failures []Failure // the newest first
}

// Failure is a login, or a request for a service's ticket, that failed.
type Failure struct {
	Time time.Time
	SPN  string // empty for a login
	Err  error
}

// maxFailures is how many failures are kept: clients choose services.
const maxFailures = 10

// Flush removes all tickets of the identity, closes its breaker, and drops the keys that were
// replaced. It returns how many tickets there were.
func (id *Identity) Flush() int {
	id.accepting.ring.Forget()
	return id.Identity.Flush()
}

// Destruct drops the tickets when the last reference is released.
func (id *Identity) Destruct() error {
	id.Close()
	return nil
}

// observe returns an observer that notes what gauges and the admin endpoint show, and calls next.
func (id *Identity) observe(next func(negotiate.Event)) func(negotiate.Event) {
	return func(e negotiate.Event) {
		switch e := e.(type) {
		case negotiate.LoggedIn:
			id.asked.Store(true)
			id.tried.Store(true)
			end := e.Credential.EndTime
			id.lastEnd.Store(&end)
			id.noteFailure("", nil)
		case negotiate.LoginFailed:
			id.asked.Store(true)
			id.tried.Store(true)
			id.noteFailure("", e.Err)
		case negotiate.GotTicket:
			id.noteFailure(e.Credential.Service.Name.String(), nil)
		case negotiate.TicketFailed:
			id.noteFailure(e.SPN.String(), e.Err)
		}
		next(e)
	}
}

// noteFailure notes that a login (without spn) or a request for a service's ticket failed, or with
// nil that it succeeded.
func (id *Identity) noteFailure(spn string, err error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.failures = slices.DeleteFunc(id.failures, func(f Failure) bool { return strings.EqualFold(f.SPN, spn) })
	if err != nil {
		id.failures = slices.Insert(id.failures, 0, Failure{time.Now(), spn, err})
		id.failures = id.failures[:min(len(id.failures), maxFailures)]
	}
}

// Failures are the last logins and requests for tickets that failed and have not succeeded since,
// the newest first.
func (id *Identity) Failures() []Failure {
	id.mu.Lock()
	defer id.mu.Unlock()
	return slices.Clone(id.failures)
}

// Asked reports whether the identity has asked for a ticket-granting ticket, or is asking for one
// since the start.
func (id *Identity) Asked() bool { return id.asked.Load() }

// LoginAgain has an identity that has asked for a ticket-granting ticket log in again, in the
// background, as a request would: not while a ticket is held that is not near its end, or the
// breaker is open.
func (id *Identity) LoginAgain() {
	if !id.Asked() {
		return
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	begun := make(map[*negotiate.Initiator]bool) // references may share one
	for _, r := range id.refs {
		if !begun[r.initiator] {
			begun[r.initiator] = true
			go func() { _, _ = r.initiator.Login(context.Background()) }()
		}
	}
}

// replace removes a reference or adds new ones. It sorts them by their names, and has requests
// counted under the first.
func (id *Identity) replace(old *Ref, by ...*Ref) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.refs = append(slices.DeleteFunc(id.refs, func(r *Ref) bool { return r == old }), by...)
	slices.SortFunc(id.refs, func(a, b *Ref) int { return cmp.Compare(a.initiator.Name(), b.initiator.Name()) })
	if len(id.refs) > 0 {
		id.requests.Store(metrics.NewRequests(id.refs[0].initiator.Name()))
	}
}

// Names are the names that the configuration has for the identity, in order.
func (id *Identity) Names() []string {
	id.mu.Lock()
	defer id.mu.Unlock()
	names := make([]string, 0, len(id.refs))
	for _, r := range id.refs {
		names = append(names, r.initiator.Name())
	}
	return slices.Compact(names)
}

// Name is the first of the names.
func (id *Identity) Name() string {
	if names := id.Names(); len(names) > 0 {
		return names[0]
	}
	return id.Configured().String()
}

// Servers are the KDCs that the configuration names for the identity's realm, and those
// that were asked since it was loaded.
func (id *Identity) Servers() []kdc.Server {
	id.mu.Lock()
	defer id.mu.Unlock()
	var all []kdc.Server
	for _, r := range id.refs {
		for _, s := range r.kdc.Servers() {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// Select returns the tickets that are the identity's.
func (id *Identity) Select(items []Item) []Item {
	var own []Item
	for _, item := range items {
		if id.Owns(item.Key) {
			own = append(own, item)
		}
	}
	return own
}

// reading returns what the gauges show. It returns false for an identity that has neither
// tried to log in nor got tickets in another way.
func (id *Identity) reading(all []Item) (metrics.Reading, bool) {
	own := id.Select(all)
	requests := id.requests.Load()
	if requests == nil || !id.tried.Load() && len(own) == 0 {
		return metrics.Reading{}, false
	}
	changed, _ := id.SecretTimes()
	return metrics.Reading{
		Identity: requests.Identity(), Tickets: len(own), TGTEnd: id.tgtEnd(own), Refused: id.Refused() != nil, Offsets: id.labelledOffsets(),
		SecretChanged: changed,
	}, true
}

// tgtEnd is when the ticket-granting ticket ends: the first of those that are held, else
// the last that was.
func (id *Identity) tgtEnd(own []Item) (end time.Time) {
	for _, item := range own {
		if negotiate.IsTGT(item.Key) && (end.IsZero() || item.Value.End().Before(end)) {
			end = item.Value.End()
		}
	}
	if last := id.lastEnd.Load(); end.IsZero() && last != nil {
		end = *last
	}
	return end
}

// labelledOffsets are the clock offsets by the realms' labels, of several the largest. The
// own realm has one from the first login on, zero if the clocks agree.
func (id *Identity) labelledOffsets() map[string]time.Duration {
	offsets := map[string]time.Duration{id.Configured().Realm: 0}
	maps.Copy(offsets, id.Offsets())
	labelled := make(map[string]time.Duration)
	for realm, offset := range offsets {
		label := id.realmLabel(realm)
		if before, ok := labelled[label]; !ok || offset.Abs() > before.Abs() {
			labelled[label] = offset
		}
	}
	return labelled
}

// realmLabel is the realm's name if the configuration names it.
func (id *Identity) realmLabel(realm string) string {
	id.mu.Lock()
	defer id.mu.Unlock()
	for _, r := range id.refs {
		if label := r.kdc.Realm(realm); label != metrics.Other {
			return label
		}
	}
	return metrics.Other
}
