package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// TableEnv names the environment variable with the file that the table of faults is
// written to.
const TableEnv = "CADDY_NEGOTIATE_FAULTS"

// fault is a row of the table: what goes wrong, what is asserted of what a user
// sees, and how.
type fault struct {
	what, asserted string
	run            func(t *testing.T)
}

func TestFaults(t *testing.T) {
	var table strings.Builder
	row := func(what, asserted, result string) {
		fmt.Fprintf(&table, "%-44s | %-92s | %s\n", what, asserted, result)
	}
	row("fault", "asserted", "result")
	for _, faults := range [][]fault{kdcFaults, upstreamFaults, storeFaults, localFaults} {
		for _, f := range faults {
			result := "ok"
			if !t.Run(f.what, f.run) {
				result = "FAILED"
			}
			row(f.what, f.asserted, result)
		}
	}
	t.Logf("the faults:\n%s", table.String())
	if path := os.Getenv(TableEnv); path != "" {
		if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// What a user sees while a KDC is at fault: somebody whose ticket is held nothing,
// others what the row says.
const (
	servedCold = "held: 200 without a question. not held: 200"
	failedCold = "held: 200 without a question. not held: 503, Retry-After, and the next at once; then 200"
)

var kdcFaults = []fault{
	{"KDC silent", failedCold, kdcFault(false, kdctest.Silent())},
	{"KDC resets streams, ignores datagrams", failedCold, kdcFault(false, kdctest.Reset())},
	{"KDC cuts its answers", failedCold, kdcFault(false, kdctest.Cut(60))},
	{"KDC cuts its datagrams", servedCold, kdcFault(true, kdctest.UDP(kdctest.Cut(60)))},
	{"KDC announces 4 GiB", failedCold + "; not allocated", announces4GiB},
	{"KDC answers garbage", failedCold, kdcFault(false, kdctest.Garbage(300))},
	{"KDC answers with another nonce", failedCold, kdcFault(false, kdctest.WrongNonce())},
	{"KDC answers with another user's ticket", failedCold + "; the other is never let in", kdcFault(false, kdctest.AnotherUser("mallory"))},
	{"late errors before the true answer", servedCold, kdcFault(true, kdctest.UDP(kdctest.Stale()))},
	{"forged refusal before the true answer", servedCold, kdcFault(true, kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_CLIENT_REVOKED)))},
	{"forged \"wrong key\" before the true answer", servedCold, kdcFault(true, kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_PREAUTH_FAILED)))},
	{"every second datagram lost", servedCold, kdcFault(true, kdctest.Every(2, kdctest.Lose()))},
	{"every second answer lost", servedCold, kdcFault(true, kdctest.Every(2, kdctest.LoseReply()))},
	{"UDP filtered", servedCold, kdcFault(true, kdctest.StreamOnly())},
	{"KDC says it cannot serve", failedCold, kdcFault(false, kdctest.Fail(messages.KDC_ERR_SVC_UNAVAILABLE))},
	{"KDC fails within (KRB_ERR_GENERIC)", "held: 200 without a question. not held: 5xx, and 200 afterwards", kdcGeneric},
	{"KDC slow", "held: 200 meanwhile. not held: 200 when it answers", kdcSlow},
	{"KDC's clock an hour behind", "held: 200. not held: 200, the clock learnt, the token repeated by the upstream's", kdcBehind},
	{"KDC's and upstream's clocks an hour ahead", "200 by one repeat of the token; not held: 200", clocksAhead},
	{"first KDC stopped, second good", "200", firstStopped},
}

// second is a site of another account, which nothing is held for.
func (r *rig) second(more ...string) string {
	other := r.realm.AddUser("svc-second", "another secret")
	r.realm.AddUser("mallory", "a third secret")
	keytab := r.write("second.keytab", r.keysOf(other))
	return lines(append([]string{
		"kdc " + r.kdc.Addr(), "user svc-second@" + realmName, "keytab " + keytab, "spn " + service, "login_at_start off",
	}, more...)...)
}

func (r *rig) cold() answer {
	r.t.Helper()
	a, err := ask(r.t.Context(), r.client(), "http://"+r.sites[1]+"/")
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (a answer) goodSecond() bool { return a.status == 200 && a.body == "svc-second@"+realmName+"\n" }

// warm gives a rig with a ticket held for the first site and none for the second, which
// has further lines.
func warm(t *testing.T, more ...string) *rig {
	r := newRig(t)
	r.load(r.usual("trace"), r.second(append(more, "trace")...))
	r.wantGood()
	r.kdc.ResetCounts()
	return r
}

// questions counts what has been sent to KDCs. The log tells it when it was sent; a KDC
// counts what arrives, which may be later than somebody was answered by another way.
func (r *rig) questions() int { return r.log.count(`"kdc message sent"`) }

// wantHeld fails unless the first site serves without a question to the KDC.
func (r *rig) wantHeld() {
	r.t.Helper()
	before := r.questions()
	if a := r.wantGood(); a.header.Get("X-Source") != "cache" {
		r.t.Fatalf("the ticket came from %s", a.header.Get("X-Source"))
	}
	if before == 0 || r.questions() != before {
		r.t.Fatalf("the KDC was asked: %d questions, %d before", r.questions(), before)
	}
}

func kdcFault(served bool, f kdctest.Fault) func(*testing.T) {
	return func(t *testing.T) {
		timeout := "timeout 400ms" // shorter than the first pause before a datagram is sent again
		if served {
			timeout = "timeout 10s"
		}
		r := warm(t, timeout)
		r.kdc.Use(f)
		r.wantHeld()
		a := r.cold()
		if served {
			if !a.goodSecond() {
				t.Fatalf("not held: %v", a)
			}
			r.wantHeld()
			return
		}
		wantOutage(t, a)
		before := r.questions()
		wantOutage(t, r.cold()) // remembered
		if r.questions() != before {
			t.Error("the next request asked the KDC again")
		}
		r.wantHeld()
		r.kdc.ClearFaults()
		for a = r.cold(); !a.goodSecond(); a = r.cold() {
			wantOutage(t, a)
		}
	}
}

func wantOutage(t *testing.T, a answer) {
	t.Helper()
	if a.status != 503 || a.body != "503 kdc_unreachable" || a.header.Get("Retry-After") == "" {
		t.Fatalf("got %v, want 503 kdc_unreachable with Retry-After", a)
	}
}

func announces4GiB(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := warm(t, "timeout 400ms", "use_tcp")
	r.kdc.Use(kdctest.Announce(0xffffffff))
	wantOutage(t, r.cold())
	r.wantHeld()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("%d MiB were allocated", n>>20)
	}
	r.kdc.ClearFaults()
	for !r.cold().goodSecond() {
	}
}

func kdcGeneric(t *testing.T) {
	r := warm(t, "timeout 1s")
	r.kdc.Use(kdctest.Fail(messages.KRB_ERR_GENERIC))
	if a := r.cold(); a.status < 500 {
		t.Fatal(a)
	}
	r.wantHeld()
	r.kdc.ClearFaults()
	if r.log.count("credentials refused, not tried again") != 0 {
		t.Error("the breaker opened by an error that says nothing about the account")
	}
}

func kdcSlow(t *testing.T) {
	r := warm(t)
	gate := kdctest.NewGate()
	r.kdc.Use(gate.Slow())
	answers := make(chan answer, 1)
	go func() { answers <- r.cold() }()
	<-gate.Arrived()
	r.wantGood()
	gate.Release()
	if a := <-answers; !a.goodSecond() {
		t.Fatal(a)
	}
}

func kdcBehind(t *testing.T) {
	r := warm(t)
	r.kdc.JumpClock(-time.Hour)
	r.wantHeld()
	if a := r.cold(); !a.goodSecond() {
		t.Fatal(a)
	}
}

func clocksAhead(t *testing.T) {
	r := warm(t)
	r.kdc.JumpClock(time.Hour)
	if err := r.acceptor.Update(func(c *kdctest.AcceptorConfig) {
		c.Now = func() time.Time { return time.Now().Add(time.Hour) }
	}); err != nil {
		t.Fatal(err)
	}
	r.wantHeld()
	if a := r.cold(); !a.goodSecond() {
		t.Fatal(a)
	}
}

func firstStopped(t *testing.T) {
	r := newRig(t)
	second := r.startKDC(kdctest.Config{})
	r.kdc.Stop()
	r.load(lines("kdc "+r.kdc.Addr()+" "+second.Addr(), "user "+principal, "keytab "+r.keytab, "spn "+service))
	r.wantGood()
}

var upstreamFaults = []fault{
	{"upstream refuses at random", "200, or the upstream's 401 without a challenge; 2 tries a request, 6 exchanges for refusals", upstreamRandom},
	{"upstream refuses always", "the upstream's 401 without a challenge; 2 tries a request, 3 exchanges for refusals", upstreamLoops},
	{"upstream closes mid-body", "an answer that breaks off, never one that seems whole; then 200", upstreamCuts},
	{"upstream's key changed", "200 by one repeat with a new ticket", upstreamRekeyed},
	{"upstream's key changed, KDC stopped", "the upstream's 401; the held ticket is kept; 200 when the KDC is back", upstreamRekeyedInOutage},
	{"upstream challenges 10 000 times in a 401", "401 without a challenge, at once", upstreamBabbles},
}

// wantRefusal fails unless a is the upstream's own refusal, without what would make a
// browser log in to it.
func wantRefusal(a answer) error {
	if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "" {
		return fmt.Errorf("%v, challenged with %q", a, a.header.Get("WWW-Authenticate"))
	}
	return nil
}

func upstreamRefuses(t *testing.T, when func() bool, most int, judge func(answer) error) {
	r := warm(t)
	if err := r.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Refuse, c.RefuseWhen = kdctest.RefuseGood, when }); err != nil {
		t.Fatal(err)
	}
	const requests = 200
	before := r.upstream.Requests.Load()
	errs := crowd(t, 8, requests, func(int) string { return "http://" + r.sites[0] + "/" }, func(a answer, err error) error {
		if err != nil {
			return err
		}
		return judge(a)
	})
	wantNoErrors(t, requests, errs)
	if n := r.upstream.Requests.Load() - before; n > 2*requests {
		t.Errorf("%d tries of %d requests", n, requests)
	}
	if c := r.kdc.Counts(); c.TGSRep > most {
		t.Errorf("%d exchanges for refused tokens", c.TGSRep)
	}
}

func upstreamRandom(t *testing.T) {
	upstreamRefuses(t, func() bool { return rand.IntN(2) == 0 }, 6, func(a answer) error {
		if a.good() {
			return nil
		}
		return wantRefusal(a)
	})
}

func upstreamLoops(t *testing.T) { upstreamRefuses(t, func() bool { return true }, 3, wantRefusal) }

func upstreamCuts(t *testing.T) {
	r := warm(t)
	a, err := ask(t.Context(), r.client(), "http://"+r.sites[0]+"/cut")
	if err == nil {
		t.Fatalf("half a body passes for a whole one: %v", a)
	}
	r.wantHeld()
}

func (r *rig) rekey() {
	r.t.Helper()
	before, err := keytab.Parse(r.keysOf(r.web))
	if err != nil {
		r.t.Fatal(err)
	}
	r.oldKeys = append(r.oldKeys, before.Entries...)
	r.web.ChangeKey(false)
	keys := r.keysOf(r.web)
	if err := r.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = keys }); err != nil {
		r.t.Fatal(err)
	}
}

func upstreamRekeyed(t *testing.T) {
	r := warm(t)
	r.rekey()
	r.wantGood()
	if c := r.kdc.Counts(); c.TGSRep != 1 || c.ASRep != 0 {
		t.Errorf("%d logins, %d exchanges", c.ASRep, c.TGSRep)
	}
	r.wantHeld()
}

func upstreamRekeyedInOutage(t *testing.T) {
	r := warm(t)
	r.rekey()
	if err := r.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	if err := wantRefusal(r.get("/")); err != nil {
		t.Fatal(err)
	}
	if err := r.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	for !r.get("/").good() {
	}
}

func upstreamBabbles(t *testing.T) {
	r := newRig(t)
	babbler := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 10000 {
			w.Header().Add("WWW-Authenticate", fmt.Sprintf("Negotiate %032d", i))
		}
		w.WriteHeader(http.StatusUnauthorized)
	})}
	r.serveInstead(babbler)
	r.load(r.usual())
	if err := wantRefusal(r.get("/")); err != nil {
		t.Fatal(err)
	}
}

var storeFaults = []fault{
	{"ticket store: disk full", "200; one warning", storeFault(func(s *shelf) { s.order(syscall.ENOSPC, nil, nil) })},
	{"ticket store: down", "200; one warning", storeFault(func(s *shelf) { s.order(nil, errors.New("no route to the storage"), nil) })},
	{"ticket store: hangs", "held: 200 without a call. not held: 200; one warning", storeHangs},
	{"ticket store: entries overwritten", "200; a warning", storeSpoilt},
}

func shelved(t *testing.T) (*rig, *shelf) {
	r := newRig(t)
	s, option := newShelf(t, filepath.Join(r.folder, "shelf"))
	r.global = option + "\n\tkerberos {\n\t\tticket_store storage\n\t}"
	return r, s
}

const storeWarning = `"the ticket store cannot be used; tickets are kept in memory alone meanwhile"`

func storeFault(order func(*shelf)) func(*testing.T) {
	return func(t *testing.T) {
		r, s := shelved(t)
		r.load(r.usual("login_at_start off"), r.second())
		order(s)
		begin := time.Now()
		for range 3 {
			r.wantGood()
			if a := r.cold(); !a.goodSecond() {
				t.Fatal(a)
			}
		}
		r.log.await(t, storeWarning, 1)
		// A storage is left alone for a second, and may be tried again then.
		if n := r.log.count(storeWarning); n > 1+int(time.Since(begin)/time.Second) {
			t.Errorf("%d warnings", n)
		}
		s.order(nil, nil, nil)
	}
}

func storeHangs(t *testing.T) {
	r, s := shelved(t)
	r.load(r.usual(), r.second())
	r.wantGood()
	eventually(t, "both tickets are stored", func() bool { return len(s.entries()) == 2 })
	hang := make(chan struct{})
	s.order(nil, nil, hang)
	calls := s.calls.Load()
	for range 20 {
		if a := r.wantGood(); a.header.Get("X-Source") != "cache" {
			t.Fatal(a.header.Get("X-Source"))
		}
	}
	if n := s.calls.Load() - calls; n != 0 {
		t.Errorf("%d calls to the storage for held tickets", n)
	}
	if a := r.cold(); !a.goodSecond() {
		t.Fatal(a)
	}
	r.log.await(t, storeWarning, 1)
	s.order(nil, nil, nil)
	close(hang)
}

func storeSpoilt(t *testing.T) {
	r, s := shelved(t)
	r.load(r.usual("login_at_start off"))
	r.wantGood()
	eventually(t, "both tickets are stored", func() bool { return len(s.entries()) == 2 })
	for _, path := range s.entries() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(b) / 2; i < len(b); i++ {
			b[i] ^= 0x55
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.load() // all tickets of the process are forgotten
	r.load(r.usual("login_at_start off"))
	if a := r.wantGood(); a.header.Get("X-Source") != "kdc" {
		t.Errorf("the ticket came from %s", a.header.Get("X-Source"))
	}
	r.log.await(t, "a stored ticket was passed over", 1)
}

var localFaults = []fault{
	{"our clock stepped an hour ahead, and back", "let in at each step, by one repeat of the token where the clocks differ; two logins at most", steppedClock},
	{"keytab truncated", "200; one warning; the old key serves on", truncatedKeytab},
	{"keytab rotated, a KDC lags behind", "let in by the old key, then by the new one", rotatedKeytab},
	{"password file emptied, then rewritten", "let in; one warning", rewrittenPassword},
}

// pass goes through the upstream's door as Caddy does, with one repeat.
func (l *laboratory) pass(acceptor *kdctest.Acceptor, id *negotiate.Identity, s *negotiate.Settings) error {
	l.t.Helper()
	target := l.target(service)
	g, err := id.Grant(l.t.Context(), s, target, negotiate.DelegateNever)
	if err != nil {
		return err
	}
	token, err := g.Mint(l.t.Context(), negotiate.Features{Mutual: true})
	if err != nil {
		return err
	}
	v := l.show(acceptor, token)
	if !v.Refused {
		return nil
	}
	g, ahead, ok := id.Retry(l.t.Context(), s, target, negotiate.DelegateNever, g, v)
	if !ok {
		return fmt.Errorf("refused, and not worth a repeat: %v", v.Error)
	}
	if token, err = g.Mint(l.t.Context(), negotiate.Features{Mutual: true, Ahead: ahead}); err != nil {
		return err
	}
	if v = l.show(acceptor, token); v.Refused {
		return fmt.Errorf("the repeat is refused: %v", v.Error)
	}
	return nil
}

func steppedClock(t *testing.T) {
	l := newLab(t)
	acceptor := l.acceptor()
	id, s := l.identity(negotiate.PasswordSecret(password)), l.settings()
	for _, wrong := range []time.Duration{0, time.Hour, 0, -time.Hour, 0, time.Hour, -time.Hour, 0} {
		l.clock.Wrong(wrong)
		for range 3 {
			if err := l.pass(acceptor, id, s); err != nil {
				t.Fatalf("%v off: %v", wrong, err)
			}
			l.clock.Advance(time.Second)
		}
	}
	if c := l.kdc.Counts(); c.ASRep > 2 {
		t.Errorf("%d logins", c.ASRep)
	}
}

func truncatedKeytab(t *testing.T) {
	l := newLab(t)
	file := l.keytab()
	id, s := l.identity(negotiate.KeytabSecret(file, l.principal())), l.settings()
	if _, err := l.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, file, content[:len(content)/2])
	for range 5 {
		l.clock.Advance(11 * time.Hour) // every ticket has ended
		if _, err := l.grant(id, s, service); err != nil {
			t.Fatal(err)
		}
	}
	if n := count[negotiate.SecretBroken](l.events); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

func rotatedKeytab(t *testing.T) {
	l := newLab(t)
	file := l.keytab()
	id, s := l.identity(negotiate.KeytabSecret(file, l.principal())), l.settings()
	grant := func() {
		t.Helper()
		l.clock.Advance(11 * time.Hour)
		if _, err := l.grant(id, s, service); err != nil {
			t.Fatal(err)
		}
	}
	grant()
	// The new key is in the file, and the KDC has not heard of it.
	fresh := kdctest.NewRealm(realmName)
	replace(t, file, keysOf(t, fresh, fresh.AddUser(account, "the next password", kdctest.KVNO(2))))
	grant()
	if n := count[negotiate.SecretStale](l.events); n != 1 {
		t.Errorf("%d notes of a key that is refused", n)
	}
	l.proxy.ChangePassword("the next password", false)
	grant()
	l.kdc.ResetCounts()
	grant()
	if c := l.kdc.Counts(); c.ASReqPreAuth != 1 || c.Errors[messages.KDC_ERR_PREAUTH_FAILED] != 0 {
		t.Errorf("the new key is in use, and still %d proofs, %v", c.ASReqPreAuth, c.Errors)
	}
}

func rewrittenPassword(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "password")
	replace(t, file, []byte(password))
	id, s := l.identity(negotiate.PasswordFileSecret(file)), l.settings()
	grant := func() {
		t.Helper()
		l.clock.Advance(11 * time.Hour)
		if _, err := l.grant(id, s, service); err != nil {
			t.Fatal(err)
		}
	}
	grant()
	replace(t, file, nil)
	grant()
	grant()
	if n := count[negotiate.SecretBroken](l.events); n != 1 {
		t.Errorf("%d warnings", n)
	}
	l.proxy.ChangePassword("the next password", false)
	replace(t, file, []byte("the next password\n"))
	grant()
}

// replace puts another file in the place of one, as those who do it well do.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
