package negotiate_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// kinit logs a user in and replaces the credential cache of the world's folder by one with their
// ticket-granting ticket.
func (w *world) kinit(user, password string) (path string, tgt *messages.Credential) {
	w.T.Helper()
	principal := must.OK(krb5core.ParseUser(user+"@"+realmName, krb5core.UserForm{}))(w.T)
	keys := krb5core.PasswordKeys(func() (string, error) { return password, nil })
	account := krb5core.NewAccount(principal, keys, krb5core.NewClock(w.Clock.Now))
	tgt = must.OK(w.settings.Client.Login(w.T.Context(), account, nil))(w.T)
	return w.write("ccache", must.OK(cacheOf(tgt).Marshal())(w.T)), tgt
}

func cacheOf(tgt *messages.Credential) *ccache.CCache {
	return &ccache.CCache{DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{*tgt}}
}

// daemon is a cache that is not a file. Its fields are set between requests.
type daemon struct {
	cache *ccache.CCache
	err   error
	hangs bool          // a reading ends with its context
	reads atomic.Int32  // how often it was read
	limit time.Duration // that the last reading had
}

func (d *daemon) String() string { return "KCM:" }
func (d *daemon) Late() bool     { return true }

func (d *daemon) Read(ctx context.Context, _ messages.Principal) (*ccache.CCache, error) {
	d.reads.Add(1)
	if d.hangs {
		d.limit = 0
		if end, ok := ctx.Deadline(); ok {
			d.limit = time.Until(end)
		}
		return nil, context.DeadlineExceeded
	}
	return d.cache, d.err
}

// A cache that is filled after the start: until then requests fail, the cache is looked at again
// after 1 to 10 seconds, and the breaker stays closed.
func TestCCache_FilledLater(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	_, tgt := w.kinit("svc-proxy", "right")
	d := &daemon{err: ccache.ErrEmpty}
	id := w.Identity(negotiate.CCacheSecret(d))
	initiator := id.Initiator(w.settings)
	var pauses []time.Duration
	for range 6 {
		_, _, err := serviceTicket(t, initiator, &w.target)
		if !errors.Is(err, negotiate.ErrCCache) || !errors.Is(err, ccache.ErrEmpty) {
			t.Fatal(err)
		}
		pause := negotiate.RetryAfter(err, w.Clock.Now())
		pauses = append(pauses, pause)
		w.Clock.Advance(pause + time.Second/10)
	}
	second := time.Second
	if want := []time.Duration{second, 2 * second, 4 * second, 8 * second, 10 * second, 10 * second}; !slices.Equal(pauses, want) {
		t.Errorf("looked for again after %v, want %v", pauses, want)
	}
	if refused := id.Refused(); refused != nil {
		t.Error(refused)
	}
	d.cache, d.err = cacheOf(tgt), nil
	ticket, _, err := serviceTicket(t, initiator, &w.target)
	if err != nil || ticket.Client() != w.Principal().String() || !id.Principal().Equal(w.Principal()) {
		t.Errorf("%v of %s, %v", ticket, id, err)
	}
}

// What was read stays in use while the cache cannot be read, or is empty for a moment.
func TestCCache_Unreadable(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	_, tgt := w.kinit("svc-proxy", "right")
	d := &daemon{cache: cacheOf(tgt)}
	initiator := w.Identity(negotiate.CCacheSecret(d)).Initiator(w.settings)
	for name, broken := range map[string]*daemon{
		"ended": {err: errors.New("connection refused")}, "emptied": {err: ccache.ErrEmpty},
		"between INITIALIZE and STORE": {cache: &ccache.CCache{DefaultPrincipal: tgt.Client}},
	} {
		d.cache, d.err = broken.cache, broken.err
		before := seen[negotiate.SecretBroken](w)
		for range 20 {
			w.Clock.Advance(time.Second)
			_, _, err := serviceTicket(t, initiator, &w.target)
			must.Do(t, err)
			_ = must.OK(initiator.Login(t.Context()))(t)
		}
		if n := seen[negotiate.SecretBroken](w) - before; n != 1 {
			t.Errorf("%s: warned %d times, want once", name, n)
		}
		d.cache, d.err = cacheOf(tgt), nil
		w.Clock.Advance(10 * time.Second)
		_, _, err := serviceTicket(t, initiator, &w.target)
		must.Do(t, err)
	}
}

// A daemon that is silent delays a request by a second at most, and is asked less often.
func TestCCache_SilentDaemon(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	_, tgt := w.kinit("svc-proxy", "right")
	d := &daemon{cache: cacheOf(tgt)}
	initiator := w.Identity(negotiate.CCacheSecret(d)).Initiator(w.settings)
	_, _, err := serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	d.hangs = true
	d.reads.Store(0)
	for range 60 {
		w.Clock.Advance(time.Second)
		_, _, err := serviceTicket(t, initiator, &w.target)
		must.Do(t, err)
		if d.limit <= 0 || d.limit > time.Second {
			t.Fatalf("a request waits for %v", d.limit)
		}
	}
	if n := d.reads.Load(); n < 60/10 || n > 12 {
		t.Errorf("read %d times in a minute", n)
	}
}

// An identity with a configured user does not follow its credential cache to another principal.
func TestCCache_Pinned(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.Realm.AddUser("second", "another")
	path, _ := w.kinit("svc-proxy", "right")
	id := w.Identity(negotiate.PinnedCCacheSecret(ccache.File(path), w.Principal()))
	initiator := id.Initiator(w.settings)
	ticket, _, err := serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	for range 3 {
		w.kinit("second", "another")
		w.Clock.Advance(2 * time.Second)
		kept, _, err := serviceTicket(t, initiator, &w.target)
		must.Do(t, err)
		if kept != ticket || !id.Principal().Equal(w.Principal()) {
			t.Fatalf("a ticket of %s, the identity is %s", kept.Client(), id)
		}
		if tgt := must.OK(initiator.Login(t.Context()))(t); tgt.Client() != w.Principal().String() {
			t.Fatalf("a ticket-granting ticket of %s", tgt.Client())
		}
	}
	if n := seen[negotiate.SecretBroken](w); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
	w.Clock.Advance(time.Minute)
	_, fresh := w.kinit("svc-proxy", "right")
	w.Clock.Advance(2 * time.Second)
	_, _, err = serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	if tgt := must.OK(initiator.Login(t.Context()))(t); !tgt.Credential().EndTime.Equal(fresh.EndTime) {
		t.Error("the file of the configured principal is not taken again")
	}
	w.kinit("second", "another")
	w.Clock.Advance(2 * time.Second)
	_, _, err = serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	if n := seen[negotiate.SecretBroken](w); n != 2 {
		t.Errorf("warned %d times, want once each time that the principal changes", n)
	}
}

func TestCCache_PinnedToAnother(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	path, _ := w.kinit("svc-proxy", "right")
	other := must.OK(krb5core.ParseUser("second@"+realmName, krb5core.UserForm{}))(t)
	_, err := negotiate.NewIdentity(negotiate.IdentityConfig{Key: "ccache", Principal: other, Secret: negotiate.PinnedCCacheSecret(ccache.File(path), other)})
	if err == nil {
		t.Error("an identity of one principal with the credential cache of another")
	}
}
