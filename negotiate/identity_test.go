package negotiate_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const realmName = "CORP.EXAMPLE"

// handClock is a clock that stands until it is moved.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a KDC and one identity that it knows, on one clock.
type world struct {
	t        *testing.T
	clock    *handClock
	realm    *kdctest.Realm
	proxy    *kdctest.Principal
	web      *kdctest.Principal
	kdc      *kdctest.KDC
	tickets  *negotiate.Tickets
	settings *negotiate.Settings
	id       *negotiate.Identity
	folder   string
	target   negotiate.Target
	late     atomic.Bool // what comes into the cache is due to be refreshed late, at 85 % of its life rather than 70

	mu     sync.Mutex
	events []negotiate.Event
}

// newWorld makes one whose identity has the secret that is made of it.
func newWorld(t *testing.T, secret func(w *world, p messages.Principal) negotiate.Secret) *world {
	t.Helper()
	w := &world{t: t, clock: &handClock{now: time.Now().Truncate(time.Second)}, folder: t.TempDir()}
	w.realm = kdctest.NewRealm(realmName)
	w.proxy = w.realm.AddUser("svc-proxy", "right")
	w.web = w.realm.AddService("HTTP/web.corp.example")
	w.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{w.realm}, Now: w.clock.Now})
	if err := w.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kdc.Stop)
	w.tickets = cache.New[*negotiate.Ticket](cache.Config{Now: w.clock.Now, Rand: w.draw})
	t.Cleanup(w.tickets.Close)
	w.settings = w.ask(w.kdc.Addr())

	principal, err := krb5core.ParseUser("svc-proxy@"+realmName, krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	w.id, err = negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "proxy", Principal: principal, Secret: secret(w, principal), Tickets: w.tickets, Now: w.clock.Now, Observe: w.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.target.SPN, err = negotiate.ParseSPN("HTTP/web.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// draw is the chance in the cache.
func (w *world) draw() float64 {
	if w.late.Load() {
		return 0.999
	}
	return 0
}

// ask gives settings with these KDCs.
func (w *world) ask(addresses ...string) *negotiate.Settings {
	w.t.Helper()
	var servers []kdc.Server
	for _, a := range addresses {
		s, err := kdc.ParseServer(a)
		if err != nil {
			w.t.Fatal(err)
		}
		servers = append(servers, s)
	}
	finder := kdc.Static{realmName: servers}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute})
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: time.Minute})
	if err != nil {
		w.t.Fatal(err)
	}
	return negotiate.NewSettings("proxy", client)
}

func (w *world) observe(e negotiate.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// seen counts events of one kind.
func seen[E negotiate.Event](w *world) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// keytab writes the proxy's present keys to a file.
func (w *world) keytab(name string) string {
	w.t.Helper()
	content, err := w.realm.Keytab(w.proxy)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.write(name, content)
}

// write replaces a file, as careful people do, so that it is another file with
// the same name.
func (w *world) write(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.folder, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func byKeytab(w *world, p messages.Principal) negotiate.Secret {
	return negotiate.KeytabSecret(w.keytab("keytab"), p)
}

func byPassword(password string) func(*world, messages.Principal) negotiate.Secret {
	return func(*world, messages.Principal) negotiate.Secret { return negotiate.PasswordSecret(password) }
}

// login logs in when all tickets have ended.
func (w *world) login() error {
	w.t.Helper()
	w.clock.advance(11 * time.Hour)
	_, err := w.id.Login(w.t.Context(), w.settings)
	return err
}

func (w *world) mustLogin() {
	w.t.Helper()
	if err := w.login(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantPreAuths(want int) {
	w.t.Helper()
	if n := w.kdc.Counts().ASReqPreAuth; n != want {
		w.t.Fatalf("%d proofs of a key, want %d", n, want)
	}
	w.kdc.ResetCounts()
}

func TestChangedKeytabIsRead(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	w.proxy.ChangeKey(false)
	w.keytab("keytab")
	w.kdc.ResetCounts()
	w.mustLogin()
	w.wantPreAuths(1)
	if seen[negotiate.SecretChanged](w) != 1 || seen[negotiate.LoggedIn](w) != 2 {
		t.Errorf("events %#v", w.events)
	}
}

func TestSwappedSymbolicLinkIsFollowed(t *testing.T) {
	var link string
	w := newWorld(t, func(w *world, p messages.Principal) negotiate.Secret {
		link = filepath.Join(w.folder, "link")
		if err := os.Symlink(w.keytab("first"), link); err != nil {
			t.Fatal(err)
		}
		return negotiate.KeytabSecret(link, p)
	})
	w.mustLogin()
	w.proxy.ChangeKey(false)
	second := w.keytab("second")
	if err := os.Symlink(second, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	w.mustLogin()
	if n := seen[negotiate.SecretChanged](w); n != 1 {
		t.Errorf("seen to change %d times", n)
	}
}

func TestTruncatedKeytabDoesNoHarm(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	content, err := os.ReadFile(filepath.Join(w.folder, "keytab"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("keytab", content[:60])
	for range 3 {
		w.mustLogin()
	}
	if n := seen[negotiate.SecretBroken](w); n != 1 {
		t.Errorf("told %d times that the file is broken, want once", n)
	}
	if err := os.Remove(filepath.Join(w.folder, "keytab")); err != nil {
		t.Fatal(err)
	}
	w.mustLogin()
	w.proxy.ChangeKey(false)
	w.keytab("keytab")
	w.mustLogin()
}

func TestOldKeyServesUntilTheNewOneWorks(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	// The file comes first: keys that the KDC has not heard of.
	elsewhere := kdctest.NewRealm(realmName)
	next, err := elsewhere.Keytab(elsewhere.AddUser("svc-proxy", "next", kdctest.KVNO(2)))
	if err != nil {
		t.Fatal(err)
	}
	w.write("keytab", next)
	w.kdc.ResetCounts()
	w.mustLogin()
	if n := w.kdc.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs while the new key is not known", n)
	}
	if n := seen[negotiate.SecretStale](w); n != 1 {
		t.Errorf("told %d times that the new key is refused", n)
	}
	w.kdc.ResetCounts()
	w.mustLogin() // the old one first now
	w.wantPreAuths(1)

	// Now the KDC hears of it, and the old one is gone.
	w.proxy.ChangePassword("next", false)
	w.mustLogin()
	if n := w.kdc.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs until the new key was tried", n)
	}
	w.kdc.ResetCounts()
	w.mustLogin()
	w.wantPreAuths(1)
}

func TestWrongPasswordIsTriedThreeTimesAtMostByTenThousandCallers(t *testing.T) {
	var path string
	w := newWorld(t, func(w *world, _ messages.Principal) negotiate.Secret {
		path = w.write("password", []byte("wrong\n"))
		return negotiate.PasswordFileSecret(path)
	})
	herd := func() {
		t.Helper()
		const callers = 10_000
		var wg sync.WaitGroup
		start := make(chan struct{})
		errs := make(chan error, callers)
		for range callers {
			wg.Go(func() {
				<-start
				_, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
				errs <- err
			})
		}
		close(start)
		wg.Wait()
		close(errs)
		for err := range errs {
			if !errors.Is(err, &krb5core.Error{Code: messages.KDC_ERR_PREAUTH_FAILED}) {
				t.Fatalf("got %v", err)
			}
		}
	}
	herd()
	w.wantPreAuths(2)
	refused := w.id.Refused()
	if refused == nil || refused.Until.Sub(w.clock.Now()) != 30*time.Minute {
		t.Fatalf("breaker: %v", refused)
	}
	w.clock.advance(29 * time.Minute)
	herd()
	w.wantPreAuths(0)
	w.clock.advance(time.Minute)
	herd()
	w.wantPreAuths(2)

	// A changed file is tried at once.
	w.write("password", []byte("right\n"))
	if _, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever); err != nil {
		t.Fatal(err)
	}
	if w.id.Refused() != nil {
		t.Error("the breaker is open after a login")
	}
}

func TestFlushClosesTheBreaker(t *testing.T) {
	w := newWorld(t, byPassword("wrong"))
	login := func() error {
		_, err := w.id.Login(t.Context(), w.settings)
		return err
	}
	var refused *negotiate.RefusedError
	if err := login(); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	w.proxy.ChangePassword("wrong", false) // it is right now, but who knows?
	if err := login(); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	w.wantPreAuths(2)
	w.id.Flush()
	if err := login(); err != nil {
		t.Fatal(err)
	}
}

func TestDisabledAccountIsAskedForOnceAMinuteAndProvesNothing(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.proxy.Set(kdctest.With(kdctest.Disabled))
	for minute := range 5 {
		for range 20 {
			_, err := w.id.Login(t.Context(), w.settings)
			if !errors.Is(err, &krb5core.Error{Code: messages.KDC_ERR_CLIENT_REVOKED}) {
				t.Fatal(err)
			}
		}
		// Two: a datagram, and by a stream what anyone could have forged.
		if n := w.kdc.Counts().ASReq; n != 2*(minute+1) {
			t.Fatalf("%d requests in minute %d", n, minute)
		}
		w.clock.advance(time.Minute)
	}
	w.wantPreAuths(0)
	w.proxy.Set(kdctest.Without(kdctest.Disabled))
	w.mustLogin()
}

func TestOutageIsRememberedForGrowingPauses(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	if err := w.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
		_, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
		var unreachable *kdc.UnreachableError
		if !errors.As(err, &unreachable) {
			t.Fatal(err)
		}
		if pause := negotiate.RetryAfter(err, w.clock.Now()); pause != want*time.Second {
			t.Fatalf("pause of %s, want %ds", pause, want)
		}
		w.clock.advance(want*time.Second - time.Millisecond)
		_, again := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
		if pause := negotiate.RetryAfter(again, w.clock.Now()); pause != time.Second {
			t.Fatalf("pause of %s at its end", pause)
		}
		w.clock.advance(time.Millisecond)
	}
	if err := w.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever); err != nil {
		t.Fatal(err)
	}
	// After a success the pauses begin anew.
	w.kdc.Stop()
	w.clock.advance(11 * time.Hour)
	_, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
	if pause := negotiate.RetryAfter(err, w.clock.Now()); pause != time.Second {
		t.Fatalf("pause of %s", pause)
	}
}

func TestUnknownServiceIsRememberedForGrowingPauses(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	var err error
	if w.target.SPN, err = negotiate.ParseSPN("HTTP/nobody.corp.example"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{30, 60, 120, 240, 480, 600, 600} {
		before := w.kdc.Counts().TGSReq
		for range 3 {
			_, err = w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
			if !errors.Is(err, &krb5core.Error{Code: messages.KDC_ERR_S_PRINCIPAL_UNKNOWN}) {
				t.Fatal(err)
			}
		}
		if pause := negotiate.RetryAfter(err, w.clock.Now()); pause != want*time.Second {
			t.Fatalf("pause of %s, want %ds", pause, want)
		}
		if after := w.kdc.Counts().TGSReq; after == before {
			t.Fatal("not asked again after the pause")
		}
		before = w.kdc.Counts().TGSReq
		w.clock.advance(want*time.Second - time.Millisecond)
		_, _ = w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
		if after := w.kdc.Counts().TGSReq; after != before {
			t.Fatalf("asked again before %s had passed", want*time.Second)
		}
		w.clock.advance(time.Millisecond)
	}
}

func TestUnconfirmedRefusalIsRememberedBrieflyAlone(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.kdc.Use(kdctest.UDP(kdctest.TGS(kdctest.Fail(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN))), kdctest.TCP(kdctest.TGS(kdctest.Reset())))
	_, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever)
	if pause := negotiate.RetryAfter(err, w.clock.Now()); pause != time.Second {
		t.Fatalf("%v: pause of %s, want a second", err, pause)
	}
}

func TestKDCThatLostItsKeyIsLoggedInToAgain(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	if _, err := w.id.Login(t.Context(), w.settings); err != nil {
		t.Fatal(err)
	}
	w.realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	if _, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateNever); err != nil {
		t.Fatal(err)
	}
	if c := w.kdc.Counts(); c.ASRep != 2 || c.TGSRep != 1 {
		t.Errorf("%d logins, %d tickets", c.ASRep, c.TGSRep)
	}
}

func TestTicketToHandOverIsAskedForByANewTGTIfNeedBe(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.grant()
	w.realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	g, err := w.id.Grant(t.Context(), w.settings, &w.target, negotiate.DelegateAlways)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Mint(t.Context(), negotiate.Features{}); err != nil {
		t.Fatal(err)
	}
	if c := w.kdc.Counts(); c.ASRep != 2 {
		t.Errorf("%d logins, want 2", c.ASRep)
	}
}

func TestCancelledCallerDoesNotEndTheFetchOfOthers(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	gate := kdctest.NewGate()
	w.kdc.Use(gate.Slow())
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	ask := func(ctx context.Context, done chan error) {
		_, err := w.id.Grant(ctx, w.settings, &w.target, negotiate.DelegateNever)
		done <- err
	}
	go ask(ctx, first)
	<-gate.Arrived()
	go ask(t.Context(), second)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gate.Release()
	if err := <-second; err != nil {
		t.Errorf("the other: %v", err)
	}
	if c := w.kdc.Counts(); c.ASRep != 1 {
		t.Errorf("%d logins", c.ASRep)
	}
}

func (w *world) grant() negotiate.Grant {
	w.t.Helper()
	g, err := w.id.Grant(w.t.Context(), w.settings, &w.target, negotiate.DelegateNever)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func krbError(code messages.ErrorCode, at time.Time) *messages.KRBError {
	return &messages.KRBError{ErrorCode: code, STime: at, Realm: realmName, SName: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
}

func TestRetryDependsOnWhyTheTokenWasRefused(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	held := w.grant()
	retry := func(refused negotiate.Grant, v negotiate.Verdict) (negotiate.Grant, *time.Duration, bool) {
		v.Refused = true
		return w.id.Retry(t.Context(), w.settings, &w.target, negotiate.DelegateNever, refused, v)
	}
	if _, _, ok := retry(held, negotiate.Verdict{Proven: true}); ok {
		t.Error("repeated though the acceptor knew us")
	}
	g, ahead, ok := retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_REPEAT, w.clock.Now())})
	if !ok || g.Ticket != held.Ticket || ahead != nil {
		t.Error("a replay takes a new token of the same ticket")
	}
	for _, code := range []messages.ErrorCode{messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV} {
		g, ahead, ok = retry(held, negotiate.Verdict{Error: krbError(code, w.clock.Now().Add(-17*time.Minute))})
		if !ok || g.Ticket != held.Ticket || ahead == nil || *ahead != -17*time.Minute {
			t.Errorf("%s takes the acceptor's time: %v", code, ahead)
		}
	}
	for _, off := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
		if _, _, ok = retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_SKEW, w.clock.Now().Add(off))}); ok {
			t.Errorf("a token for a clock %s off", off)
		}
	}
	if w.grant().Ticket != held.Ticket || w.kdc.Counts().TGSRep != 1 {
		t.Error("a new ticket, though nothing was wrong with the old one")
	}

	g, ahead, ok = retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_MODIFIED, w.clock.Now())})
	if !ok || g.Ticket == held.Ticket || ahead != nil || w.kdc.Counts().TGSRep != 2 {
		t.Fatal("a changed key takes a new ticket")
	}
	if again, _, ok := retry(held, negotiate.Verdict{}); !ok || again.Ticket != g.Ticket || w.kdc.Counts().TGSRep != 2 {
		t.Error("who was refused with the old one gets the new one that is there")
	}
	for n := 2; n <= 3; n++ {
		if g, _, ok = retry(g, negotiate.Verdict{}); !ok || w.kdc.Counts().TGSRep != n+1 {
			t.Fatalf("the %d. new ticket in a row is refused", n)
		}
	}
	if _, _, ok = retry(g, negotiate.Verdict{}); ok || w.kdc.Counts().TGSRep != 4 {
		t.Error("a fourth new ticket in a row")
	}
	w.clock.advance(30 * time.Second)
	if g, _, ok = retry(g, negotiate.Verdict{}); !ok || w.kdc.Counts().TGSRep != 5 {
		t.Error("none after half a minute")
	}
	w.id.Confirm(w.settings, &w.target, g.Ticket)
	if _, _, ok = retry(g, negotiate.Verdict{}); !ok {
		t.Error("none after one was accepted")
	}
}

func TestHeldTicketServesWhileNoSuccessorComes(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	held := w.grant()
	w.kdc.Stop()
	if _, _, ok := w.id.Retry(t.Context(), w.settings, &w.target, negotiate.DelegateNever, held, negotiate.Verdict{Refused: true}); ok {
		t.Fatal("a new ticket of nobody")
	}
	if g := w.grant(); g.Ticket != held.Ticket || g.Source != cache.Cached {
		t.Error("the held ticket is gone")
	}
}

func TestJudgeReadsTheAnswerToItsOwnToken(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	keys, err := w.realm.Keytab(w.web)
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(t *testing.T, token negotiate.Token) string {
		t.Helper()
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(token.Header, "Negotiate "))
		if err != nil {
			t.Fatal(err)
		}
		_, reply, _ := acceptor.Accept(b, nil)
		return "Negotiate " + base64.StdEncoding.EncodeToString(reply)
	}
	for _, raw := range []bool{false, true} {
		t.Run(fmt.Sprintf("raw %t", raw), func(t *testing.T) {
			mint := func() negotiate.Token {
				token, err := w.grant().Mint(t.Context(), negotiate.Features{Mutual: true, Raw: raw})
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			first, second := mint(), mint()
			good := answer(t, first)
			replayed := answer(t, first)
			header := func(values ...string) http.Header { return http.Header{"Www-Authenticate": values} }
			for _, row := range []struct {
				name                  string
				token                 negotiate.Token
				status                int
				header                http.Header
				refused, proven, fake bool
				code                  messages.ErrorCode
			}{
				{"proof", first, 200, header(good), false, true, false, 0},
				{"proof behind others", first, 200, header("NTLM", `Basic realm="a, b"`, good), false, true, false, 0},
				{"proof of another token", second, 200, header(good), false, false, true, 0},
				{"proof with 401", first, 401, header(good), true, true, false, 0},
				{"nothing", first, 200, nil, false, false, false, 0},
				{"bare challenge", first, 401, header("Negotiate"), true, false, false, 0},
				{"challenge in other case", first, 401, header("negotiate"), true, false, false, 0},
				{"401 of another scheme", first, 401, header("Basic"), false, false, false, 0},
				{"no base64", first, 200, header("Negotiate ?"), false, false, true, 0},
				{"garbage", first, 200, header("Negotiate AAAA"), false, false, true, 0},
				{"reason", first, 401, header(replayed), true, false, false, messages.KRB_AP_ERR_REPEAT},
			} {
				t.Run(row.name, func(t *testing.T) {
					v := row.token.Judge(row.status, row.header)
					if v.Refused != row.refused || v.Proven != row.proven || (v.Proof != nil) != row.fake {
						t.Errorf("%+v", v)
					}
					if got := v.Error; (got != nil) != (row.code != 0) || got != nil && got.Code() != row.code {
						t.Errorf("reason %v, want %v", got, row.code)
					}
				})
			}
		})
	}
}

func TestNothingShowsSecrets(t *testing.T) {
	w := newWorld(t, func(w *world, p messages.Principal) negotiate.Secret { return negotiate.PasswordSecret("right") })
	g := w.grant()
	token, err := g.Mint(t.Context(), negotiate.Features{Mutual: true})
	if err != nil {
		t.Fatal(err)
	}
	content, err := w.realm.Keytab(w.proxy, w.web)
	if err != nil {
		t.Fatal(err)
	}
	file, err := keytab.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	cred := g.Ticket.Credential()
	secrets := map[string][]byte{"session key": cred.Key.Bytes(), "ticket": cred.Ticket[:64], "token": []byte(token.Header[100:160])}
	for _, e := range file.Entries {
		secrets["key "+e.Key.EType().String()] = e.Key.Bytes()
	}
	w.mu.Lock()
	events := w.events
	w.mu.Unlock()
	for _, v := range []any{g, &g, g.Ticket, *g.Ticket.Credential(), g.Ticket.Credential(), token, &token, w.id, w.settings, w.target, negotiate.PasswordSecret("right"), events} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			text := fmt.Sprintf(verb, v)
			for name, secret := range secrets {
				for _, form := range []string{
					string(secret), hex.EncodeToString(secret), strings.Trim(fmt.Sprint(secret), "[]"),
					strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"), base64.StdEncoding.EncodeToString(secret),
				} {
					if strings.Contains(text, form) {
						t.Errorf("%s of %T shows the %s", verb, v, name)
					}
				}
			}
			if strings.Contains(text, "right") && !strings.Contains(verb, "d") {
				t.Errorf("%s of %T shows the password", verb, v)
			}
		}
	}
}
