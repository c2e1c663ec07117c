package negotiate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// ManagedSecret logs in with the password of a group managed service account, which the
// Passwords of the Settings read from Active Directory.
func ManagedSecret() Secret { return Secret{Kind: KindGMSA} }

// PasswordReader reads passwords of group managed service accounts.
type PasswordReader struct {
	Reader    *Initiator // the account that may read them
	Directory *gmsa.Directory
}

// Read reads the password of an account. The error is a *PasswordError.
func (p *PasswordReader) Read(ctx context.Context, account messages.Principal) (*gmsa.Reading, error) {
	r, err := p.Directory.Read(ctx, account.Name.String(), account.Realm,
		func(ctx context.Context, host string, certificate *x509.Certificate, renew bool) ([]byte, func([]byte) error, error) {
			service := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "ldap", strings.ToLower(host)), Realm: account.Realm}
			return p.Reader.saslToken(ctx, &Target{SPN: newSPN(service)}, certificate, renew)
		})
	if err != nil {
		return nil, &PasswordError{Account: account, Reader: p.Reader.id.Principal(), Err: err}
	}
	return r, nil
}

// saslToken returns a token for a server that has shown the certificate, and what verifies its reply.
// TLS protects the connection, so that the token asks for mutual authentication and nothing else
// ([MS-ADTS] 5.1.1.1). With renew it is made from another ticket than the one that is held.
func (i *Initiator) saslToken(ctx context.Context, t *Target, certificate *x509.Certificate, renew bool) (token []byte, verify func([]byte) error, err error) {
	binding, err := httpauth.CertificateBinding(certificate)
	if err != nil {
		return nil, nil, err
	}
	ticket, _, err := i.serviceTicket(ctx, t)
	if err == nil && renew {
		ticket, _, err = i.successor(ctx, t, ticket)
	}
	if err != nil {
		return nil, nil, err
	}
	template, err := gss.NewTemplate(ticket.cred, gss.TemplateConfig{
		Flags: gss.GSS_C_MUTUAL_FLAG, Bindings: true, Clock: ticket.stamps, Framing: spnego.AppendInitPrefix,
	})
	if err != nil {
		return nil, nil, err
	}
	header, sent, err := template.Header(ctx, &binding.Hashed)
	if err != nil {
		return nil, nil, err
	}
	token, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate "))
	return token, func(reply []byte) error {
		resp, err := spnego.ParseReply(reply)
		if err != nil {
			return fmt.Errorf("%w: %w", gss.ErrNotAuthenticated, err)
		}
		return sent.VerifyToken(resp.ResponseToken)
	}, err
}

// PasswordError means that the password of a group managed service account cannot be read. It does
// not wrap its cause: a KDC that refuses the reader does not refuse the account.
type PasswordError struct {
	Account, Reader messages.Principal
	Err             error // a *gmsa.Error
}

func (e *PasswordError) Error() string {
	return fmt.Sprintf("%s cannot read the password of %s: %v", e.Reader, e.Account, e.Err)
}

// Stage is how far the reading came.
func (e *PasswordError) Stage() gmsa.Stage {
	if known, ok := errors.AsType[*gmsa.Error](e.Err); ok {
		return known.Stage
	}
	return ""
}

var errNoPassword = errors.New("the password has not been read yet")

const (
	// readJitter bounds the random delay of readings, so that a fleet does not ask at once.
	readJitter = 5 * time.Minute
	// readPause is the time between two readings, at least.
	readPause = time.Minute
)

// managedPassword is where tickets come from by the password of a group managed service account.
// Domain controllers change it from time to time, and say when it is to be read again. It is read at
// once if a KDC refuses the one that is held. What was read stays in use while no other can be read,
// and the password before it while KDCs do not know the new one yet.
type managedPassword struct {
	keyring // its accounts have the passwords that were read; its mutex guards what follows

	now     func() time.Time
	observe func(Event)
	changed func() // is called when there is another password
	jitter  func(below time.Duration) time.Duration
	after   func(time.Duration, func()) *time.Timer
	last    atomic.Pointer[Settings] // of the last caller: readings in the background use them
	reading chan struct{}            // has an element while the password is read

	current  *gmsa.Reading     // what was read last; nil if nothing was
	previous *krb5core.Account // with the password before; nil if it is not known
	asked    time.Time         // when a reading began last
	read     time.Time         // when current was read
	set      time.Time         // when the password was changed last
	next     *time.Timer       // the next reading; nil before the first
	closed   bool
	broken   string // the failure that was reported last, empty after a success
}

func newManagedPassword(cfg *IdentityConfig, clock *krb5core.Clock, changed func()) *managedPassword {
	none := krb5core.PasswordKeys(func() (string, error) { return "", errNoPassword })
	return &managedPassword{
		keyring: keyring{
			name: cfg.Principal, secret: cfg.Secret, clock: clock, file: watchedFile{observe: cfg.Observe},
			proven: krb5core.NewAccount(cfg.Principal, none, clock),
		},
		now: cfg.Now, observe: cfg.Observe, changed: changed, after: time.AfterFunc,
		jitter:  rand.N[time.Duration],
		reading: make(chan struct{}, 1),
	}
}

// reload is false: there is no file.
func (m *managedPassword) reload(context.Context) (changed bool, err error) { return false, nil }

// tgt logs in with the password that is held. If it is refused, the password is read again, and all
// that are known are tried, the newest first, each with one proof of the budget.
func (m *managedPassword) tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error) {
	m.last.Store(s)
	justRead := !m.known()
	if justRead {
		if _, err := m.readPassword(ctx, s); err != nil {
			return nil, err
		}
	}
	first, _ := m.candidates()
	cred, err := m.login(ctx, s, first, budget)
	if !KeyRefused(err) {
		return cred, err
	}
	if !justRead {
		if changed, _ := m.readPassword(ctx, s); changed { // a failure is reported, and what is held is tried
			more := exchange.NewBudget(exchange.MaxProofs - 1)
			defer budget.Charge(more)
			return m.tryAll(ctx, s, first, more, err)
		}
	}
	return m.tryAll(ctx, s, first, budget, err)
}

// tryAll logs in with each password, last with that of the account that was refused, for which err is
// why.
func (m *managedPassword) tryAll(ctx context.Context, s *Settings, refused *krb5core.Account, budget *exchange.Budget, err error) (*messages.Credential, error) {
	one, other := m.candidates()
	all := slices.DeleteFunc([]*krb5core.Account{one, other}, func(a *krb5core.Account) bool { return a == nil || a == refused })
	for _, a := range append(all, refused) {
		if budget.Left() <= 0 {
			break
		}
		cred, errNow := m.login(ctx, s, a, budget)
		if errNow == nil && a != m.newest() {
			m.observe(SecretStale{Err: err})
		}
		if !KeyRefused(errNow) {
			return cred, errNow
		}
		err = errNow
	}
	return nil, err
}

// login logs in as an account with one proof.
func (m *managedPassword) login(ctx context.Context, s *Settings, a *krb5core.Account, budget *exchange.Budget) (*messages.Credential, error) {
	one := exchange.NewBudget(min(budget.Left(), 1))
	cred, err := s.Client.Login(ctx, a, one)
	budget.Charge(one)
	if err != nil {
		if KeyRefused(err) {
			m.failed(a)
		}
		return nil, &LoginError{Kind: KindGMSA, Err: err}
	}
	m.worked(a)
	return cred, nil
}

func (m *managedPassword) known() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current != nil
}

// readPassword reads the password, and reports whether it is another one.
func (m *managedPassword) readPassword(ctx context.Context, s *Settings) (changed bool, err error) {
	select {
	case m.reading <- struct{}{}:
		defer func() { <-m.reading }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	m.mu.Lock()
	m.asked = m.now()
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.Client.Timeout())
	defer cancel()
	r, err := s.Passwords.Read(ctx, m.name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.fail(err)
		m.schedule(m.pauseAfter(nil, err))
		return false, err
	}
	m.broken = ""
	changed = m.take(r)
	m.observe(PasswordRead{Principal: m.name, Server: r.Server.String(), Changed: changed})
	m.schedule(m.pauseAfter(r, nil))
	if changed {
		m.changed()
	}
	return changed, nil
}

// fail reports why a password cannot be read again. The first reading's failure is the login's.
func (m *managedPassword) fail(err error) {
	if m.current != nil && m.broken != err.Error() {
		m.broken = err.Error()
		m.observe(PasswordUnread{Principal: m.name, Err: err})
	}
}

// take makes what was read the password that is held. It reports whether there was another before.
func (m *managedPassword) take(r *gmsa.Reading) (changed bool) {
	before := m.current
	m.current, m.read = r, m.now()
	if before != nil && bytes.Equal(before.Password.Current, r.Password.Current) {
		return false
	}
	m.set = r.Set
	if m.set.IsZero() {
		m.set = m.read
	}
	known := m.proven
	if m.fresh != nil {
		known = m.fresh
	}
	current := known.WithKeys(managedKeys(r.Password.Current))
	switch {
	case before == nil && r.Password.Previous == nil:
		m.proven = current
		return false
	case before == nil:
		m.previous = known.WithKeys(managedKeys(r.Password.Previous))
		m.proven, m.fresh, m.refused = m.previous, current, false
		return false
	}
	m.previous = known
	if p := r.Password.Previous; p != nil && !bytes.Equal(p, before.Password.Current) {
		m.previous = known.WithKeys(managedKeys(p)) // it was changed twice
	}
	m.fresh, m.refused = current, false
	return true
}

func managedKeys(password []byte) exchange.KeySource {
	return krb5core.PasswordKeys(func() (string, error) { return gmsa.Text(password), nil })
}

// pauseAfter returns when the password is to be read again after a reading or a failure.
func (m *managedPassword) pauseAfter(r *gmsa.Reading, err error) time.Duration {
	if err != nil {
		return readPause + m.jitter(readPause)
	}
	return max(r.Password.Query, readPause) + m.jitter(readJitter)
}

// schedule has the password read again, in the background.
func (m *managedPassword) schedule(pause time.Duration) {
	if m.next != nil {
		m.next.Stop()
	}
	if !m.closed {
		m.next = m.after(pause, m.readAgain)
	}
}

func (m *managedPassword) readAgain() {
	_, _ = m.readPassword(context.Background(), m.last.Load()) // a failure is reported
}

// close ends the reading in the background.
func (m *managedPassword) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.next != nil {
		m.next.Stop()
	}
}

// keyAccounts returns the accounts with the current and the previous password.
func (m *managedPassword) keyAccounts() []*krb5core.Account {
	current := m.newest()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.current == nil:
		return nil
	case m.previous == nil:
		return []*krb5core.Account{current}
	}
	return []*krb5core.Account{current, m.previous}
}

// times returns when the password was changed, and when it will be: then it is to be read again.
func (m *managedPassword) times() (changed, due time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil {
		return time.Time{}, time.Time{}
	}
	return m.set, m.read.Add(m.current.Password.Query)
}

// ReadPassword reads the password of a group managed service account if none is held; with again also if
// one is, at most once a minute: a ticket for the account that no key opens may be encrypted with a
// password that was made a moment ago. For other secrets it does nothing. The error is a *PasswordError.
func (i *Initiator) ReadPassword(ctx context.Context, again bool) error {
	m, ok := i.id.source.(*managedPassword)
	if !ok {
		return nil
	}
	m.mu.Lock()
	since, known := m.now().Sub(m.asked), m.current != nil
	m.mu.Unlock()
	if known && (!again || 0 <= since && since < readPause) {
		return nil
	}
	m.last.Store(i.settings)
	_, err := m.readPassword(ctx, i.settings)
	return err
}
