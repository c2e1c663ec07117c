package realms

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// managedName is whom the upstream sees.
const managedName = caddytest.ManagedAccount + "@" + caddytest.RealmName

func newManaged(t *testing.T, with caddytest.Options) *caddytest.Managed {
	t.Helper()
	return caddytest.NewManaged(caddytest.NewEnv(t, with))
}

// runManaged runs Caddy with the lines in a transport.
func runManaged(m *caddytest.Managed, lines ...string) {
	m.T.Helper()
	caddytest.Load(m.T, m.Global("DEBUG")+caddytest.Site(m.Addr, caddytest.Block("reverse_proxy "+m.Upstream.Addr(),
		caddytest.Block("transport negotiate", append(lines, "spn "+caddytest.Service)...))))
}

func TestManaged_UpstreamSeesTheAccount(t *testing.T) {
	m := newManaged(t, caddytest.Options{})
	runManaged(m, m.ManagedLogin()...)
	m.Get("/").WantUser(t, managedName)
	m.GetMany(50, 8, "/", func(a caddytest.Answer) bool { return a.IsUser(managedName) })
	if n := m.Directory.Searches(); n != 1 {
		t.Errorf("the password was read %d times", n)
	}
	if log := m.Log.String(); !strings.Contains(log, "read the password of the managed account") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	names := make(map[string]*identitypool.Identity)
	for _, id := range identitypool.Process.Identities() {
		names[id.Name()] = id
	}
	account := names[managedName]
	if len(names) != 2 || account == nil || names[caddytest.Principal] == nil {
		t.Fatalf("the identities are %v", names)
	}
	changed, due := account.SecretTimes()
	if m.Managed.Changed().Sub(changed).Abs() > time.Microsecond || time.Until(due).Round(time.Hour) != 30*24*time.Hour {
		t.Errorf("changed %s, due %s", changed, due)
	}
}

// Two blocks with the account, and one with the account that reads, share what they hold.
func TestManaged_Shared(t *testing.T) {
	m := newManaged(t, caddytest.Options{})
	second := caddytest.FreeAddress(t)
	identity := caddytest.Block("identity intranet", m.ManagedLogin()...)
	site := func(address, login string, lines ...string) string {
		return caddytest.Site(address, caddytest.Block("reverse_proxy "+m.Upstream.Addr(),
			caddytest.Block("transport negotiate "+login, append(lines, "spn "+caddytest.Service)...)))
	}
	third := caddytest.FreeAddress(t)
	text := m.Global("DEBUG", caddytest.Block("kerberos", identity)) + site(m.Addr, "intranet") + site(second, "", m.ManagedLogin()...) + site(third, "", m.Login()...)
	for range 2 { // a reload keeps all
		caddytest.Load(t, text)
		m.Get("/").WantUser(t, managedName)
		caddytest.Do(t, caddytest.Request(t, http.MethodGet, "http://"+second)).WantUser(t, managedName)
		caddytest.Do(t, caddytest.Request(t, http.MethodGet, "http://"+third)).WantUser(t, caddytest.Principal)
	}
	if n := m.Directory.Searches(); n != 1 {
		t.Errorf("the password was read %d times", n)
	}
	if c := m.KDC.Counts(); c.ASRep != 2 {
		t.Errorf("%d logins, want one of each account", c.ASRep)
	}
}

// The password is changed again and again while requests are under way, whose tickets last seconds: no
// request fails.
func TestManaged_RolledUnderTraffic(t *testing.T) {
	m := newManaged(t, caddytest.Options{Web: []kdctest.Option{kdctest.Lifetimes(3*time.Second, 0)}})
	m.Realm.SetLifetimes(4*time.Second, 0)
	runManaged(m, m.ManagedLogin()...)
	m.Get("/").WantUser(t, managedName)
	rolls := 3
	if os.Getenv(caddytest.LongEnv) != "" {
		rolls = 40
	}
	stop := traffic(&m.Caddy, func(a caddytest.Answer) bool { return a.IsUser(managedName) })
	for i := range rolls {
		before := m.Directory.Searches()
		m.Managed.Roll(i%2 == 0, false)
		caddytest.WaitFor(t, "a login met the new password", func() bool { return m.Directory.Searches() > before })
		logins := m.KDC.Counts().Clients[managedName].ASRep
		caddytest.WaitFor(t, "there was another login", func() bool { return m.KDC.Counts().Clients[managedName].ASRep > logins })
	}
	t.Logf("%d requests, %d readings of the password", stop(), m.Directory.Searches())
}

// traffic sends requests until stop is called, which fails the test if one was not answered as it
// should be, and returns how many there were.
func traffic(c *caddytest.Caddy, ok func(caddytest.Answer) bool) (stop func() int) {
	var sent atomic.Int64
	var over atomic.Bool
	client, failed := c.Client(), make(chan []error, 1)
	go func() {
		failed <- caddytest.Parallel(1<<30, 4, func(int) error {
			if over.Load() {
				return caddytest.ErrStop
			}
			sent.Add(1)
			a, err := caddytest.Ask(client, c.Request(http.MethodGet, "/"))
			if err == nil && !ok(a) {
				err = errors.New(a.String())
			}
			return err
		})
	}()
	return func() int {
		over.Store(true)
		if errs := <-failed; len(errs) > 0 {
			c.T.Errorf("%d of %d requests failed, first: %v\n%s", len(errs), sent.Load(), errs[0], c.Log)
		}
		return int(sent.Load())
	}
}

// While LDAP is down, what is held stays in use, tickets and password.
func TestManaged_DirectoryDown(t *testing.T) {
	m := newManaged(t, caddytest.Options{Web: []kdctest.Option{kdctest.Lifetimes(3*time.Second, 0)}})
	m.Realm.SetLifetimes(4*time.Second, 0)
	runManaged(m, m.ManagedLogin()...)
	m.Get("/").WantUser(t, managedName)
	m.Directory.Stop()
	logins := m.KDC.Counts().ASRep
	stop := traffic(&m.Caddy, func(a caddytest.Answer) bool { return a.IsUser(managedName) })
	caddytest.WaitFor(t, "there was another login", func() bool { return m.KDC.Counts().ASRep > logins })
	t.Logf("%d requests", stop())
}

func TestManaged_Refused(t *testing.T) {
	m := newManaged(t, caddytest.Options{})
	other := m.Write("other-ca.pem", caddytest.NewAuthority(t).PEM())
	for name, x := range map[string]struct {
		lines  []string
		remedy string
	}{
		"no permission":    {m.ManagedLogin(), "Set-ADServiceAccount svc-web$ -PrincipalsAllowedToRetrieveManagedPassword svc-proxy"},
		"another CA":       {m.Login(m.GMSA("server "+m.Server(), "tls_ca "+other)), "set tls_ca to the CA"},
		"nothing listens":  {m.Login(m.GMSA("server ldaps://localhost:1", "tls_ca "+m.CA)), "do firewalls pass port 636"},
		"no such account":  {m.Login(strings.Replace(m.GMSA("server "+m.Server(), "tls_ca "+m.CA), "svc-web$", "svc-none$", 1)), "New-ADServiceAccount"},
		"reader's mistake": {[]string{"kdc " + m.KDC.Addr(), "user " + caddytest.Principal, "password_file " + m.Write("wrong", []byte("wrong")), m.GMSA("server "+m.Server(), "tls_ca "+m.CA)}, "wrong password: correct password_file"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *m
			m.Caddy = caddytest.New(t)
			if m.Managed.Allow(caddytest.Account); name == "no permission" {
				m.Managed.Allow()
			}
			runManaged(&m, x.lines...)
			a := m.Get("/")
			a.WantError(t, http.StatusBadGateway, "credentials_missing")
			if a.Header.Get("Retry-After") == "" {
				t.Errorf("no Retry-After: %v", a)
			}
			if log := m.Log.String(); !strings.Contains(log, x.remedy) {
				t.Errorf("the log does not say %q:\n%s", x.remedy, log)
			}
			if name != "no permission" {
				return
			}
			m.Managed.Allow(caddytest.Account)
			caddytest.WaitFor(t, "the permission takes effect", func() bool { return m.Get("/").IsUser(managedName) })
		})
	}
}
