package rotation

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestChange_PasswordFile(t *testing.T) {
	e := newEnv(t)
	path := e.passwordFile()
	before := must.OK(os.Stat(path))(t)
	m := e.startFile(path)
	must.Do(t, m.login())
	must.Do(t, m.look())
	info := must.OK(os.Stat(path))(t)
	if info.Mode() != before.Mode() || info.ModTime().Sub(e.Clock.True()).Abs() > time.Minute {
		t.Errorf("mode %s, modified %s", info.Mode(), info.ModTime())
	}
	if e.Proxy.HasPassword(first) {
		t.Error("the first password is still good")
	}
	m.wantSettled()
	e.wantWrongProofs(0)
	if e.logs.FilterMessage("the password was changed").Len() != 1 {
		t.Errorf("logged: %v", e.logs.All())
	}
	must.Do(t, m.look()) // not due any more
	if n := e.server.Requests(); n != 1 {
		t.Errorf("%d requests", n)
	}
	e.startFile(path).wantSettled()
}

// A symbolic link stays one, and its target is replaced.
func TestChange_SymbolicLink(t *testing.T) {
	e := newEnv(t)
	target := e.passwordFile()
	link := filepath.Join(t.TempDir(), "link")
	must.Do(t, os.Symlink(target, link))
	m := e.startFile(link)
	must.Do(t, m.look())
	if to, err := os.Readlink(link); err != nil || to != target {
		t.Errorf("the link leads to %s: %v", to, err)
	}
	m.wantSettled()
	e.startFile(target).wantSettled()
}

func TestChange_NotDue(t *testing.T) {
	e := newEnv(t)
	for age, want := range map[time.Duration]int{0: 0, every/2 + every/3: 0, every - every/10: 1} {
		before := e.server.Requests()
		password := must.OK(secretfile.ReadPassword(e.passwordFile()))(t)
		e.Proxy.ChangePassword(password, false)
		must.Do(t, e.startFile(e.file("password", []byte(password), age)).look())
		if n := e.server.Requests() - before; n != want {
			t.Errorf("age %s: %d requests", age, n)
		}
	}
}

// Both names of the account get the new keys; the old ones stay; another account's are not touched.
func TestChange_Keytab(t *testing.T) {
	e := newEnv(t, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.KVNO(7))
	content := must.OK(e.Realm.Keytab(e.Proxy, e.Web))(t)
	before := must.OK(keytab.Parse(content))(t)
	path := e.file("keytab", content, every)
	m := e.start(path, negotiate.KeytabSecret(path, e.Principal()))
	must.Do(t, m.look())
	after := must.OK(negotiate.ReadKeytab(path))(t)
	for _, p := range before.Principals() {
		want := 2 * len(before.Keys(p)) // two versions of each type
		if p.Name.String() == e.Web.Name() {
			want = len(before.Keys(p))
		}
		if got := after.Keys(p); len(got) != want || want != 2 && (got[0].KVNO != 8 || got[len(got)-1].KVNO != 7) {
			t.Errorf("%s: %v", p, got)
		}
	}
	for _, id := range []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96} {
		wantKey := must.OK(keytab.Parse(must.OK(e.Realm.Keytab(e.Proxy))(t)))(t)
		want, _ := wantKey.Key(e.Principal(), id, 8)
		if got, ok := after.Key(e.Principal(), id, 8); !ok || !got.Equal(want) {
			t.Errorf("the key of type %s is not the KDC's", id)
		}
	}
	m.wantAlone()
	must.Do(t, m.login())
	must.Do(t, e.start(path, negotiate.KeytabSecret(path, e.Principal())).login())
	e.wantWrongProofs(0)

	// Until no ticket can have them any more.
	for range 2 {
		e.Clock.Advance(every)
		must.Do(t, m.look())
	}
	if got := must.OK(negotiate.ReadKeytab(path))(t).Keys(e.Principal()); len(got) != 4 || got[0].KVNO != 10 || got[3].KVNO != 9 {
		t.Errorf("after three changes: %v", got)
	}
}

func TestChange_RefusedByPolicy(t *testing.T) {
	windows := make([]byte, 14, 30)
	binary.BigEndian.PutUint32(windows[2:], 12)
	windows = binary.BigEndian.AppendUint64(windows, 0)
	windows = binary.BigEndian.AppendUint64(windows, 2*864_000_000_000)
	for name, c := range map[string]struct{ text, want string }{
		"MIT":     {"Current password was changed less than the minimum age ago.", "minimum age"},
		"Windows": {string(windows), "no change within 2 days"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.store.shares = true
			e.policy = func(string, string) (uint16, []byte) { return 4, []byte(c.text) }
			path := e.passwordFile()
			before := must.OK(os.ReadFile(path))(t)
			m := e.startFile(path)
			var refused *kpasswd.RefusedError
			if err := m.look(); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v", err)
			}
			if after := must.OK(os.ReadFile(path))(t); string(after) != string(before) || e.store.held != nil {
				t.Error("something was changed")
			}
			m.wantSettled()
			e.wantWrongProofs(0)
			for range 100 {
				e.Clock.Advance(10 * time.Minute)
				must.Do(t, m.look())
			}
			if n := e.server.Requests(); n != 1 {
				t.Errorf("%d requests within a day", n)
			}
			logged := e.logs.FilterMessage("the password is not changed").All()
			if len(logged) != 1 || logged[0].ContextMap()["not_before"] == nil || logged[0].ContextMap()["remedy"] == "" {
				t.Errorf("logged: %v", logged)
			}
			e.Clock.Advance(24 * time.Hour)
			e.policy = nil
			must.Do(t, m.look())
			m.wantSettled()
		})
	}
}

// The KDC is not asked if the file could not be written afterwards.
func TestChange_FileCannotBeReplaced(t *testing.T) {
	for name, spoil := range map[string]func(path string) string{
		"the file":      func(path string) string { return path + ".new" },
		"the candidate": func(path string) string { return candidate.Path(path) + ".new" },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			path := e.passwordFile()
			obstacle := spoil(path) // root may write everywhere, but cannot remove a folder that is not empty in this way
			must.Do(t, os.MkdirAll(filepath.Join(obstacle, "x"), 0o700))
			m := e.startFile(path)
			if err := m.look(); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
			if n := e.server.Requests(); n != 0 {
				t.Errorf("the KDC was asked %d times", n)
			}
			must.Do(t, m.login())
			must.Do(t, os.RemoveAll(obstacle))
			e.Clock.Advance(retryPause)
			must.Do(t, m.look())
			m.wantSettled()
		})
	}
}

// The password is changed, and nothing says so.
func TestChange_LostReply(t *testing.T) {
	e := newEnv(t)
	m := e.startFile(e.passwordFile())
	e.server.Use(func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			next(q)
			return kdctest.Answer{}
		}
	})
	must.Do(t, m.look()) // a login has shown it
	m.wantSettled()
	e.wantWrongProofs(0)
}

// The request is lost, or it is late: the candidate stays, and is asked for again.
func TestChange_LostRequest(t *testing.T) {
	e := newEnv(t)
	path := e.passwordFile()
	m := e.startFile(path)
	e.server.Use(kdctest.Silent())
	if err := m.look(); !errors.Is(err, krb5core.ErrPasswordUnknown) {
		t.Fatalf("%v", err)
	}
	c := e.candidateOf(path, first)
	if c == nil {
		t.Fatal("the candidate is gone")
	}
	e.wantWrongProofs(3)
	must.Do(t, m.login())
	e.wantWrongProofs(3)

	t.Run("late", func(t *testing.T) {
		e.Proxy.ChangePassword(c.Password, false)
		must.Do(t, m.login())
		e.wantWrongProofs(3)
		e.Proxy.ChangePassword(first, false)
	})
	e.Clock.Advance(retryPause)
	if err := m.look(); !errors.Is(err, krb5core.ErrPasswordUnknown) {
		t.Fatalf("%v", err)
	}
	if again := e.candidateOf(path, first); again == nil || again.Password != c.Password {
		t.Error("another candidate was asked for, though the first may still become the password")
	}
	e.server.ClearFaults()
	e.Clock.Advance(retryLongest)
	must.Do(t, m.look())
	if !e.Proxy.HasPassword(c.Password) {
		t.Error("another password was set")
	}
	m.wantSettled()
}

// A refusal of the second request does not say that the first one was not read.
func TestChange_RefusedAfterALostReply(t *testing.T) {
	e := newEnv(t)
	path := e.passwordFile()
	m := e.startFile(path)
	e.server.Use(kdctest.Silent())
	if err := m.look(); err == nil {
		t.Fatal("no error")
	}
	c := e.candidateOf(path, first)
	e.server.ClearFaults()
	e.policy = func(string, string) (uint16, []byte) { return 4, []byte("cannot reuse") }
	e.Clock.Advance(retryPause)
	if err := m.look(); err == nil {
		t.Fatal("no error")
	}
	if again := e.candidateOf(path, first); again == nil || again.Password != c.Password {
		t.Fatal("the candidate is gone, though it may be the password")
	}
	e.Proxy.ChangePassword(c.Password, false)
	must.Do(t, m.login())
	e.Clock.Advance(refusedPause)
	must.Do(t, m.look())
	m.wantSettled()
}

// A crash at each step. The process that starts afterwards logs in, with three wrong proofs at most
// in all, and completes the change.
func TestRestart_AfterEachStep(t *testing.T) {
	const second = "the second password, long enough"
	for name, c := range map[string]struct {
		known bool // to the KDC
		left  func(e *env, path string)
	}{
		"the candidate was being written": {left: func(e *env, path string) { e.leave(candidate.Path(path)+".new", []byte("CNCAND")) }},
		"before the request":              {left: func(e *env, path string) { e.leaveCandidate(path, second) }},
		"after the KDC's change":          {known: true, left: func(e *env, path string) { e.leaveCandidate(path, second) }},
		"the file was being written": {known: true, left: func(e *env, path string) {
			e.leaveCandidate(path, second)
			e.leave(path+".new", []byte(second[:5]))
		}},
		"before the candidate was removed": {known: true, left: func(e *env, path string) {
			e.leaveCandidate(path, second)
			must.Do(e.T, os.WriteFile(path, []byte(second+"\n"), 0o640))
		}},
	} {
		for _, first := range []string{"login", "rotation"} {
			t.Run(name+", "+first+" first", func(t *testing.T) {
				e := newEnv(t)
				e.Realm.SetLockout(4)
				path := e.passwordFile()
				c.left(e, path)
				if c.known {
					e.Proxy.ChangePassword(second, false)
				}
				m := e.startFile(path)
				if first == "login" {
					must.Do(t, m.login())
				}
				must.Do(t, m.look())
				must.Do(t, m.login())
				e.wantWrongProofs(3)
				m.wantSettled()
				if c.known && e.server.Requests() != 0 {
					t.Error("the password was changed once more")
				}
			})
		}
	}
}

func (e *env) leave(path string, content []byte) {
	e.T.Helper()
	must.Do(e.T, os.WriteFile(path, content, 0o640))
}

// leaveCandidate leaves a candidate beside the file with the first password.
func (e *env) leaveCandidate(path, password string) {
	e.T.Helper()
	present := krb5core.NewAccount(e.Principal(), krb5core.PasswordKeys(func() (string, error) { return first, nil }), nil)
	e.leave(candidate.Path(path), must.OK(negotiate.SealCandidate(candidate.Candidate{Password: password, Made: e.Clock.True()}, present))(e.T))
}

// Neither password is right: three proofs in all, then none for half an hour.
func TestRestart_NeitherPassword(t *testing.T) {
	e := newEnv(t)
	path := e.passwordFile()
	e.leaveCandidate(path, "the second password")
	e.Proxy.ChangePassword("a third password", false)
	m := e.startFile(path)
	for range 10 {
		if err := m.look(); err == nil && m.rotation.pause() <= 0 {
			t.Error("no error")
		}
		if err := m.login(); err == nil {
			t.Error("logged in")
		}
		e.Clock.Advance(time.Minute)
	}
	if n := e.wrongProofs(); n == 0 || n > 3 {
		t.Errorf("%d wrong proofs", n)
	}
	if e.candidateOf(path, first) == nil {
		t.Error("the candidate is gone, though nothing shows that it is not the password")
	}
}

// Our clock is wrong: the KDC's is learnt, and the change is made with it.
func TestChange_WrongClock(t *testing.T) {
	for _, wrong := range []time.Duration{-time.Hour, time.Hour} {
		e := newEnv(t)
		e.Clock.Wrong(wrong)
		path := e.file("password", []byte(first), 2*every)
		m := e.startFile(path)
		must.Do(t, m.look())
		m.wantSettled()

		e.leaveCandidateOf(path, "the last password")
		e.Proxy.ChangePassword("the last password", false)
		restarted := e.startFile(path)
		must.Do(t, restarted.look())
		restarted.wantSettled()
	}
}

// leaveCandidateOf leaves a candidate beside a file.
func (e *env) leaveCandidateOf(path, password string) {
	e.T.Helper()
	present := must.OK(negotiate.PasswordFileSecret(path).Open(e.Principal(), nil))(e.T)
	e.leave(candidate.Path(path), must.OK(negotiate.SealCandidate(candidate.Candidate{Password: password, Made: e.Clock.True()}, present))(e.T))
}

// Two Caddys with one file, at the same time.
func TestFleet_OneFile(t *testing.T) {
	e := newEnv(t)
	path := e.passwordFile()
	members := []*member{e.startFile(path), e.startFile(path), e.startFile(path)}
	var all sync.WaitGroup
	for _, m := range members {
		for _, do := range []func() error{m.login, m.look, m.login} {
			all.Go(func() {
				if err := do(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if n := e.server.Requests(); n != 1 {
		t.Errorf("%d requests", n)
	}
	for _, m := range members {
		m.wantSettled()
	}
	e.wantWrongProofs(0)
}

// Two Caddys with a file each and a storage with a key.
func TestFleet_OwnFiles(t *testing.T) {
	for _, first := range []string{"login", "look", "restart"} {
		t.Run(first, func(t *testing.T) {
			e := newEnv(t)
			e.store.shares = true
			a, b := e.startFile(e.passwordFile()), e.startFile(e.passwordFile())
			must.Do(t, a.look())
			a.wantSettled()
			switch first {
			case "login":
				must.Do(t, b.login())
				must.Do(t, b.look())
			case "look":
				must.Do(t, b.look())
			case "restart":
				b = e.startFile(b.path)
				must.Do(t, b.login())
				must.Do(t, b.look())
			}
			b.wantSettled()
			e.wantWrongProofs(0)
			if n := e.server.Requests(); n != 1 {
				t.Errorf("%d requests", n)
			}
			// The next change is the other's.
			e.Clock.Advance(every)
			must.Do(t, b.look())
			must.Do(t, a.look())
			a.wantSettled()
			b.wantSettled()
			e.wantWrongProofs(0)
		})
	}
}

// One member is killed after the KDC has changed the password: the other knows it.
func TestFleet_OneKilled(t *testing.T) {
	e := newEnv(t)
	e.store.shares = true
	a, b := e.startFile(e.passwordFile()), e.startFile(e.passwordFile())
	c := candidate.Candidate{Password: "the second password", Made: e.Clock.True()}
	e.leaveCandidate(a.path, c.Password)
	e.store.held = &c
	e.Proxy.ChangePassword(c.Password, false)
	must.Do(t, b.login())
	must.Do(t, b.look())
	b.wantSettled()
	a = e.startFile(a.path)
	must.Do(t, a.login())
	must.Do(t, a.look())
	a.wantSettled()
	e.wantWrongProofs(0)
}

// A storage that cannot keep the candidate for the others: no password is changed.
func TestFleet_StorageDown(t *testing.T) {
	e := newEnv(t)
	e.store.shares, e.store.broken = true, errors.New("the storage is down")
	m := e.startFile(e.passwordFile())
	if err := m.look(); err == nil || e.server.Requests() != 0 {
		t.Errorf("%v, %d requests", err, e.server.Requests())
	}
	m.wantSettled()
}

// The file of a member that was replaced by hand is newer than what the storage has.
func TestFleet_FileReplacedByHand(t *testing.T) {
	e := newEnv(t)
	e.store.shares = true
	a, b := e.startFile(e.passwordFile()), e.startFile(e.passwordFile())
	must.Do(t, a.look())
	e.Clock.Advance(time.Hour)
	const byHand = "a password set by hand"
	e.Proxy.ChangePassword(byHand, false)
	at := e.Clock.True()
	must.Do(t, os.WriteFile(b.path, []byte(byHand), 0o640))
	must.Do(t, os.Chtimes(b.path, at, at))
	must.Do(t, b.login())
	must.Do(t, b.look())
	b.wantSettled()
	e.wantWrongProofs(0)
}

func TestNewPassword_MeetsPolicies(t *testing.T) {
	seen := make(map[string]bool)
	for range 500 {
		p := newPassword([]string{"HTTP", "svc-proxy.corp.example"})
		if len(p) != passwordLength || seen[p] || p != strings.TrimSpace(p) || strings.Count(p, " ") == 0 {
			t.Fatalf("%q", p)
		}
		seen[p] = true
		for _, class := range classes {
			if n := len(p) - len(strings.Map(func(r rune) rune {
				if strings.ContainsRune(class, r) {
					return -1
				}
				return r
			}, p)); n < 2 {
				t.Fatalf("%q has %d of %q", p, n, class)
			}
		}
	}
	for password, want := range map[string]bool{"xxHTTPxx": true, "x-Proxy-x": true, "example!": true, "svX": false, "httX": false} {
		if got := names(password, []string{"HTTP", "svc-proxy.corp.example"}); got != want {
			t.Errorf("%q has a part of the name: %t", password, got)
		}
	}
}

// One member is killed before the storage has the candidate: it stores it before it asks the KDC.
func TestFleet_OneKilledEarly(t *testing.T) {
	e := newEnv(t)
	e.store.shares = true
	a, b := e.startFile(e.passwordFile()), e.startFile(e.passwordFile())
	e.leaveCandidate(a.path, "the second password")
	must.Do(t, a.look())
	if e.store.held == nil || e.store.held.Password != "the second password" {
		t.Error("the storage does not have it")
	}
	e.wantWrongProofs(3)
	must.Do(t, b.login())
	must.Do(t, b.look())
	a.wantSettled()
	b.wantSettled()
	e.wantWrongProofs(0)
}
