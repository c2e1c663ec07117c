package rotation

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const (
	first = "the first password"
	every = 30 * 24 * time.Hour
)

// env is a realm whose account may change its password.
type env struct {
	*identitytest.Domain
	server *kdctest.PasswordServer
	policy func(client, password string) (uint16, []byte) // nil permits all
	client *krb5core.Client
	logs   *observer.ObservedLogs
	log    *zap.Logger
	store  *memoryStore
	locks  *loginLocks
}

func newEnv(t *testing.T, proxy ...kdctest.Option) *env {
	t.Helper()
	e := &env{Domain: identitytest.New(t, identitytest.Config{Password: first, Proxy: proxy}), store: new(memoryStore), locks: newLoginLocks()}
	e.server = must.OK(kdctest.StartPasswordServer(kdctest.PasswordServerConfig{
		Realm: e.Realm, Now: e.Clock.True,
		Policy: func(client, password string) (uint16, []byte) {
			if e.policy == nil {
				return 0, nil
			}
			return e.policy(client, password)
		},
	}))(t)
	t.Cleanup(e.server.Stop)
	kdcs, passwords := identitytest.Servers(t, e.KDC.Addr()), identitytest.Servers(t, e.server.Addr())
	// No server here is slow: asking another, or again, would make of a busy machine a lost packet.
	patient := func(f kdc.Finder) *kdc.Sender {
		return must.OK(kdc.NewSender(kdc.Config{Finder: f, HedgeDelay: time.Minute, ServerTimeout: time.Minute}))(t)
	}
	e.client = must.OK(krb5core.NewClient(krb5core.Config{
		Sender: patient(kdcs), Finder: kdcs, Passwords: patient(passwords), Timeout: 3 * time.Second,
	}))(t)
	core, logs := observer.New(zapcore.InfoLevel)
	e.log, e.logs = zap.New(core), logs
	return e
}

// file writes a secret that is so old.
func (e *env) file(name string, content []byte, age time.Duration) string {
	e.T.Helper()
	path := filepath.Join(e.T.TempDir(), name)
	must.Do(e.T, os.WriteFile(path, content, 0o640))
	must.Do(e.T, os.Chmod(path, 0o640)) // whatever the umask is
	at := e.Clock.True().Add(-age)
	must.Do(e.T, os.Chtimes(path, at, at))
	return path
}

// passwordFile has the first password, and is due.
func (e *env) passwordFile() string { return e.file("password", []byte(first+"\n"), every) }

// member is a Caddy: the account's identity, and its rotation.
type member struct {
	e         *env
	path      string
	rotation  *Rotation
	identity  *negotiate.Identity
	initiator *negotiate.Initiator
}

// start starts a Caddy with the file.
func (e *env) start(path string, secret negotiate.Secret) *member {
	e.T.Helper()
	secret.RotateEvery = every - every/10
	m := &member{e: e, path: path, rotation: New(Config{
		Principal: e.Principal(), Secret: secret, Now: e.Clock.Now,
		Store: func() Store { return e.store }, Logger: func() *zap.Logger { return e.log },
	})}
	m.identity = must.OK(negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: path, Principal: e.Principal(), Secret: secret, Tickets: e.Tickets, Now: e.Clock.Now, Observe: e.Events.Observe,
		Next: m.rotation.Next, Breakers: func() negotiate.BreakerStore { return e.locks },
	}))(e.T)
	m.initiator = m.identity.Initiator(negotiate.NewSettings("proxy", e.client))
	return m
}

func (e *env) startFile(path string) *member {
	e.T.Helper()
	return e.start(path, negotiate.PasswordFileSecret(path))
}

// login logs in, whether a ticket is held or not.
func (m *member) login() error {
	m.e.Tickets.Drop(m.identity.Owns)
	_, err := m.initiator.Login(m.e.T.Context())
	return err
}

// look does what Run does every minute.
func (m *member) look() error {
	m.e.Clock.Advance(time.Second) // no two authenticators have one time
	ctx := m.e.T.Context()
	if m.rotation.pause() > 0 || !m.rotation.wanted(ctx) {
		return nil
	}
	err := m.rotation.change(ctx, m.initiator)
	m.rotation.settle(err)
	return err
}

// wantSettled fails unless the file has the KDC's password, nothing is beside it, and it logs in.
func (m *member) wantSettled() {
	t := m.e.T
	t.Helper()
	content := must.OK(os.ReadFile(m.path))(t)
	if password := strings.TrimSuffix(string(content), "\n"); !m.e.Proxy.HasPassword(password) {
		t.Errorf("the file does not have the KDC's password")
	}
	m.wantAlone()
	if err := m.login(); err != nil {
		t.Errorf("cannot log in: %v", err)
	}
}

// wantAlone fails if anything is beside the file.
func (m *member) wantAlone() {
	m.e.T.Helper()
	for _, entry := range must.OK(os.ReadDir(filepath.Dir(m.path)))(m.e.T) {
		if entry.Name() != filepath.Base(m.path) {
			m.e.T.Errorf("%s is left", entry.Name())
		}
	}
}

// wrongProofs is how many proofs the KDC has refused since it was asked last.
func (e *env) wrongProofs() int {
	n := e.KDC.Counts().Errors[messages.KDC_ERR_PREAUTH_FAILED]
	e.KDC.ResetCounts()
	return n
}

func (e *env) wantWrongProofs(most int) {
	e.T.Helper()
	if n := e.wrongProofs(); n > most {
		e.T.Errorf("%d wrong proofs, at most %d may be", n, most)
	}
}

// candidateOf is the candidate beside a file, nil if there is none that belongs to the password.
func (e *env) candidateOf(path, password string) *candidate.Candidate {
	present := krb5core.NewAccount(e.Principal(), krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil)
	c, err := negotiate.ReadCandidate(path, present)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, candidate.ErrNotOpened) {
			e.T.Error(err)
		}
		return nil
	}
	return &c
}

// memoryStore is a storage that members share.
type memoryStore struct {
	lock   sync.Mutex
	mu     sync.Mutex
	shares bool // it has a key
	held   *candidate.Candidate
	saves  int
	broken error
}

func (s *memoryStore) Lock(context.Context, messages.Principal) (func(), error) {
	s.lock.Lock()
	return s.lock.Unlock, nil
}

func (s *memoryStore) Load(context.Context, messages.Principal) (*candidate.Candidate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held, s.broken
}

func (s *memoryStore) Save(_ context.Context, _ messages.Principal, c *candidate.Candidate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil && s.shares {
		s.held, s.saves = c, s.saves+1
		if c != nil {
			held := *c
			s.held = &held
		}
	}
	return s.broken
}

// loginLocks has members log in one after the other, and keeps no breaker.
type loginLocks struct{ lock chan struct{} }

func newLoginLocks() *loginLocks { return &loginLocks{make(chan struct{}, 1)} }

func (*loginLocks) Load(context.Context, messages.Principal) []byte  { return nil }
func (*loginLocks) Save(context.Context, messages.Principal, []byte) {}

func (l *loginLocks) Lock(ctx context.Context, _ messages.Principal) (unlock func(), changed bool) {
	select {
	case l.lock <- struct{}{}:
		return func() { <-l.lock }, false
	case <-ctx.Done():
		return func() {}, false
	}
}
