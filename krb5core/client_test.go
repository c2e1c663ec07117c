package krb5core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const realmName = "CORP.EXAMPLE"

var web = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}

// world is a realm with some KDCs, and a client that asks them in order.
type world struct {
	t       testing.TB
	realm   *kdctest.Realm
	alice   *kdctest.Principal
	kdcs    []*kdctest.KDC
	finder  kdc.Static
	client  *krb5core.Client
	clock   *krb5core.Clock
	account *krb5core.Account
}

func newRealm() (*kdctest.Realm, *kdctest.Principal) {
	realm := kdctest.NewRealm(realmName)
	alice := realm.AddUser("alice", "right")
	realm.AddService("HTTP/web.corp.example")
	return realm, alice
}

// newWorld starts a KDC for each of the realms, which may be the same one.
func newWorld(t testing.TB, password string, more func(*krb5core.Config), realms ...*kdctest.Realm) *world {
	t.Helper()
	w := &world{t: t, clock: krb5core.NewClock(nil)}
	if len(realms) == 0 {
		w.realm, w.alice = newRealm()
		realms = []*kdctest.Realm{w.realm}
	}
	w.realm = realms[0]
	w.alice = w.realm.Principal("alice")
	var servers []kdc.Server
	for _, realm := range realms {
		k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
		must.Do(t, k.Start())
		t.Cleanup(k.Stop)
		server := must.OK(kdc.ParseServer(k.Addr()))(t)
		w.kdcs, servers = append(w.kdcs, k), append(servers, server)
	}
	w.finder = kdc.Static{realmName: servers}
	// No KDC here is slow: hedging would make of a busy machine a lost packet.
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: w.finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute}))(t)
	cfg := krb5core.Config{Sender: sender, Finder: w.finder}
	if more != nil {
		more(&cfg)
	}
	w.client = must.OK(krb5core.NewClient(cfg))(t)
	w.account = w.as(krb5core.PasswordKeys(func() (string, error) { return password, nil }))
	return w
}

func (w *world) as(keys exchange.KeySource) *krb5core.Account {
	w.t.Helper()
	principal := must.OK(krb5core.ParseUser("alice@"+realmName, krb5core.UserForm{}))(w.t)
	return krb5core.NewAccount(principal, keys, w.clock)
}

func (w *world) login() *messages.Credential {
	w.t.Helper()
	return must.OK(w.client.Login(w.t.Context(), w.account, nil))(w.t)
}

// preAuths counts requests with pre-authentication at all KDCs, and the most at one.
func (w *world) preAuths() (all int, each []int) {
	for _, k := range w.kdcs {
		n := k.Counts().ASReqPreAuth
		all, each = all+n, append(each, n)
	}
	return all, each
}

func refusalOf(t *testing.T, err error, code messages.ErrorCode) *krb5core.Error {
	t.Helper()
	var e *krb5core.Error
	if !errors.As(err, &e) || !e.Refused || e.Code != code {
		t.Fatalf("got %v, want the KDC's %v", err, code)
	}
	return e
}

func TestLogin_WrongPasswordProvedTwice(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		for _, tcp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d KDCs, tcp only %t", n, tcp), func(t *testing.T) {
				realm, _ := newRealm()
				realms := make([]*kdctest.Realm, n)
				for i := range realms {
					realms[i] = realm
				}
				w := newWorld(t, "wrong", func(c *krb5core.Config) { c.TCPOnly = tcp }, realms...)
				_, err := w.client.Login(t.Context(), w.account, nil)
				e := refusalOf(t, err, messages.KDC_ERR_PREAUTH_FAILED)
				want := 2
				if n == 1 && tcp {
					want = 1 // no other KDC can be asked, and no datagram needs confirmation
				}
				all, each := w.preAuths()
				if all != want || e.PreAuths != want || !e.Confirmed {
					t.Fatalf("%d proofs %v, the error counts %d, confirmed %t; want %d", all, each, e.PreAuths, e.Confirmed, want)
				}
				if n > 1 && (each[0] != 1 || each[1] != 1) {
					t.Errorf("proofs per KDC %v, want one at each of two", each)
				}
			})
		}
	}
}

// The salt is confirmed over TCP, so the third proof that is allowed is not needed.
func TestLogin_ChangedSaltTwoProofs(t *testing.T) {
	w := newWorld(t, "right", nil)
	w.login()
	before, _ := w.preAuths()
	w.alice.Set(kdctest.Salt("ANOTHER.SALT"))
	w.alice.ChangePassword("right", false)
	w.login()
	if after, _ := w.preAuths(); after-before != 2 {
		t.Errorf("%d proofs after the salt changed, want 2", after-before)
	}

	before, _ = w.preAuths()
	w.alice.Set(kdctest.Salt("A.THIRD.SALT"))
	w.alice.ChangePassword("no longer right", false)
	_, err := w.client.Login(t.Context(), w.account, nil)
	e := refusalOf(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	if after, _ := w.preAuths(); after-before != 2 || e.PreAuths != 2 || !e.Confirmed {
		t.Errorf("%d proofs after salt and password changed (the error counts %d), want 2", after-before, e.PreAuths)
	}
}

func TestLogin_KnownSalt(t *testing.T) {
	w := newWorld(t, "right", nil)
	w.login()
	if n := w.kdcs[0].Counts().ASReq; n != 2 {
		t.Errorf("first login took %d requests, want 2", n)
	}
	w.login()
	if n := w.kdcs[0].Counts().ASReq; n != 3 {
		t.Errorf("second login took %d requests, want 1", n-2)
	}
}

func TestLogin_RefusalConfirmedAtSecondKDC(t *testing.T) {
	behind, old := newRealm()
	old.ChangePassword("old", false)
	current, _ := newRealm()
	w := newWorld(t, "right", nil, behind, current)
	w.login()
	if all, each := w.preAuths(); all != 2 {
		t.Errorf("proofs %v, want one at each", each)
	}

	// The same for a service that one KDC has not heard of.
	lagging, _ := newRealm()
	lagging.Remove(lagging.Principal("HTTP/web.corp.example"))
	full, _ := newRealm()
	w = newWorld(t, "right", nil, full)
	tgt := w.login()
	w2 := newWorld(t, "right", nil, lagging)
	shareTGTKey(t, full, lagging)
	servers := append(w2.finder[realmName], w.finder[realmName]...)
	finder := kdc.Static{realmName: servers}
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute}))(t)
	client := must.OK(krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder}))(t)
	ticket := must.OK(client.ServiceTicket(t.Context(), w.account, tgt, web))(t)
	if ticket.Service.String() != "HTTP/web.corp.example@"+realmName {
		t.Errorf("got a ticket for %s", ticket.Service)
	}
	if n := w2.kdcs[0].Counts().Errors[messages.KDC_ERR_S_PRINCIPAL_UNKNOWN]; n == 0 {
		t.Error("the first KDC was not asked")
	}
}

// shareTGTKey gives two realms of one name the same krbtgt key, as replicas have.
func shareTGTKey(t *testing.T, from, to *kdctest.Realm) {
	t.Helper()
	b := must.OK(from.Keytab(from.Principal("krbtgt/" + realmName)))(t)
	file := must.OK(keytab.Parse(b))(t)
	var keys []enctype.Key
	for _, e := range file.Entries {
		keys = append(keys, e.Key)
	}
	krbtgt := to.Principal("krbtgt/" + realmName)
	krbtgt.Set(kdctest.KVNO(file.Entries[0].KVNO), kdctest.Keys(keys...))
	krbtgt.ChangeKey(false)
}

func TestLogin_ForgedUDPError(t *testing.T) {
	for _, code := range []messages.ErrorCode{
		messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN,
		messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, messages.KDC_ERR_ETYPE_NOSUPP, messages.KDC_ERR_KEY_EXPIRED,
		messages.KRB_ERR_GENERIC, messages.KDC_ERR_SVC_UNAVAILABLE, messages.KRB_ERR_RESPONSE_TOO_BIG,
	} {
		t.Run(code.String(), func(t *testing.T) {
			w := newWorld(t, "right", nil)
			w.kdcs[0].Use(kdctest.UDP(kdctest.ForgeFirst(code)))
			tgt := w.login()
			must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, web))(t)
			if n, _ := w.preAuths(); n > 2 {
				t.Errorf("%d proofs of the key", n)
			}
		})
	}
}

func TestLogin_UnconfirmedRefusal(t *testing.T) {
	w := newWorld(t, "right", func(c *krb5core.Config) { c.Timeout = 2 * time.Second })
	w.kdcs[0].Use(kdctest.UDP(kdctest.Fail(messages.KDC_ERR_CLIENT_REVOKED)), kdctest.TCP(kdctest.Reset()))
	_, err := w.client.Login(t.Context(), w.account, nil)
	if e := refusalOf(t, err, messages.KDC_ERR_CLIENT_REVOKED); e.Confirmed {
		t.Fatal("a datagram alone was taken for a verdict")
	}
}

func TestClock_LearntAndConfirmed(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			w := newWorld(t, "right", nil)
			w.kdcs[0].JumpClock(ahead)
			tgt := w.login()
			if off := w.clock.Offset(realmName) - ahead; off.Abs() > 2*time.Second {
				t.Fatalf("learnt %s, want %s", w.clock.Offset(realmName), ahead)
			}
			must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, web))(t)
			before := w.kdcs[0].Counts().Errors[messages.KRB_AP_ERR_SKEW]
			w.login() // knows the time by now
			if n := w.kdcs[0].Counts().Errors[messages.KRB_AP_ERR_SKEW] - before; n != 0 {
				t.Errorf("%d more errors for the clock", n)
			}
			w.kdcs[0].JumpClock(0)
			w.login() // and learns the offset again
			if off := w.clock.Offset(realmName); off.Abs() > 2*time.Second {
				t.Errorf("offset %s after the clock was put right", off)
			}
		})
	}
}

func TestClock_Forged(t *testing.T) {
	w := newWorld(t, "right", nil)
	forged := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{w.realm}, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	// An attacker answers each datagram with an error that has another time.
	w.kdcs[0].Use(kdctest.UDP(kdctest.PreAuthenticated(func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			if m := forged.Handle(q.Message); m[0] == 0x7e { // KRB-ERROR; the attacker has no key for more
				a.Messages = append([][]byte{m}, a.Messages...)
			}
			return a
		}
	})))
	w.login()
	if off := w.clock.Offset(realmName); off.Abs() > 5*time.Second {
		t.Fatalf("learnt %s from a forged error", off)
	}
}

func TestLogin_StrongETypes(t *testing.T) {
	for _, id := range enctype.Strong() {
		t.Run(id.String(), func(t *testing.T) {
			realm := kdctest.NewRealm(realmName)
			alice := realm.AddUser("alice", "right", kdctest.ETypes(id), kdctest.Iterations(40_000), kdctest.KVNO(258))
			realm.AddService("HTTP/web.corp.example", kdctest.ETypes(id))
			realm.Principal("krbtgt/" + realmName).Set(kdctest.SessionETypes(id))
			w := newWorld(t, "right", func(c *krb5core.Config) { c.ETypes = []enctype.ID{id} }, realm)
			b := must.OK(realm.Keytab(alice))(t)
			file := must.OK(keytab.Parse(b))(t)
			keys := must.OK(krb5core.KeytabKeys(file, w.account.Principal()))(t)
			for _, account := range []*krb5core.Account{w.account, w.as(keys)} {
				tgt := must.OK(w.client.Login(t.Context(), account, nil))(t)
				ticket := must.OK(w.client.ServiceTicket(t.Context(), account, tgt, web))(t)
				if ticket.Key.EType() != id {
					t.Errorf("session key of %s", ticket.Key.EType())
				}
			}
		})
	}
}

func TestTickets_RenewAndForward(t *testing.T) {
	w := newWorld(t, "right", nil)
	tgt := w.login()
	forwarded := must.OK(w.client.Forward(t.Context(), w.account, tgt))(t)
	if forwarded.Flags&messages.TKT_FLG_FORWARDED == 0 || forwarded.Service.Name.NameString[0] != "krbtgt" {
		t.Errorf("forwarded: %s %s", forwarded, forwarded.Flags)
	}
	if _, err := w.client.Renew(t.Context(), w.account, tgt); err == nil {
		t.Error("a ticket that is not renewable was renewed")
	}
}

func TestLogin_SilentKDC(t *testing.T) {
	w := newWorld(t, "right", func(c *krb5core.Config) { c.Timeout = 300 * time.Millisecond })
	w.kdcs[0].Use(kdctest.Silent())
	_, err := w.client.Login(t.Context(), w.account, nil)
	var unreachable *kdc.UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), w.kdcs[0].Addr()) {
		t.Fatalf("got %v", err)
	}
	if errors.Is(err, &krb5core.Error{}) {
		t.Error("silence is no refusal")
	}
}

func TestLogin_ContextEnds(t *testing.T) {
	w := newWorld(t, "right", nil)
	gate := kdctest.NewGate()
	defer gate.Release()
	w.kdcs[0].Use(gate.Slow())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := w.client.Login(ctx, w.account, nil)
		ended <- err
	}()
	<-gate.Arrived()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestPasswordKeys_ReadOncePerSalt(t *testing.T) {
	w := newWorld(t, "", nil)
	var mu sync.Mutex
	reads := 0
	w.account = w.as(krb5core.PasswordKeys(func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		reads++
		return "right", nil
	}))
	for range 5 {
		w.login()
	}
	if reads != 1 {
		t.Errorf("password read %d times", reads)
	}
	w.alice.Set(kdctest.Salt("ANOTHER"))
	w.alice.ChangePassword("right", false)
	w.login()
	if reads != 2 {
		t.Errorf("password read %d times, want once more for the new salt", reads)
	}
}

func TestPasswordKeys_Unreadable(t *testing.T) {
	w := newWorld(t, "", nil)
	w.account = w.as(krb5core.PasswordKeys(func() (string, error) { return "", io.ErrUnexpectedEOF }))
	if _, err := w.client.Login(t.Context(), w.account, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
	if n, _ := w.preAuths(); n != 0 {
		t.Errorf("%d proofs of no key", n)
	}
}

func TestClock_ConcurrentAndBounded(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := krb5core.NewClock(func() time.Time { return start })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				clock.Learn(fmt.Sprintf("R%d", i), time.Duration(j)*time.Second)
				clock.Now("R0")
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if got := clock.Offset(fmt.Sprintf("R%d", i)); got != 99*time.Second {
			t.Errorf("R%d: %s", i, got)
		}
	}
	for i := range 1000 {
		clock.Learn(fmt.Sprintf("MANY%d", i), time.Second)
	}
	known := 0
	for i := range 1000 {
		if clock.Offset(fmt.Sprintf("MANY%d", i)) != 0 {
			known++
		}
	}
	if known >= 1000 {
		t.Error("realms are remembered without bound")
	}
	clock.Learn("R0", time.Minute)
	if got := clock.Now("R0"); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("a full clock does not learn of realms that it knows: %s", got)
	}
}

func TestError_Text(t *testing.T) {
	w := newWorld(t, "a wrong password", nil)
	_, err := w.client.Login(t.Context(), w.account, nil)
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, want := range []string{"login", "alice@" + realmName, net.JoinHostPort("127.0.0.1", fmt.Sprint(w.kdcs[0].Port()))} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if strings.Contains(text, "a wrong password") {
		t.Error("the password shows")
	}
}
