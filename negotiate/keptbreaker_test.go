package negotiate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// breakerStore is a BreakerStore in memory with one entry.
type breakerStore struct {
	lock chan struct{}

	mu      sync.Mutex
	content []byte
	fails   bool
	saved   chan struct{} // closed by the next Save
	saves   int
}

func newBreakerStore() *breakerStore {
	return &breakerStore{lock: make(chan struct{}, 1), saved: make(chan struct{})}
}

func (s *breakerStore) Load(context.Context, messages.Principal) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		return nil
	}
	return bytes.Clone(s.content)
}

func (s *breakerStore) Save(_ context.Context, _ messages.Principal, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		return
	}
	s.content, s.saves = content, s.saves+1
	close(s.saved)
	s.saved = make(chan struct{})
}

func (s *breakerStore) Lock(ctx context.Context, _ messages.Principal) (unlock func(), changed bool) {
	s.mu.Lock()
	saved := s.saved
	s.mu.Unlock()
	select {
	case s.lock <- struct{}{}:
		return func() { <-s.lock }, false
	case <-saved:
		changed = true
	case <-ctx.Done():
	}
	return func() {}, changed
}

func (s *breakerStore) set(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content = []byte(content)
}

// settled waits until no login is under way nor waits to be written, and returns what is stored.
func (s *breakerStore) settled(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case s.lock <- struct{}{}:
		<-s.lock
	case <-ctx.Done():
		t.Fatal("gave up waiting for the entry to be written")
	}
	return string(s.Load(ctx, messages.Principal{}))
}

// member is a process with the world's account: a restarted one, or one of a fleet.
func (w *world) member(secret negotiate.Secret) *negotiate.Identity {
	w.T.Helper()
	w.Tickets = cache.New[*negotiate.Ticket](cache.Config{Now: w.Clock.Now})
	return w.Identity(secret)
}

func (w *world) loginOf(id *negotiate.Identity) error {
	_, err := id.Initiator(w.settings).Login(w.T.Context())
	return err
}

// newKeptWorld is a world whose next identities keep their breakers.
func newKeptWorld(t *testing.T) (*world, *breakerStore) {
	t.Helper()
	w, s := newWorld(t, byPassword("unused")), newBreakerStore()
	w.Breakers = s
	return w, s
}

func TestKeptBreaker_Restarts(t *testing.T) {
	w, s := newKeptWorld(t)
	for n := range 10 {
		id := w.member(negotiate.PasswordSecret("wrong"))
		if err := w.loginOf(id); err == nil {
			t.Fatal("authenticated")
		}
		refused := id.Refused()
		if refused == nil || refused.Until.Sub(w.Clock.Now()) > 30*time.Minute {
			t.Fatalf("start %d: breaker %v", n, refused)
		}
		s.settled(t)
		w.Clock.Advance(time.Minute)
	}
	if n := w.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs in ten starts", n)
	}
	if n := seen[negotiate.LoginFailed](w); n != 10 {
		t.Errorf("reported at %d of ten starts", n)
	}
	must.Do(t, w.loginOf(w.member(negotiate.PasswordSecret("right"))))
	w.Clock.Advance(30 * time.Minute)
	must.Do(t, w.loginOf(w.member(negotiate.PasswordSecret("right"))))
	if left := s.settled(t); left != "" {
		t.Errorf("left in the storage: %s", left)
	}
	w.KDC.ResetCounts()
	if err := w.loginOf(w.member(negotiate.PasswordSecret("wrong"))); err == nil || w.KDC.Counts().ASReqPreAuth == 0 {
		t.Errorf("not tried again after half an hour: %v", err)
	}
}

func TestKeptBreaker_Fleet(t *testing.T) {
	w, s := newKeptWorld(t)
	var wg sync.WaitGroup
	for range 8 {
		id := w.member(negotiate.PasswordSecret("wrong"))
		wg.Go(func() {
			if w.loginOf(id) == nil || id.Refused() == nil {
				t.Error("authenticated, or the breaker is closed")
			}
		})
	}
	wg.Wait()
	s.settled(t)
	if n := w.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs by eight members that start at once", n)
	}
	// A member that has the right password already does not close the others' breakers.
	must.Do(t, w.loginOf(w.member(negotiate.PasswordSecret("right"))))
	w.KDC.ResetCounts()
	if err := w.loginOf(w.member(negotiate.PasswordSecret("wrong"))); err == nil || w.KDC.Counts().ASReqPreAuth != 0 {
		t.Errorf("%v, with %d proofs", err, w.KDC.Counts().ASReqPreAuth)
	}
}

// So it is if the KDC answers the proofs with errors that are no verdict.
func TestKeptBreaker_FleetWithoutVerdict(t *testing.T) {
	w, s := newKeptWorld(t)
	w.KDC.Use(kdctest.AS(func(next kdctest.Handler) kdctest.Handler {
		fail := kdctest.Fail(messages.KRB_ERR_GENERIC)(next)
		return func(q *kdctest.Question) kdctest.Answer {
			before := w.KDC.Counts().ASReqPreAuth
			if a := next(q); w.KDC.Counts().ASReqPreAuth == before {
				return a
			}
			return fail(q)
		}
	}))
	var wg sync.WaitGroup
	for range 8 {
		id := w.member(negotiate.PasswordSecret("wrong"))
		wg.Go(func() {
			if w.loginOf(id) == nil {
				t.Error("logged in")
			}
		})
	}
	wg.Wait()
	s.settled(t)
	if n := w.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d proofs by eight members that start at once", n)
	}
}

func TestKeptBreaker_Cleared(t *testing.T) {
	for name, by := range map[string]func(w *world, s *breakerStore, id *negotiate.Identity, path string){
		"by a flush": func(_ *world, _ *breakerStore, id *negotiate.Identity, _ string) { id.Flush() },
		"by a flush of a process that has not logged in": func(w *world, s *breakerStore, _ *negotiate.Identity, path string) {
			w.member(negotiate.PasswordFileSecret(path)).Flush()
		},
		"by the file": func(w *world, _ *breakerStore, _ *negotiate.Identity, _ string) {
			w.write("password", []byte("wrong"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newKeptWorld(t)
			path := w.write("password", []byte("wrong"))
			id := w.member(negotiate.PasswordFileSecret(path))
			if w.loginOf(id) == nil || s.settled(t) == "" {
				t.Fatal("authenticated, or nothing is stored")
			}
			w.Proxy.ChangePassword("wrong", false) // by an administrator
			if w.loginOf(id) == nil {
				t.Fatal("the breaker is closed")
			}
			by(w, s, id, path)
			if name != "by the file" {
				id = w.member(negotiate.PasswordFileSecret(path)) // and it has not come back
				waitUntil(t, func() bool { return s.settled(t) == "" })
			}
			must.Do(t, w.loginOf(id))
			waitUntil(t, func() bool { return s.settled(t) == "" })
		})
	}
}

// waitUntil waits for a condition, for a minute at most.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("gave up waiting")
		}
	}
}

func TestKeptBreaker_Entries(t *testing.T) {
	w, s := newKeptWorld(t)
	if w.loginOf(w.member(negotiate.PasswordSecret("wrong"))) == nil {
		t.Fatal("authenticated")
	}
	good := s.settled(t)
	var entry map[string]map[string]any
	must.Do(t, json.Unmarshal([]byte(good), &entry))
	if len(entry) != 1 {
		t.Fatalf("stored: %s", good)
	}
	// with is the entry with other values.
	with := func(change map[string]any) string {
		changed := make(map[string]map[string]any)
		for tag, state := range entry {
			changed[tag] = maps.Clone(state)
			maps.Copy(changed[tag], change)
		}
		return string(must.OK(json.Marshal(changed))(t))
	}
	at := func(d time.Duration) time.Time { return w.Clock.Now().Add(d) }
	for name, row := range map[string]struct {
		content string
		open    bool // without a login
	}{
		"as stored":                     {good, true},
		"by a clock four minutes ahead": {with(map[string]any{"refused": at(4 * time.Minute), "until": at(34 * time.Minute)}), true},
		"its end in the future":         {with(map[string]any{"until": at(36 * time.Minute)}), false},
		"its end far in the future":     {with(map[string]any{"until": at(100_000 * time.Hour)}), false},
		"refused in the future":         {with(map[string]any{"refused": at(time.Hour)}), false},
		"over":                          {with(map[string]any{"refused": at(-time.Hour), "until": at(-time.Second)}), false},
		"no proofs":                     {with(map[string]any{"proofs": 0}), false},
		"too many proofs":               {with(map[string]any{"proofs": 1 << 40}), false},
		"negative":                      {with(map[string]any{"proofs": -1}), false},
		"no time":                       {with(map[string]any{"until": "tomorrow"}), false},
		"truncated":                     {good[:len(good)-3], false},
		"empty":                         {"", false},
		"garbage":                       {"\x00\xff{{{", false},
		"null":                          {"null", false},
		"null inside":                   {strings.Replace(good, good[strings.Index(good, ":")+1:], "null}", 1), false},
		"a list":                        {"[1,2]", false},
		"too large":                     {good + strings.Repeat(" ", 1<<20), false},
		"another credential's":          {strings.Replace(good, good[2:4], "zz", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			s.settled(t)
			s.set(row.content)
			w.KDC.ResetCounts()
			id := w.member(negotiate.PasswordSecret("wrong"))
			if w.loginOf(id) == nil {
				t.Fatal("authenticated")
			}
			n := w.KDC.Counts().ASReqPreAuth
			if (n == 0) != row.open || n > 3 {
				t.Errorf("%d proofs", n)
			}
			refused := id.Refused()
			if refused == nil || refused.Until.After(w.Clock.Now().Add(30*time.Minute)) {
				t.Errorf("breaker %v", refused)
			}
		})
	}
}

// What is stored says hardly more of a password than that there is one.
func TestKeptBreaker_TellsNoSecret(t *testing.T) {
	tags := make(map[string]bool)
	for n := range 4 {
		w, s := newKeptWorld(t)
		password := fmt.Sprintf("a wrong password %d", n)
		if w.loginOf(w.member(negotiate.PasswordSecret(password))) == nil {
			t.Fatal("authenticated")
		}
		content := s.settled(t)
		var entry map[string]any
		must.Do(t, json.Unmarshal([]byte(content), &entry))
		for tag := range entry {
			if len(tag) != 2 {
				t.Errorf("a tag of %d digits: more than a byte confirms a guess", len(tag))
			}
			tags[tag] = true
		}
		if strings.Contains(content, "password") || strings.Contains(content, "svc-proxy") {
			t.Errorf("stored: %s", content)
		}
	}
	if len(tags) < 2 {
		t.Errorf("tags %v do not tell credentials apart", tags)
	}
}

func TestKeptBreaker_StorageFails(t *testing.T) {
	w, s := newKeptWorld(t)
	s.fails = true
	must.Do(t, w.loginOf(w.member(negotiate.PasswordSecret("right"))))
	id := w.member(negotiate.PasswordSecret("wrong"))
	w.KDC.ResetCounts()
	for range 5 {
		if w.loginOf(id) == nil {
			t.Fatal("authenticated")
		}
	}
	if n := w.KDC.Counts().ASReqPreAuth; n == 0 || n > 3 || id.Refused() == nil {
		t.Errorf("%d proofs, breaker %v", n, id.Refused())
	}
	// A login that works and nothing to forget: nothing is written.
	s.settled(t)
	s.mu.Lock()
	s.fails = false
	s.mu.Unlock()
	must.Do(t, w.loginOf(w.member(negotiate.PasswordSecret("right"))))
	s.settled(t)
	if s.saves != 0 {
		t.Errorf("%d writings", s.saves)
	}
}
