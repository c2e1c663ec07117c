package negotiate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

const managedName = "svc-web$"

// managedDomain is a domain with a group managed service account, whose password the proxy's account
// reads from a directory.
type managedDomain struct {
	*identitytest.Domain
	Managed   *kdctest.Managed
	Directory *kdctest.Directory
	settings  *negotiate.Settings
	spoil     atomic.Pointer[func([]byte) []byte] // changes what the directory sends; nil for nothing
}

func newManagedDomain(t *testing.T) *managedDomain {
	t.Helper()
	d := &managedDomain{Domain: identitytest.New(t, identitytest.Config{Password: "x"})}
	d.Managed = d.Realm.AddManaged(managedName, identitytest.Account)
	service := d.Realm.AddService("ldap/localhost")
	acceptor := must.OK(kdctest.NewAcceptor(kdctest.AcceptorConfig{
		Keytab: must.OK(d.Realm.Keytab(service))(t), Bindings: kdctest.BindingsRequire, Now: d.Clock.True,
	}))(t)
	ca := pkitest.NewCA(t, "corp CA")
	pair := ca.Issue(t, pkitest.Spec{Name: "dc1", DNSNames: []string{"localhost"}, ECDSA: true})
	d.Directory = kdctest.NewDirectory(kdctest.DirectoryConfig{
		Acceptor: acceptor, Find: d.Managed.Find, Certificate: tls.Certificate{Certificate: [][]byte{pair.Chain[0].Raw}, PrivateKey: pair.Key},
		Spoil: func(b []byte) []byte {
			if spoil := d.spoil.Load(); spoil != nil {
				return (*spoil)(b)
			}
			return b
		},
	})
	must.Do(t, d.Directory.Start())
	t.Cleanup(d.Directory.Stop)
	port := must.OK(strconv.Atoi(d.Directory.Port()))(t)
	d.settings = d.Settings(kdc.Config{}, 10*time.Second)
	d.settings.Passwords = &negotiate.PasswordReader{
		Reader: d.Identity(negotiate.PasswordSecret("x")).Initiator(d.Settings(kdc.Config{}, 10*time.Second)),
		Directory: &gmsa.Directory{Dialer: new(net.Dialer), RootCAs: ca.Pool(), Servers: func(context.Context) ([]gmsa.Server, error) {
			return []gmsa.Server{{Host: "localhost", Port: port}}, nil
		}},
	}
	return d
}

func (d *managedDomain) principal() messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, managedName), Realm: identitytest.Realm}
}

func (d *managedDomain) identity(t *testing.T) *negotiate.Initiator {
	t.Helper()
	id := must.OK(negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: managedName, Principal: d.principal(), Secret: negotiate.ManagedSecret(), Tickets: d.Tickets, Now: d.Clock.Now, Observe: d.Events.Observe,
	}))(t)
	t.Cleanup(id.Close)
	return id.Initiator(d.settings)
}

// login logs in again.
func (d *managedDomain) login(i *negotiate.Initiator) error {
	i.Identity().FlushTickets(negotiate.IsTGT)
	_, err := i.Login(d.T.Context())
	return err
}

// wantSearches fails unless the directory was asked so many times.
func (d *managedDomain) wantSearches(n int) {
	d.T.Helper()
	if got := d.Directory.Searches(); got != n {
		d.T.Errorf("%d searches, want %d", got, n)
	}
}

// wrongProofs counts the passwords that the KDC refused.
func (d *managedDomain) wrongProofs() int {
	return d.KDC.Counts().Errors[messages.KDC_ERR_PREAUTH_FAILED]
}

func TestManagedPassword_LogsIn(t *testing.T) {
	d := newManagedDomain(t)
	i := d.identity(t)
	if kind, path := i.Identity().Origin(); kind != negotiate.KindGMSA || path != "" || len(i.Identity().Keys()) != 0 {
		t.Errorf("%s, %q, %v", kind, path, i.Identity().Keys())
	}
	g := must.OK(i.Grant(t.Context(), identitytest.Target(t, identitytest.Service), negotiate.DelegateNever))(t)
	if g.Ticket.Client() != managedName+"@"+identitytest.Realm {
		t.Errorf("the upstream sees %s", g.Ticket.Client())
	}
	must.Do(t, d.login(i))
	d.wantSearches(1) // the password that is held is used
	changed, due := i.Identity().SecretTimes()
	if want := d.Managed.Changed(); want.Sub(changed).Abs() > time.Microsecond || !due.Equal(d.Clock.Now().Add(30*24*time.Hour)) {
		t.Errorf("changed %s, due %s, want %s and in 30 days", changed, due, want)
	}
	if len(i.Identity().Keys()) == 0 {
		t.Error("no key is shown")
	}
}

// A refused password is read again at once, and the request that met it succeeds.
func TestManagedPassword_Rolled(t *testing.T) {
	for _, shown := range []bool{true, false} {
		d := newManagedDomain(t)
		i := d.identity(t)
		must.Do(t, d.login(i))
		d.Managed.Roll(shown, false)
		must.Do(t, d.login(i))
		d.wantSearches(2)
		if n := d.wrongProofs(); n != 1 {
			t.Errorf("%d wrong proofs, want 1", n)
		}
		if i.Identity().Refused() != nil {
			t.Error("the breaker is open")
		}
		must.Do(t, d.login(i))
		d.wantSearches(2)
		read := identitytest.Seen[negotiate.PasswordRead](d.Events)
		if len(read) != 2 || read[0].Changed || !read[1].Changed {
			t.Errorf("%+v", read)
		}
	}
}

// While the KDC does not know the new password, the previous one stays in use.
func TestManagedPassword_KDCLags(t *testing.T) {
	d := newManagedDomain(t)
	i := d.identity(t)
	must.Do(t, d.login(i))
	d.Managed.Roll(true, true)
	d.Clock.Advance(time.Hour)
	for range 2 {
		must.Do(t, i.ReadPassword(t.Context(), true))
		must.Do(t, i.ReadPassword(t.Context(), false))
	}
	d.wantSearches(2)
	must.Do(t, d.login(i))
	if len(identitytest.Seen[negotiate.SecretStale](d.Events)) != 1 {
		t.Error("that the new password is refused was not reported")
	}
	before := d.wrongProofs()
	must.Do(t, d.login(i)) // the one that worked comes first
	if n := d.wrongProofs() - before; n != 0 {
		t.Errorf("%d wrong proofs", n)
	}
	d.Managed.CatchUp()
	must.Do(t, d.login(i))
}

// A process that starts while the KDC lags takes the previous password out of the directory.
func TestManagedPassword_KDCLagsAtStart(t *testing.T) {
	d := newManagedDomain(t)
	d.Managed.Roll(true, true)
	must.Do(t, d.login(d.identity(t)))
	d.wantSearches(1)
}

// A password that Active Directory shows and the KDC refuses is proved three times at most, then once
// a minute: the account cannot be locked, and the next password may be there soon.
func TestManagedPassword_RefusedIsBounded(t *testing.T) {
	d := newManagedDomain(t)
	i := d.identity(t)
	must.Do(t, d.login(i))
	d.Managed.ChangePassword("another", false)
	for range 20 {
		_ = d.login(i)
		d.Clock.Advance(time.Second)
	}
	if n := d.wrongProofs(); n > exchange.MaxProofs {
		t.Errorf("%d wrong proofs", n)
	}
	refused := i.Identity().Refused()
	if refused == nil || refused.Until.After(d.Clock.Now().Add(time.Minute)) {
		t.Fatalf("%v", refused)
	}
	searches := d.Directory.Searches()
	for range 10 {
		d.Clock.Advance(time.Minute)
		_ = d.login(i)
	}
	if n := d.wrongProofs(); n > exchange.MaxProofs+10 {
		t.Errorf("%d wrong proofs in ten minutes", n)
	}
	if n := d.Directory.Searches() - searches; n > 10 {
		t.Errorf("%d searches in ten minutes", n)
	}
	d.Managed.Roll(true, false)
	d.Clock.Advance(time.Minute)
	must.Do(t, d.login(i))
}

// Without a password nothing is proved, the breaker stays closed, and it is looked for again.
func TestManagedPassword_CannotBeRead(t *testing.T) {
	d := newManagedDomain(t)
	i := d.identity(t)
	d.Managed.Allow()
	err := d.login(i)
	unread, ok := errors.AsType[*negotiate.PasswordError](err)
	if !ok || unread.Stage() != gmsa.StagePermission || i.Identity().Refused() != nil {
		t.Fatalf("%v", err)
	}
	if after := negotiate.RetryAfter(err, d.Clock.Now()); after < time.Second || after > 10*time.Second {
		t.Errorf("retry after %s", after)
	}
	if n := len(identitytest.Seen[negotiate.PasswordUnread](d.Events)); n != 0 || len(identitytest.Seen[negotiate.LoginFailed](d.Events)) != 1 {
		t.Error("one failure is reported once")
	}
	d.Managed.Allow(identitytest.Account)
	d.Clock.Advance(time.Minute)
	must.Do(t, d.login(i))
}

// What is held lasts while the directory is down: the password, and with it new logins.
func TestManagedPassword_DirectoryDown(t *testing.T) {
	d := newManagedDomain(t)
	i := d.identity(t)
	must.Do(t, d.login(i))
	d.Directory.Stop()
	must.Do(t, d.login(i))
	d.Managed.Roll(true, false)
	d.Clock.Advance(time.Hour)
	if err := d.login(i); err == nil {
		t.Error("logged in with the old password")
	}
	if len(identitytest.Seen[negotiate.PasswordUnread](d.Events)) != 1 {
		t.Error("that the password cannot be read was not reported once")
	}
	must.Do(t, d.Directory.Start())
	d.Clock.Advance(2 * time.Minute)
	must.Do(t, d.login(i))
}

// An answer that is broken at any place is an error of the login, and no more.
func TestManagedPassword_BrokenAnswers(t *testing.T) {
	d := newManagedDomain(t)
	for n := range 40 {
		spoil := func(b []byte) []byte {
			b = slices.Clone(b)
			b[(n*n*7+n)%len(b)] ^= 0x55
			return b[:len(b)-n%3]
		}
		d.spoil.Store(&spoil)
		i := d.identity(t)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := d.settings.Passwords.Read(ctx, d.principal())
		cancel()
		if err != nil {
			if _, ok := errors.AsType[*negotiate.PasswordError](err); !ok {
				t.Errorf("%d: %v", n, err)
			}
		}
		i.Identity().Close()
	}
}

// The reader's refusal is not the account's: the remedy is the reader's.
func TestManagedPassword_ReaderRefused(t *testing.T) {
	d := newManagedDomain(t)
	d.Proxy.ChangePassword("another", false)
	i := d.identity(t)
	err := d.login(i)
	unread, ok := errors.AsType[*negotiate.PasswordError](err)
	if !ok || unread.Stage() != gmsa.StageLogin || i.Identity().Refused() != nil || !strings.Contains(err.Error(), identitytest.Account) {
		t.Errorf("%v", err)
	}
}
