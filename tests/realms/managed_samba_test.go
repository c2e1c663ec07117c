package realms

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// managedDomain is a domain of Samba 4.22 with a group managed service account, and Apache in it.
type managedDomain struct {
	*lab.Controller
	apache *lab.Apache
	reader string // keytab
	other  string // keytab of an account that may not read
}

// newManagedDomain makes the account as docs/gmsa.md says.
func newManagedDomain(t *testing.T) *managedDomain {
	t.Helper()
	lab.Require(t, lab.Trixie, lab.HTTPD)
	ca := pkitest.NewCA(t, "corp CA")
	pair := ca.Issue(t, pkitest.Spec{Name: lab.ControllerHost, DNSNames: []string{lab.ControllerHost}})
	d := &managedDomain{Controller: lab.StartController(t, &tls.Certificate{
		Certificate: [][]byte{pair.Chain[0].Raw}, PrivateKey: pair.Key,
	}, ca.File(t))}
	resolve(t, map[string]string{lab.ControllerHost: lab.Host()})
	// A key that was usable in the past, so that there are passwords of then; docs/gmsa.md has the rest.
	d.Tool(t, "domain", "kds", "root-key", "create", "--use-start-time="+time.Now().UTC().AddDate(0, -3, 0).Format(time.DateTime))
	n := 0
	for line := range strings.Lines(caddytest.ReadFile(t, "../../docs/gmsa.md")) {
		if command, ok := strings.CutPrefix(line, "    samba-tool "); ok {
			d.Tool(t, strings.Fields(command)...)
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d commands are in docs/gmsa.md", n)
	}
	d.Usable(t, caddytest.ManagedAccount)
	d.reader, d.other = d.Keytab(t, "svc-reader"), d.Keytab(t, "svc-other")
	d.apache = lab.StartApache(t, lab.ApacheOptions{Realm: d, Hosts: []string{"app.corp.test"}})
	return d
}

// resolve has names looked up in a DNS server of the test.
func resolve(t *testing.T, hosts map[string]string) {
	t.Helper()
	dns, before := caddytest.StartDNS(t, hosts), net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", dns)
	}}
	t.Cleanup(func() { net.DefaultResolver = before })
}

// site runs Caddy as the account whose password the owner of the keytab reads; lines are those of the
// gmsa block.
func (d *managedDomain) site(t *testing.T, keytab string, lines []string, more ...string) *caddytest.Caddy {
	t.Helper()
	c := caddytest.New(t)
	caddytest.Load(t, c.Global("DEBUG")+caddytest.Site(c.Addr, caddytest.Block("reverse_proxy "+d.apache.Addr(),
		caddytest.Block("transport negotiate", append(more, "kdc "+d.KDC(), "keytab "+keytab, "spn HTTP/app.corp.test", "mutual_auth required",
			caddytest.Block("gmsa "+caddytest.ManagedAccount, lines...))...))))
	return &c
}

const managedUser = caddytest.ManagedAccount + "@CORP.TEST"

func isManaged(a caddytest.Answer) bool {
	return a.Status == http.StatusOK && a.Header.Get("X-Remote-User") == managedUser
}

func TestManagedSamba(t *testing.T) {
	d := newManagedDomain(t)
	server, ca := "server ldaps://"+lab.ControllerHost, "tls_ca "+d.CAFile
	right := []string{server, ca}
	t.Run("upstream sees the account", func(t *testing.T) {
		c := d.site(t, d.reader, right)
		if a := c.Get("/"); !isManaged(a) {
			t.Fatalf("%v\n%s", a, c.Log)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, x := range map[string]struct {
			keytab, ca, remedy string
		}{
			"no permission": {d.other, ca, "Set-ADServiceAccount svc-web$ -PrincipalsAllowedToRetrieveManagedPassword svc-other"},
			"another CA":    {d.reader, "tls_ca " + pkitest.NewCA(t, "another CA").File(t), "set tls_ca to the CA"},
		} {
			caddytest.Stop(t)
			c := d.site(t, x.keytab, []string{server, x.ca})
			c.Get("/").WantError(t, http.StatusBadGateway, "credentials_missing")
			if log := c.Log.String(); !strings.Contains(log, x.remedy) {
				t.Errorf("%s: the log does not say %q:\n%s", name, x.remedy, log)
			}
		}
	})
	t.Run("rolled under traffic", func(t *testing.T) { d.roll(t, right...) })
	t.Run("LDAP down", func(t *testing.T) {
		c := d.site(t, d.reader, right)
		if a := c.Get("/"); !isManaged(a) {
			t.Fatal(a)
		}
		d.Stop()
		c.GetMany(200, 4, "/", isManaged)
	})
}

// roll has the password changed while requests are under way, and each time the tickets forgotten, so
// that the next requests need a login.
func (d *managedDomain) roll(t *testing.T, lines ...string) {
	c := d.site(t, d.reader, lines)
	if a := c.Get("/"); !isManaged(a) {
		t.Fatalf("%v\n%s", a, c.Log)
	}
	rolls := 2
	if os.Getenv(caddytest.LongEnv) != "" {
		rolls = 30
	}
	stop := traffic(c, isManaged)
	for i := range rolls {
		before := d.password(t)
		d.Roll(t, caddytest.ManagedAccount)
		for _, id := range identitypool.Process.Identities() {
			id.Flush()
		}
		caddytest.WaitFor(t, "a login met the new password", func() bool { return strings.Count(c.Log.String(), `"changed":true`) > i })
		if after := d.password(t); bytes.Equal(after.Current, before.Current) {
			t.Fatal("the password was not changed")
		}
	}
	t.Logf("%d requests, %d passwords", stop(), rolls+1)
}

// password is the account's managed password, in which Samba must read what we do.
func (d *managedDomain) password(t *testing.T) *gmsa.Password {
	t.Helper()
	value, samba, _ := strings.Cut(d.Blob(t, caddytest.ManagedAccount), " ")
	p := must.OK(gmsa.ParsePassword(must.OK(hex.DecodeString(value))(t)))(t)
	previous := "-"
	if p.Previous != nil {
		previous = hex.EncodeToString(p.Previous)
	}
	if ours := fmt.Sprintf("%x %s %d %d", p.Current, previous, p.Query/100, p.Unchanged/100); ours != samba {
		t.Errorf("of %s we read %s, Samba %s", value, ours, samba)
	}
	return p
}
