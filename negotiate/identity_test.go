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
	"runtime"
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
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const realmName = identitytest.Realm

// world is a realm and one identity that it knows.
type world struct {
	*identitytest.Domain
	settings  *negotiate.Settings
	id        *negotiate.Identity
	initiator *negotiate.Initiator
	folder    string
	target    negotiate.Target
	late      atomic.Bool // tickets are refreshed at 85 % of their life rather than at 70
}

// newWorld returns one whose identity has the secret.
func newWorld(t *testing.T, secret func(w *world, p messages.Principal) negotiate.Secret) *world {
	t.Helper()
	w := &world{folder: t.TempDir()}
	w.Domain = identitytest.New(t, identitytest.Config{Password: "right", Tickets: cache.Config{Rand: w.draw}})
	w.settings = w.askBy(nil)
	w.id = w.Identity(secret(w, w.Principal()))
	w.initiator = w.id.Initiator(w.settings)
	w.target = *identitytest.Target(t, identitytest.Service)
	return w
}

// draw is the chance in the cache.
func (w *world) draw() float64 {
	if w.late.Load() {
		return 0.999
	}
	return 0
}

// askBy returns settings with the KDCs that finder finds, nil for the one there is.
func (w *world) askBy(finder kdc.Finder) *negotiate.Settings {
	w.T.Helper()
	return w.Settings(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute}, time.Minute)
}

// seen counts events of one kind.
func seen[E negotiate.Event](w *world) int { return len(identitytest.Seen[E](w.Events)) }

// keytab writes the proxy's present keys to a file.
func (w *world) keytab(name string) string {
	w.T.Helper()
	content := must.OK(w.Realm.Keytab(w.Proxy))(w.T)
	return w.write(name, content)
}

// write replaces a file by another one of the same name.
func (w *world) write(name string, content []byte) string {
	w.T.Helper()
	path := filepath.Join(w.folder, name)
	must.Do(w.T, os.WriteFile(path+".new", content, 0o600))
	must.Do(w.T, os.Rename(path+".new", path))
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
	w.T.Helper()
	w.Clock.Advance(11 * time.Hour)
	_, err := w.initiator.Login(w.T.Context())
	return err
}

func (w *world) mustLogin() {
	w.T.Helper()
	must.Do(w.T, w.login())
}

func (w *world) wantPreAuths(want int) {
	w.T.Helper()
	if n := w.KDC.Counts().ASReqPreAuth; n != want {
		w.T.Fatalf("%d proofs of a key, want %d", n, want)
	}
	w.KDC.ResetCounts()
}

func TestKeytab_Changed(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	w.Proxy.ChangeKey(false)
	w.keytab("keytab")
	w.KDC.ResetCounts()
	w.mustLogin()
	w.wantPreAuths(1)
	if seen[negotiate.SecretChanged](w) != 1 || seen[negotiate.LoggedIn](w) != 2 {
		t.Errorf("events %#v", w.Events.All())
	}
}

func TestKeytab_SymbolicLinkSwapped(t *testing.T) {
	var link string
	w := newWorld(t, func(w *world, p messages.Principal) negotiate.Secret {
		link = filepath.Join(w.folder, "link")
		must.Do(t, os.Symlink(w.keytab("first"), link))
		return negotiate.KeytabSecret(link, p)
	})
	w.mustLogin()
	w.Proxy.ChangeKey(false)
	second := w.keytab("second")
	must.Do(t, os.Symlink(second, link+".new"))
	must.Do(t, os.Rename(link+".new", link))
	w.mustLogin()
	if n := seen[negotiate.SecretChanged](w); n != 1 {
		t.Errorf("seen to change %d times", n)
	}
}

func TestKeytab_Truncated(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	content := must.OK(os.ReadFile(filepath.Join(w.folder, "keytab")))(t)
	w.write("keytab", content[:60])
	for range 3 {
		w.mustLogin()
	}
	if n := seen[negotiate.SecretBroken](w); n != 1 {
		t.Errorf("reported %d times that the file is broken, want once", n)
	}
	must.Do(t, os.Remove(filepath.Join(w.folder, "keytab")))
	w.mustLogin()
	if n := seen[negotiate.SecretBroken](w); n != 2 {
		t.Errorf("reported %d times that the file is broken or gone, want once for each", n)
	}
	w.Proxy.ChangeKey(false)
	w.keytab("keytab")
	w.mustLogin()
}

func TestKeytab_OldKeyUntilNewWorks(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.mustLogin()
	// The file comes first: keys that the KDC has not heard of.
	elsewhere := kdctest.NewRealm(realmName)
	next := must.OK(elsewhere.Keytab(elsewhere.AddUser("svc-proxy", "next", kdctest.KVNO(2))))(t)
	w.write("keytab", next)
	w.KDC.ResetCounts()
	w.mustLogin()
	if n := w.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs while the new key is not known", n)
	}
	if n := seen[negotiate.SecretStale](w); n != 1 {
		t.Errorf("reported %d times that the new key is refused", n)
	}
	w.KDC.ResetCounts()
	w.mustLogin() // the old one first now
	w.wantPreAuths(1)

	// Now the KDC hears of it, and the old one is gone.
	w.Proxy.ChangePassword("next", false)
	w.mustLogin()
	if n := w.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs until the new key was tried", n)
	}
	w.KDC.ResetCounts()
	w.mustLogin()
	w.wantPreAuths(1)
}

func TestLogin_WrongPassword(t *testing.T) {
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
				_, err := w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
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
	if refused == nil || refused.Until.Sub(w.Clock.Now()) != 30*time.Minute {
		t.Fatalf("breaker: %v", refused)
	}
	w.Clock.Advance(29 * time.Minute)
	herd()
	w.wantPreAuths(0)
	w.Clock.Advance(time.Minute)
	herd()
	w.wantPreAuths(2)

	// A changed file is tried at once.
	w.write("password", []byte("right\n"))
	must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	if w.id.Refused() != nil {
		t.Error("the breaker is open after a login")
	}
}

func TestFlush_ClosesBreaker(t *testing.T) {
	w := newWorld(t, byPassword("wrong"))
	login := func() error {
		_, err := w.initiator.Login(t.Context())
		return err
	}
	var refused *negotiate.RefusedError
	if err := login(); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	w.Proxy.ChangePassword("wrong", false) // it is right now, but who knows?
	if err := login(); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	w.wantPreAuths(2)
	w.id.Flush()
	must.Do(t, login())
}

func TestLogin_DisabledAccount(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.Proxy.Set(kdctest.With(kdctest.Disabled))
	for minute := range 5 {
		for range 20 {
			_, err := w.initiator.Login(t.Context())
			if !errors.Is(err, &krb5core.Error{Code: messages.KDC_ERR_CLIENT_REVOKED}) {
				t.Fatal(err)
			}
		}
		// Two: one over UDP, which could be forged, and one over TCP.
		if n := w.KDC.Counts().ASReq; n != 2*(minute+1) {
			t.Fatalf("%d requests in minute %d", n, minute)
		}
		w.Clock.Advance(time.Minute)
	}
	w.wantPreAuths(0)
	w.Proxy.Set(kdctest.Without(kdctest.Disabled))
	w.mustLogin()
}

// Each login takes no time: datagrams are refused.
func TestRetryAfter_Outage(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("LEFT OUT: datagrams that are refused (not on this system)")
	}
	w := newWorld(t, byPassword("right"))
	must.Do(t, w.KDC.Interrupt())
	for _, seconds := range []int{1, 2, 4, 8, 15, 15} {
		want := time.Duration(seconds) * time.Second
		_, err := w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
		if _, ok := errors.AsType[*kdc.UnreachableError](err); !ok {
			t.Fatal(err)
		}
		if pause := negotiate.RetryAfter(err, w.Clock.Now()); pause != want {
			t.Fatalf("pause of %s, want %s", pause, want)
		}
		w.Clock.Advance(want - time.Millisecond)
		_, again := w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
		if pause := negotiate.RetryAfter(again, w.Clock.Now()); pause != time.Second {
			t.Fatalf("pause of %s at its end", pause)
		}
		w.Clock.Advance(time.Millisecond)
	}
	must.Do(t, w.KDC.Start())
	must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	// After a success the pauses are short again.
	w.KDC.Stop()
	w.Clock.Advance(11 * time.Hour)
	_, err := w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
	if pause := negotiate.RetryAfter(err, w.Clock.Now()); pause != time.Second {
		t.Fatalf("pause of %s", pause)
	}
}

func TestRetryAfter_UnknownService(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	var err error
	if w.target.SPN, err = negotiate.ParseSPN("HTTP/absent.corp.example"); err != nil {
		t.Fatal(err)
	}
	for _, seconds := range []int{30, 60, 120, 240, 480, 600, 600} {
		want := time.Duration(seconds) * time.Second
		before := w.KDC.Counts().TGSReq
		for range 3 {
			_, err = w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
			if !errors.Is(err, &krb5core.Error{Code: messages.KDC_ERR_S_PRINCIPAL_UNKNOWN}) {
				t.Fatal(err)
			}
		}
		if pause := negotiate.RetryAfter(err, w.Clock.Now()); pause != want {
			t.Fatalf("pause of %s, want %s", pause, want)
		}
		if after := w.KDC.Counts().TGSReq; after == before {
			t.Fatal("not asked again after the pause")
		}
		before = w.KDC.Counts().TGSReq
		w.Clock.Advance(want - time.Millisecond)
		_, _ = w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
		if after := w.KDC.Counts().TGSReq; after != before {
			t.Fatalf("asked again before %s had passed", want)
		}
		w.Clock.Advance(time.Millisecond)
	}
}

func TestRetryAfter_UnconfirmedRefusal(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.KDC.Use(kdctest.UDP(kdctest.TGS(kdctest.Fail(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN))), kdctest.TCP(kdctest.TGS(kdctest.Reset())))
	_, err := w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
	if pause := negotiate.RetryAfter(err, w.Clock.Now()); pause != time.Second {
		t.Fatalf("%v: pause of %s, want a second", err, pause)
	}
}

func TestGrant_KDCLostItsKey(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	must.OK(w.initiator.Login(t.Context()))(t)
	w.Realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	if c := w.KDC.Counts(); c.ASRep != 2 || c.TGSRep != 1 {
		t.Errorf("%d logins, %d tickets", c.ASRep, c.TGSRep)
	}
}

func TestGrant_ForwardedByNewTGT(t *testing.T) {
	w := newWorld(t, byKeytab)
	w.grant()
	w.Realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	g := must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateAlways))(t)
	must.OK(g.Mint(t.Context(), negotiate.Features{}))(t)
	if c := w.KDC.Counts(); c.ASRep != 2 {
		t.Errorf("%d logins, want 2", c.ASRep)
	}
}

// faultyFinder panics until it is repaired.
type faultyFinder struct {
	kdc.Finder
	repaired atomic.Bool
}

func (f *faultyFinder) KDCs(ctx context.Context, realm string) ([]kdc.Server, error) {
	if !f.repaired.Load() {
		panic("fault")
	}
	return f.Finder.KDCs(ctx, realm)
}

// A panic is an error with its stack, for the service ticket that needed the login too,
// and one event; it is not taken for an outage of the KDCs.
func TestGrant_Panics(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	finder := &faultyFinder{Finder: identitytest.Servers(t, w.KDC.Addr())}
	initiator := w.id.Initiator(w.askBy(finder))
	for range 3 {
		_, err := initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever)
		fault, ok := errors.AsType[*cache.PanicError](err)
		if !ok || !strings.Contains(string(fault.Stack), "faultyFinder") {
			t.Fatalf("got %v", err)
		}
		if pause := negotiate.RetryAfter(err, w.Clock.Now()); pause != 0 {
			t.Errorf("pause of %s", pause)
		}
	}
	if n := seen[negotiate.FetchPanicked](w); n != 1 || seen[negotiate.LoginFailed](w)+seen[negotiate.TicketFailed](w) != 0 {
		t.Errorf("reported %d times: %v", n, w.Events.All())
	}
	finder.repaired.Store(true)
	w.Clock.Advance(time.Second)
	must.OK(initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
}

func TestGrant_CallerCanceled(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	gate := kdctest.NewGate()
	w.KDC.Use(gate.Slow())
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	ask := func(ctx context.Context, done chan error) {
		_, err := w.initiator.Grant(ctx, &w.target, negotiate.DelegateNever)
		done <- err
	}
	go ask(ctx, first)
	must.Receive(t, "a request to the KDC", gate.Arrived())
	go ask(t.Context(), second)
	cancel()
	if err := must.Receive(t, "the first caller's error", first); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gate.Release()
	if err := must.Receive(t, "the second caller's error", second); err != nil {
		t.Errorf("the other: %v", err)
	}
	if c := w.KDC.Counts(); c.ASRep != 1 {
		t.Errorf("%d logins", c.ASRep)
	}
}

func (w *world) grant() negotiate.Grant {
	w.T.Helper()
	return must.OK(w.initiator.Grant(w.T.Context(), &w.target, negotiate.DelegateNever))(w.T)
}

func krbError(code messages.ErrorCode, at time.Time) *messages.KRBError {
	return &messages.KRBError{ErrorCode: code, STime: at, Realm: realmName, SName: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
}

func TestRetry_ByReason(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	held := w.grant()
	retry := func(refused negotiate.Grant, v negotiate.Verdict) (negotiate.Grant, *time.Duration, bool) {
		v.Refused = true
		return w.initiator.Retry(t.Context(), &w.target, negotiate.DelegateNever, refused, v)
	}
	if _, _, ok := retry(held, negotiate.Verdict{Proven: true}); ok {
		t.Error("repeated though the acceptor authenticated the client")
	}
	g, offset, ok := retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_REPEAT, w.Clock.Now())})
	if !ok || g.Ticket != held.Ticket || offset != nil {
		t.Error("a replay takes a new token of the same ticket")
	}
	for _, code := range []messages.ErrorCode{messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV} {
		g, offset, ok = retry(held, negotiate.Verdict{Error: krbError(code, w.Clock.Now().Add(-17*time.Minute))})
		if !ok || g.Ticket != held.Ticket || offset == nil || *offset != -17*time.Minute {
			t.Errorf("%s takes the acceptor's time: %v", code, offset)
		}
	}
	for _, off := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
		if _, _, ok = retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_SKEW, w.Clock.Now().Add(off))}); ok {
			t.Errorf("a token for a clock %s off", off)
		}
	}
	if w.grant().Ticket != held.Ticket || w.KDC.Counts().TGSRep != 1 {
		t.Error("a new ticket, though nothing was wrong with the old one")
	}

	g, offset, ok = retry(held, negotiate.Verdict{Error: krbError(messages.KRB_AP_ERR_MODIFIED, w.Clock.Now())})
	if !ok || g.Ticket == held.Ticket || offset != nil || w.KDC.Counts().TGSRep != 2 {
		t.Fatal("a changed key takes a new ticket")
	}
	if again, _, ok := retry(held, negotiate.Verdict{}); !ok || again.Ticket != g.Ticket || w.KDC.Counts().TGSRep != 2 {
		t.Error("who was refused with the old one gets the new one that is there")
	}
	for n := 2; n <= 3; n++ {
		if g, _, ok = retry(g, negotiate.Verdict{}); !ok || w.KDC.Counts().TGSRep != n+1 {
			t.Fatalf("the %d. new ticket in a row is refused", n)
		}
	}
	if _, _, ok = retry(g, negotiate.Verdict{}); ok || w.KDC.Counts().TGSRep != 4 {
		t.Error("a fourth new ticket in a row")
	}
	w.Clock.Advance(30 * time.Second)
	if g, _, ok = retry(g, negotiate.Verdict{}); !ok || w.KDC.Counts().TGSRep != 5 {
		t.Error("none after half a minute")
	}
	w.initiator.Confirm(&w.target, g.Ticket)
	if _, _, ok = retry(g, negotiate.Verdict{}); !ok {
		t.Error("none after one was accepted")
	}
}

func TestRetry_NoKDC(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	held := w.grant()
	w.KDC.Stop()
	if _, _, ok := w.initiator.Retry(t.Context(), &w.target, negotiate.DelegateNever, held, negotiate.Verdict{Refused: true}); ok {
		t.Fatal("a new ticket without a KDC")
	}
	if g := w.grant(); g.Ticket != held.Ticket || g.Source != cache.Cached {
		t.Error("the held ticket is gone")
	}
}

func TestJudge(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	keys := must.OK(w.Realm.Keytab(w.Web))(t)
	acceptor := must.OK(kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: w.Clock.Now}))(t)
	answer := func(t *testing.T, token negotiate.Token) string {
		t.Helper()
		b := must.OK(base64.StdEncoding.DecodeString(strings.TrimPrefix(token.Header, "Negotiate ")))(t)
		_, reply, _ := acceptor.Accept(b, nil)
		return "Negotiate " + base64.StdEncoding.EncodeToString(reply)
	}
	for _, raw := range []bool{false, true} {
		t.Run(fmt.Sprintf("raw %t", raw), func(t *testing.T) {
			mint := func() negotiate.Token {
				return must.OK(w.grant().Mint(t.Context(), negotiate.Features{Mutual: true, Raw: raw}))(t)
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

func TestFormat_ShowsNoSecrets(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	g := w.grant()
	token := must.OK(g.Mint(t.Context(), negotiate.Features{Mutual: true}))(t)
	content := must.OK(w.Realm.Keytab(w.Proxy, w.Web))(t)
	file := must.OK(keytab.Parse(content))(t)
	cred := g.Ticket.Credential()
	secrets := map[string][]byte{"session key": cred.Key.Bytes(), "ticket": cred.Ticket[:64], "token": []byte(token.Header[100:160])}
	for _, e := range file.Entries {
		secrets["key "+e.Key.EType().String()] = e.Key.Bytes()
	}
	for _, v := range []any{g, &g, g.Ticket, *g.Ticket.Credential(), g.Ticket.Credential(), token, &token, w.id, w.settings, w.target, negotiate.PasswordSecret("right"), w.Events.All()} {
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
