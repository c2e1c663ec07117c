package kdctest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// mit runs MIT's tools against a KDC, with files of its own.
type mit struct {
	t   *testing.T
	dir string
	env []string
}

func newMIT(t *testing.T, kdc *kdctest.KDC, lines ...string) *mit {
	t.Helper()
	for _, tool := range []string{"kinit", "kvno", "klist"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("left out: MIT's %s (Debian package krb5-user)", tool)
		}
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	if err := os.WriteFile(conf, []byte(kdc.Krb5Conf(lines...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return &mit{t: t, dir: dir, env: append(os.Environ(),
		"KRB5_CONFIG="+conf, "KRB5CCNAME=FILE:"+filepath.Join(dir, "ccache"), "LC_ALL=C",
		"KRB5_TRACE="+filepath.Join(dir, "trace"))}
}

func (m *mit) try(stdin, name string, args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdin, cmd.Dir = m.env, strings.NewReader(stdin), m.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (m *mit) run(stdin, name string, args ...string) string {
	m.t.Helper()
	out, err := m.try(stdin, name, args...)
	if err != nil {
		trace, _ := os.ReadFile(filepath.Join(m.dir, "trace"))
		m.t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, trace)
	}
	return out
}

func TestMITPassword(t *testing.T) {
	for _, protocol := range []string{"udp", "tcp"} {
		t.Run(protocol, func(t *testing.T) {
			realm := kdctest.NewRealm("CORP.EXAMPLE")
			realm.AddUser("alice", "secret")
			realm.AddService("HTTP/web.corp.example")
			kdc := start(t, realm)
			limit := "udp_preference_limit = 1465"
			if protocol == "tcp" {
				limit = "udp_preference_limit = 1"
			}
			m := newMIT(t, kdc, limit)
			m.run("secret\n", "kinit", "-f", "-r", "1d", "alice")
			m.run("", "kvno", "HTTP/web.corp.example")
			m.run("", "kinit", "-R")
			out := m.run("", "klist", "-f", "-e")
			if !strings.Contains(out, "alice@CORP.EXAMPLE") {
				t.Errorf("klist shows\n%s", out)
			}
			c := kdc.Counts()
			if c.ASRep != 1 || c.ASReqPreAuth != 1 || c.TGSRep != 2 || c.Renewed != 1 {
				t.Errorf("counts %+v", c)
			}
			if protocol == "udp" && (c.UDP == 0 || c.TCP != 0) || protocol == "tcp" && c.TCP == 0 {
				t.Errorf("%d over udp, %d over tcp", c.UDP, c.TCP)
			}
		})
	}
}

func TestMITKeytab(t *testing.T) {
	for _, id := range append(enctype.Strong(), enctype.RC4_HMAC, enctype.DES3_CBC_SHA1) {
		t.Run(id.String(), func(t *testing.T) {
			realm := kdctest.NewRealm("CORP.EXAMPLE")
			client := realm.AddService("host/client.corp.example", kdctest.ETypes(id), kdctest.KVNO(7))
			realm.AddService("HTTP/web.corp.example", kdctest.ETypes(id))
			kdc := start(t, realm)
			types := id.String()
			m := newMIT(t, kdc, "allow_weak_crypto = true", "permitted_enctypes = aes256-cts aes128-cts "+types)
			keys, err := realm.Keytab(client)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(m.dir, "keytab"), keys, 0o600); err != nil {
				t.Fatal(err)
			}
			m.run("", "kinit", "-k", "-t", "FILE:keytab", "host/client.corp.example")
			m.run("", "kvno", "HTTP/web.corp.example")
		})
	}
}

func TestMITTooBig(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret", kdctest.AuthDataSize(6000))
	kdc := start(t, realm)
	newMIT(t, kdc).run("secret\n", "kinit", "alice")
	if c := kdc.Counts(); c.TooBig != 1 || c.ASRep != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestMITSaltAndIterations(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret", kdctest.Salt("an old name"), kdctest.Iterations(5000))
	kdc := start(t, realm)
	newMIT(t, kdc).run("secret\n", "kinit", "alice")
}

func TestMITLoginErrors(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret")
	realm.AddUser("gone", "secret", kdctest.With(kdctest.Disabled))
	m := newMIT(t, start(t, realm))
	for _, c := range []struct{ who, password, want string }{
		{"alice", "wrong", "Password incorrect"},
		{"gone", "secret", "credentials have been revoked"},
		{"nobody", "secret", "not found in Kerberos database"},
	} {
		out, err := m.try(c.password+"\n", "kinit", c.who)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %s", c.who, err, out)
		}
	}
}

func TestMITReferrals(t *testing.T) {
	a, b, c := kdctest.NewRealm("A.EXAMPLE"), kdctest.NewRealm("B.EXAMPLE"), kdctest.NewRealm("C.EXAMPLE")
	kdctest.Trust(a, b)
	kdctest.Trust(b, c)
	a.AddUser("alice", "secret")
	a.MapDomain(".c.example", "C.EXAMPLE")
	b.MapDomain(".c.example", "C.EXAMPLE")
	c.AddService("HTTP/web.c.example")
	kdc := start(t, a, b, c)
	m := newMIT(t, kdc)
	m.run("secret\n", "kinit", "alice")
	m.run("", "kvno", "-S", "HTTP", "web.c.example")
	if n := kdc.Counts(); n.Services["HTTP/web.c.example@C.EXAMPLE"] != 1 || n.Referred == 0 {
		t.Errorf("counts %+v", n)
	}
}

func TestMITEnterpriseName(t *testing.T) {
	a, b := kdctest.NewRealm("A.EXAMPLE"), kdctest.NewRealm("B.EXAMPLE")
	kdctest.Trust(a, b)
	a.MapSuffix("people.example", "B.EXAMPLE")
	b.AddUser("bob", "secret", kdctest.Alias("bob@people.example"))
	m := newMIT(t, start(t, a, b))
	m.run("secret\n", "kinit", "-E", "bob@people.example")
	if out := m.run("", "klist"); !strings.Contains(out, "Default principal: bob@B.EXAMPLE") {
		t.Errorf("klist shows\n%s", out)
	}
}

func TestMITS4U(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret")
	realm.AddService("HTTP/web.corp.example")
	proxy := realm.AddService("HTTP/proxy.corp.example",
		kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/web.corp.example"))
	kdc := start(t, realm)
	m := newMIT(t, kdc)
	keys, err := realm.Keytab(proxy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "keytab"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("", "kinit", "-f", "-k", "-t", "FILE:keytab", "HTTP/proxy.corp.example")
	m.run("", "kvno", "-k", "FILE:keytab", "-U", "alice", "-P", "HTTP/web.corp.example")
	if c := kdc.Counts(); c.S4U2Self != 1 || c.S4U2Proxy != 1 {
		t.Errorf("counts %+v", c)
	}
	proxy.Set(kdctest.DelegateTo())
	m.run("", "kinit", "-f", "-k", "-t", "FILE:keytab", "HTTP/proxy.corp.example")
	if out, err := m.try("", "kvno", "-k", "FILE:keytab", "-U", "alice", "-P", "HTTP/web.corp.example"); err == nil {
		t.Errorf("a target that is not on the list was allowed: %s", out)
	}
}

func TestMITS4UAcrossRealms(t *testing.T) {
	a, b := kdctest.NewRealm("A.EXAMPLE"), kdctest.NewRealm("B.EXAMPLE")
	kdctest.Trust(a, b)
	b.AddUser("bob", "secret")
	proxy := a.AddService("HTTP/proxy.a.example", kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/web.a.example"))
	a.AddService("HTTP/web.a.example")
	kdc := start(t, a, b)
	m := newMIT(t, kdc)
	keys, err := a.Keytab(proxy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "keytab"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("", "kinit", "-f", "-k", "-t", "FILE:keytab", "HTTP/proxy.a.example")
	m.run("", "kvno", "-k", "FILE:keytab", "-U", "bob@B.EXAMPLE", "-P", "HTTP/web.a.example")
	if c := kdc.Counts(); c.S4U2Self != 2 || c.S4U2Proxy != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestMITResourceDelegation(t *testing.T) {
	a, b := kdctest.NewRealm("A.EXAMPLE"), kdctest.NewRealm("B.EXAMPLE")
	kdctest.Trust(a, b)
	a.AddUser("alice", "secret")
	a.MapDomain(".b.example", "B.EXAMPLE")
	proxy := a.AddService("HTTP/proxy.a.example")
	web := b.AddService("HTTP/web.b.example", kdctest.ActFor("HTTP/proxy.a.example@A.EXAMPLE"))
	kdc := start(t, a, b)
	m := newMIT(t, kdc)
	keys, err := a.Keytab(proxy)
	if err != nil {
		t.Fatal(err)
	}
	webKeys, err := b.Keytab(web) // kvno decrypts the ticket
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, webKeys[2:]...)
	if err := os.WriteFile(filepath.Join(m.dir, "keytab"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func() (string, error) {
		m.run("", "kinit", "-f", "-k", "-t", "FILE:keytab", "HTTP/proxy.a.example")
		return m.try("", "kvno", "-k", "FILE:keytab", "-U", "alice", "-P", "-S", "HTTP", "web.b.example")
	}
	if out, err := ask(); err != nil {
		trace, _ := os.ReadFile(filepath.Join(m.dir, "trace"))
		t.Fatalf("%v: %s\n%s", err, out, trace)
	}
	if c := kdc.Counts(); c.S4U2Self != 1 || c.S4U2Proxy != 2 {
		t.Errorf("counts %+v", c)
	}
	web.Set(kdctest.ActFor())
	if out, err := ask(); err == nil {
		t.Errorf("allowed without being listed: %s", out)
	}
	web.Set(kdctest.ActFor("HTTP/proxy.a.example@A.EXAMPLE"))
	a.Principal("alice").Set(kdctest.With(kdctest.NotDelegable))
	if out, err := ask(); err == nil {
		t.Errorf("allowed for a user who must not be delegated: %s", out)
	}
}
