package session

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/session/cookie"
	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
)

// site is a block with sessions, in one of the processes that share a storage.
type site struct {
	*Sessions
	t     testing.TB
	clock *identitytest.Clock
	log   *observer.ObservedLogs
	host  string
}

// world is a storage and what its processes have in common.
type world struct {
	t       testing.TB
	clock   *identitytest.Clock
	storage certmagic.Storage
}

func newWorld(t testing.TB) *world {
	return &world{t, identitytest.NewClock(), &certmagic.FileStorage{Path: t.TempDir()}}
}

// process returns the master keys of a process.
func (w *world) process(key []byte) *Keys {
	k := NewKeys(w.storage, key, zap.NewNop())
	k.now = w.clock.Now
	return k
}

func (w *world) site(keys *Keys, block string, with Settings) *site {
	core, log := observer.New(zap.InfoLevel)
	s := with.Open(Config{
		Logger: zap.New(core), Keys: keys, Acceptor: principal("svc-proxy"), Block: []byte(block), Now: w.clock.Now,
	})
	s.tickets = newTickets(ticketMemory)
	return &site{s, w.t, w.clock, log, "app.example.com"}
}

func principal(name ...string) messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name...), Realm: "CORP.EXAMPLE"}
}

func (s *site) user(name string) *signin.User {
	ticket := &messages.Credential{Client: principal(name), Ticket: []byte("ticket of " + name), EndTime: s.clock.Now().Add(10 * time.Hour)}
	return &signin.User{
		Principal: ticket.Client, Evidence: ticket, Acceptor: principal("svc-proxy"), SignedIn: s.clock.Now(), Ends: ticket.EndTime,
		Account: &accept.Account{
			SID:    "S-1-5-21-1-2-3-1104",
			Groups: []pac.SID{"S-1-18-1", "S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-1200"}, DenyOnly: []pac.SID{"S-1-5-32-544"},
		},
	}
}

func (s *site) request(cookies ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://"+s.host+"/", nil)
	for _, c := range cookies {
		r.Header.Add("Cookie", c)
	}
	return r
}

// begin signs a user in and returns the cookie, empty if none was set.
func (s *site) begin(u *signin.User) string {
	w := httptest.NewRecorder()
	s.Begin(w.Header(), s.request(), u)
	return cookieOf(w)
}

func cookieOf(w *httptest.ResponseRecorder) string {
	for _, c := range w.Result().Cookies() {
		return c.Name + "=" + c.Value
	}
	return ""
}

// resume returns the user of a cookie, and the cookie that was set, empty if none was.
func (s *site) resume(cookie string) (*signin.User, string) {
	w := httptest.NewRecorder()
	u := s.Resume(w.Header(), s.request(cookie))
	return u, cookieOf(w)
}

func (s *site) wantUser(cookie string, want *signin.User) {
	s.t.Helper()
	got, _ := s.resume(cookie)
	if got == nil {
		s.t.Fatal("the cookie is not good")
	}
	if !got.Principal.Equal(want.Principal) || !reflect.DeepEqual(got.Account, want.Account) || got.Evidence != want.Evidence ||
		!got.Acceptor.Equal(want.Acceptor) || !got.SignedIn.Equal(want.SignedIn) {
		s.t.Errorf("%+v, want %+v", *got, *want)
	}
}

func (s *site) wantNone(what, cookie string) {
	s.t.Helper()
	if u, _ := s.resume(cookie); u != nil {
		s.t.Errorf("%s: %s is signed in", what, u)
	}
}

func TestSession_Resumes(t *testing.T) {
	w := newWorld(t)
	s := w.site(w.process(nil), "block", Settings{})
	want := s.user("alice")
	recorder := httptest.NewRecorder()
	s.Begin(recorder.Header(), s.request(), want)
	set := recorder.Header().Get("Set-Cookie")
	value, attributes, _ := strings.Cut(strings.TrimPrefix(set, "__Host-negotiate="), ";")
	if attributes != " Path=/; HttpOnly; Secure; SameSite=Lax" || value == "" || strings.Contains(set, "alice") {
		t.Errorf("Set-Cookie: %s", set)
	}
	s.wantUser("__Host-negotiate="+value, want)
	if got, again := s.resume("__Host-negotiate=" + value); again != "" || !got.Ends.Equal(want.SignedIn.Add(8*time.Hour)) {
		t.Errorf("ends at %s, cookie set again: %q", got.Ends, again)
	}
	// A user without a PAC has no account.
	want = s.user("bob")
	want.Account, want.Evidence = nil, nil
	s.wantUser(s.begin(want), want)
	if s := (*Settings)(nil).Open(Config{}); s != nil || s.Resume(nil, httptest.NewRequest("GET", "/", nil)) != nil || s.SignOff(nil, nil) {
		t.Error("a block without session has sessions")
	}
}

// Upstreams could sign in by the cookie: it is taken out of the request, and nothing else is.
func TestSession_CookieIsNotPassedOn(t *testing.T) {
	w := newWorld(t)
	s := w.site(w.process(nil), "block", Settings{})
	cookie := s.begin(s.user("alice"))
	for _, c := range []struct {
		sent, left []string
		user       bool
	}{
		{[]string{cookie}, nil, true},
		{[]string{"a=1; " + cookie + "; b=2"}, []string{"a=1; b=2"}, true},
		{[]string{"a=1", cookie, "b=2; c"}, []string{"a=1", "b=2; c"}, true},
		{[]string{"__Host-negotiate=x; " + cookie}, nil, true},
		{[]string{"a=1;" + strings.Replace(cookie, "=", `="`, 1) + `"`}, []string{"a=1"}, true},
		{[]string{"__Host-negotiate"}, nil, false},
		{[]string{"a=__Host-negotiate; x__Host-negotiate=1"}, []string{"a=__Host-negotiate; x__Host-negotiate=1"}, false},
		{[]string{strings.Repeat("__Host-negotiate=x; ", mostCookies) + cookie}, nil, false},
	} {
		for _, begin := range []bool{false, true} {
			r := s.request(c.sent...)
			before := slices.Clone(r.Header["Cookie"])
			original := r.Header["Cookie"]
			if begin {
				s.Begin(make(http.Header), r, s.user("alice"))
			} else if u := s.Resume(make(http.Header), r); (u != nil) != c.user {
				t.Errorf("%q: %v", c.sent, u)
			}
			if !slices.Equal(r.Header["Cookie"], c.left) {
				t.Errorf("%q leaves %q, want %q", c.sent, r.Header["Cookie"], c.left)
			}
			if !slices.Equal(original, before) {
				t.Error("the values of another copy of the request have changed")
			}
		}
	}
}

func TestSession_Ends(t *testing.T) {
	w := newWorld(t)
	keys := w.process(nil)
	for name, c := range map[string]struct {
		with Settings
		ends time.Duration
	}{
		"after the default":        {Settings{}, 8 * time.Hour},
		"after a shorter time":     {Settings{Duration: caddy.Duration(time.Hour)}, time.Hour},
		"with the ticket":          {Settings{Duration: caddy.Duration(24 * time.Hour)}, 10 * time.Hour},
		"without requests":         {Settings{Idle: caddy.Duration(5 * time.Minute)}, 5 * time.Minute},
		"at last, though not idle": {Settings{Idle: caddy.Duration(30 * 24 * time.Hour)}, 8 * time.Hour},
	} {
		s := w.site(keys, "block", c.with)
		u := s.user("alice")
		cookie := s.begin(u)
		w.clock.Advance(c.ends - time.Second)
		s.wantUser(cookie, u)
		w.clock.Advance(time.Second)
		s.wantNone(name, cookie)
	}
}

// Each request puts the end off, but not beyond that of the session.
func TestSession_Idle(t *testing.T) {
	w := newWorld(t)
	s := w.site(w.process(nil), "block", Settings{Duration: caddy.Duration(time.Hour), Idle: caddy.Duration(10 * time.Minute)})
	cookie, set := s.begin(s.user("alice")), 0
	for i := range 120 {
		w.clock.Advance(30 * time.Second)
		u, again := s.resume(cookie)
		if (u != nil) != (i < 119) {
			t.Fatalf("after %s: %v", time.Duration(i+1)*30*time.Second, u)
		}
		if again != "" {
			cookie, set = again, set+1
		}
	}
	if set != 59 {
		t.Errorf("the cookie was set %d times in an hour, want 59: once a minute", set)
	}
}

func TestSession_NotGood(t *testing.T) {
	w := newWorld(t)
	keys := w.process(nil)
	s := w.site(keys, "block", Settings{})
	u := s.user("alice")
	cookie := s.begin(u)
	name, value, _ := strings.Cut(cookie, "=")
	s.wantNone("another block", w.site(keys, "other", Settings{}).begin(u))
	other := w.site(keys, "block", Settings{})
	other.host = "other.example.com"
	s.wantNone("another site", other.begin(u))
	other.host = "APP.example.com.:8443"
	s.wantUser(other.begin(u), u) // the host is the same
	s.wantNone("a storage of its own", newWorld(t).site(newWorld(t).process(nil), "block", Settings{}).begin(u))
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			changed := slices.Clone(raw)
			changed[i] ^= bit
			s.wantNone(fmt.Sprintf("byte %d changed", i), name+"="+base64.RawURLEncoding.EncodeToString(changed))
		}
		s.wantNone(fmt.Sprintf("cut to %d bytes", i), name+"="+base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	s.wantNone("longer", name+"="+base64.RawURLEncoding.EncodeToString(append(slices.Clone(raw), 0)))
	s.wantNone("not base64", name+"=!"+value)
	s.wantNone("long", name+"="+strings.Repeat("A", 8000))
	s.wantUser(cookie, u)
}

func TestSession_SignOff(t *testing.T) {
	w := newWorld(t)
	s := w.site(w.process(nil), "block", Settings{SignOff: "/bye", Cookie: "mine"})
	u := s.user("alice")
	cookie := s.begin(u)
	if !strings.HasPrefix(cookie, "mine=") {
		t.Fatalf("the cookie is %s", cookie)
	}
	if recorder := httptest.NewRecorder(); s.SignOff(recorder, s.request(cookie)) {
		t.Error("another path signs off")
	}
	r, recorder := s.request(cookie), httptest.NewRecorder()
	r.URL.Path = "/bye"
	if !s.SignOff(recorder, r) || recorder.Code != http.StatusOK || !strings.HasPrefix(recorder.Header().Get("Set-Cookie"), "mine=; Path=/; Max-Age=0;") {
		t.Errorf("%d %v", recorder.Code, recorder.Header())
	}
	// A copied cookie stays good, without the ticket.
	got, _ := s.resume(cookie)
	if got == nil || got.Evidence != nil {
		t.Errorf("afterwards: %v", got)
	}
	// So it does when the user has signed in again, by the same ticket.
	w.clock.Advance(time.Second)
	again := *u
	again.SignedIn = w.clock.Now()
	s.wantUser(s.begin(&again), &again)
	if got, _ = s.resume(cookie); got == nil || got.Evidence != nil {
		t.Errorf("after another sign-in the copied cookie has the ticket again")
	}
	// A process that does not hold the ticket remembers the sign-off, too.
	s.tickets = newTickets(ticketMemory)
	r, recorder = s.request(cookie), httptest.NewRecorder()
	r.URL.Path = "/bye"
	s.SignOff(recorder, r)
	s.tickets.put(u.Evidence)
	if got, _ = s.resume(cookie); got == nil || got.Evidence != nil {
		t.Errorf("after a sign-off without the ticket: %v", got)
	}
}

// Groups that do not fit into the cookie: none is set, which is said once.
func TestSession_TooManyGroups(t *testing.T) {
	w := newWorld(t)
	s := w.site(w.process(nil), "block", Settings{})
	u := s.user("alice")
	most := 0
	for n := 0; n < 6000; n += 10 {
		u.Account.Groups = groups(n)
		set := s.begin(u)
		if set == "" {
			break
		}
		if most = n; len(set) > cookie.MaxSize {
			t.Fatalf("%d bytes", len(set))
		}
		if n%500 == 0 {
			got, _ := s.resume(set)
			if got == nil || !sameSIDs(got.Account.Groups, u.Account.Groups) {
				t.Fatalf("%d groups: %v", n, got)
			}
		}
	}
	t.Logf("a cookie holds %d groups whose numbers are about 37 apart", most)
	if most < 1000 || most > 5000 {
		t.Errorf("%d groups fit", most)
	}
	for range 3 {
		if s.begin(u) != "" {
			t.Error("a cookie is set")
		}
	}
	// The cookie of the user before would sign that one in at the next request.
	recorder := httptest.NewRecorder()
	s.Begin(recorder.Header(), s.request(s.begin(s.user("bob"))), u)
	if cleared := recorder.Header().Get("Set-Cookie"); !strings.HasPrefix(cleared, "__Host-negotiate=; Path=/; Max-Age=0;") {
		t.Errorf("the earlier cookie stays: %q", cleared)
	}
	if n := s.log.FilterMessageSnippet("too many groups").Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if log := fmt.Sprint(s.log.All()); strings.Contains(log, "S-1-5") {
		t.Errorf("groups are logged: %s", log)
	}
}

// groups are n groups of one domain, as they come in the life of a directory.
func groups(n int) (sids []pac.SID) {
	for i := range n {
		sids = append(sids, pac.SID(fmt.Sprintf("S-1-5-21-1004336348-1177238915-682003330-%d", 1100+i*37+i%5)))
	}
	return sids
}

// sameSIDs compares without regard to order.
func sameSIDs(a, b []pac.SID) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// What is loaded again, in this process or another, finds the keys in the storage.
func TestSession_Reload(t *testing.T) {
	w := newWorld(t)
	before := w.site(w.process(nil), "block", Settings{})
	cookies := make(map[string]string)
	for i := range 1000 {
		name := fmt.Sprintf("user%d", i)
		cookies[name] = before.begin(before.user(name))
	}
	after := w.site(w.process(nil), "block", Settings{})
	after.tickets = before.tickets
	for name, cookie := range cookies {
		u, again := after.resume(cookie)
		if u == nil || u.Principal.String() != name+"@CORP.EXAMPLE" || u.Evidence == nil || again != "" {
			t.Fatalf("%s: %v", name, u)
		}
	}
}

func TestKeys_Rotation(t *testing.T) {
	w := newWorld(t)
	keys := w.process(nil)
	s := w.site(keys, "block", Settings{Duration: caddy.Duration(maxDuration)})
	begin := func() (string, cookie.KeyID) {
		u := s.user("alice")
		u.Ends = w.clock.Now().Add(maxDuration)
		set := s.begin(u)
		_, value, _ := strings.Cut(set, "=")
		sealed, ok := cookie.Parse(value)
		if !ok {
			t.Fatalf("cookie %q", set)
		}
		return set, sealed.Key
	}
	first, id := begin()
	w.clock.Advance(rotateAfter - time.Minute)
	last, same := begin()
	w.clock.Advance(time.Minute)
	s.wantNone("after its end", first)
	next, other := begin()
	if same != id || other == id {
		t.Error("the key is to be replaced after 30 days, and not before")
	}
	for _, cookie := range []string{last, next} {
		for _, k := range []*Keys{keys, w.process(nil)} {
			if u, _ := w.site(k, "block", Settings{}).resume(cookie); u == nil {
				t.Error("a cookie is not good after the rotation")
			}
		}
	}
	w.clock.Advance(maxDuration - 2*time.Minute)
	if u, _ := s.resume(last); u == nil {
		t.Error("a cookie of the key's last minute is not good until its end")
	}
	if n := len(w.stored(t)); n != 2 {
		t.Errorf("%d keys are stored, want 2", n)
	}
	w.clock.Advance(2 * time.Hour)
	begin()
	if n := len(w.stored(t)); n != 2 {
		t.Errorf("%d keys are stored, want 2: one is new, and one of no use any more", n)
	}
}

// stored are the master keys that are stored unsealed.
func (w *world) stored(t *testing.T) []*cookie.Key {
	t.Helper()
	b, err := w.storage.Load(t.Context(), "kerberos/sessions/shared")
	if err != nil {
		t.Fatal(err)
	}
	return cookie.ParseKeys(b)
}

// Processes that begin together agree on one key.
func TestKeys_Fleet(t *testing.T) {
	w := newWorld(t)
	var members []*site
	for range 4 {
		members = append(members, w.site(w.process(nil), "block", Settings{}))
	}
	cookies := make([]string, len(members))
	var wg sync.WaitGroup
	for i, s := range members {
		wg.Go(func() { cookies[i] = s.begin(s.user(fmt.Sprint("user", i))) })
	}
	wg.Wait()
	if n := len(w.stored(t)); n != 1 {
		t.Errorf("%d keys are stored, want 1", n)
	}
	for i, s := range members {
		for j, cookie := range cookies {
			if u, _ := s.resume(cookie); u == nil || (u.Evidence != nil) != (i == j) {
				t.Errorf("member %d, cookie of %d: %v", i, j, u)
			}
		}
	}
}

// With a KEY nothing in the storage is of use to who reads it, and who writes it makes no session.
func TestKeys_Sealed(t *testing.T) {
	w := newWorld(t)
	key := []byte(strings.Repeat("k", 32))
	s := w.site(w.process(key), "block", Settings{})
	good := s.begin(s.user("alice"))
	master := s.cfg.Keys.held()[0].Key
	names, err := w.storage.List(t.Context(), "kerberos/sessions", true)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if b, err := w.storage.Load(t.Context(), name); err == nil && strings.Contains(string(b), string(master)) {
			t.Errorf("%s holds the key in the clear", name)
		}
	}
	if u, _ := w.site(w.process(key), "block", Settings{}).resume(good); u == nil {
		t.Error("another process with the KEY does not open the cookie")
	}
	planted := &cookie.Key{Made: w.clock.Now(), Key: make([]byte, cookie.KeySize)}
	if err := w.storage.Store(t.Context(), "kerberos/sessions/shared", cookie.AppendKeys(nil, []*cookie.Key{planted})); err != nil {
		t.Fatal(err)
	}
	value, err := planted.Seal(s.rand, "", s.place(s.request()), s.content(s.user("administrator")))
	if err != nil {
		t.Fatal(err)
	}
	forged := "__Host-negotiate=" + value
	w.site(w.process(key), "block", Settings{}).wantNone("a key that was planted", forged)
	if u, _ := w.site(w.process(nil), "block", Settings{}).resume(forged); u == nil {
		t.Error("without KEY the planted key would be used: the test is not what it was")
	}
	for _, name := range names {
		if b, err := w.storage.Load(t.Context(), name); err == nil {
			b[len(b)/2] ^= 1
			if err := w.storage.Store(t.Context(), name, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	after := w.site(w.process(key), "block", Settings{})
	after.wantNone("a key that was changed", good)
	u := after.user("alice")
	after.wantUser(after.begin(u), u)
}

// Requests with cookies of unknown keys do not have the storage read each time.
func TestKeys_Unknown(t *testing.T) {
	w := newWorld(t)
	counting := &countingStorage{Storage: w.storage}
	w.storage = counting
	elsewhere := newWorld(t)
	forged := elsewhere.site(elsewhere.process(nil), "block", Settings{})
	cookie := forged.begin(forged.user("alice"))
	s := w.site(w.process(nil), "block", Settings{})
	for range 100 {
		s.wantNone("of another storage", cookie)
	}
	if n := counting.count(); n != 1 {
		t.Errorf("the storage was read %d times, want 1", n)
	}
	w.clock.Advance(lookPause)
	s.wantNone("of another storage", cookie)
	if n := counting.count(); n != 2 {
		t.Errorf("the storage was read %d times, want 2", n)
	}
}

type countingStorage struct {
	certmagic.Storage
	mu     sync.Mutex
	loads  int
	broken error
}

func (s *countingStorage) Load(ctx context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.broken != nil {
		return nil, s.broken
	}
	return s.Storage.Load(ctx, name)
}

func (s *countingStorage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

// Without the storage users sign in by tokens, and the sessions there are stay good.
func TestKeys_StorageFails(t *testing.T) {
	w := newWorld(t)
	counting := &countingStorage{Storage: w.storage}
	w.storage = counting
	keys := w.process(nil)
	s := w.site(keys, "block", Settings{})
	u := s.user("alice")
	cookie := s.begin(u)
	counting.mu.Lock()
	counting.broken = errors.New("oops")
	counting.mu.Unlock()
	s.wantUser(cookie, u)
	s.wantUser(s.begin(u), u)
	fresh := w.site(w.process(nil), "block", Settings{})
	if fresh.begin(u) != "" {
		t.Error("a cookie is set without a key in the storage")
	}
	fresh.wantNone("without the storage", cookie)
}

func TestKeys_WrongClock(t *testing.T) {
	w := newWorld(t)
	w.clock.Advance(365 * 24 * time.Hour)
	s := w.site(w.process(nil), "block", Settings{})
	s.begin(s.user("alice"))
	w.clock.Advance(-365 * 24 * time.Hour)
	s = w.site(w.process(nil), "block", Settings{})
	u := s.user("alice")
	s.wantUser(s.begin(u), u)
	if keys := w.stored(t); len(keys) != 1 || !keys[0].Made.Equal(w.clock.Now()) {
		t.Errorf("the key of the future is still there, or no other: %d keys", len(keys))
	}
}

func TestTickets_Bounded(t *testing.T) {
	now := time.Now()
	ticket := func(name string, end time.Time) *messages.Credential {
		return &messages.Credential{Ticket: []byte(name), EndTime: end}
	}
	later := now.Add(time.Hour)
	tickets := newTickets(3 * (ticketExtra + 1))
	a, b, c, d := ticket("a", later), ticket("b", later), ticket("c", later), ticket("d", later)
	for _, x := range []*messages.Credential{a, b, c, a, d} { // a was used last but one
		tickets.put(x)
	}
	for x, held := range map[*messages.Credential]bool{a: true, b: false, c: true, d: true} {
		if got := tickets.get(cookie.IDOf(x.Ticket), now, now); (got == x) != held {
			t.Errorf("%s held: %v, want %t", x.Ticket, got, held)
		}
	}
	tickets.drop(cookie.IDOf(a.Ticket), now)
	tickets.drop(cookie.IDOf(a.Ticket), now)
	if tickets.get(cookie.IDOf(a.Ticket), later, now) != nil || tickets.get(cookie.IDOf(c.Ticket), now, later) != nil {
		t.Error("a ticket is held that was dropped, or has ended")
	}
	if tickets.size != 2*ticketExtra+1 || tickets.used.Len() != 2 || len(tickets.byID) != 2 { // d, and that a was dropped
		t.Errorf("%d bytes, %d in order, %d by name", tickets.size, tickets.used.Len(), len(tickets.byID))
	}
	tickets.put(ticket(strings.Repeat("x", 4*ticketExtra), later))
	if tickets.size != 0 || tickets.used.Len() != 0 {
		t.Error("a ticket is held that is larger than all memory")
	}
}

func TestSettings_Check(t *testing.T) {
	for text, s := range map[string]Settings{
		"":                     {},
		"is not a duration":    {Duration: caddy.Duration(time.Second)},
		"30d":                  {Duration: caddy.Duration(31 * 24 * time.Hour)},
		"idle":                 {Idle: caddy.Duration(-time.Second)},
		"sign_off":             {SignOff: "bye"},
		"path of a page":       {SignOff: "/bye?now"},
		`"/sign%20off" is not`: {SignOff: "/sign%20off"}, // the path of a request is decoded
		"name of a cookie":     {Cookie: "a b"},
		"cookie __Host-intran": {Cookie: "a;b"},
	} {
		err := s.Check()
		if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", s, err, text)
		}
	}
	if err := (*Settings)(nil).Check(); err != nil {
		t.Error(err)
	}
	if err := (&Settings{}).CheckListener(":80"); err == nil || !strings.Contains(err.Error(), ":80 without TLS") {
		t.Error(err)
	}
	if err := errors.Join((&Settings{}).CheckListener(""), (*Settings)(nil).CheckListener(":80")); err != nil {
		t.Error(err)
	}
}
