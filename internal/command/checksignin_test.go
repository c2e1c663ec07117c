package command_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const signInSPN = "HTTP/proxy.corp.example"

// signInLab is a realm whose account has the service that clients sign in to.
func signInLab(t *testing.T) *commandLab {
	l := newCommandLab(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN(signInSPN)}})
	l.Realm.IssuePACs()
	l.Realm.AddUser("alice", "alice's password", kdctest.MemberOf(1104))
	return l
}

func (l *commandLab) auth(lines ...string) string {
	return l.site(caddytest.Block("negotiate_auth", lines...), "respond hello")
}

// step returns the only step of a name.
func (c checked) step(t *testing.T, name string) step {
	t.Helper()
	i := slices.IndexFunc(c.Steps, func(s step) bool { return s.Step == name })
	if i < 0 {
		t.Fatalf("no step %s in %+v", name, c.Steps)
	}
	return c.Steps[i]
}

func TestCheck_SignIn(t *testing.T) {
	l := signInLab(t)
	password := l.Write("alice", []byte("alice's password\n"))
	file := l.auth(l.Login("spn "+signInSPN, "allow_groups *-1104")...)
	text, c := l.check(file, "--user", "alice", "--password-file", password)
	l.wantOK(text, c)
	s := c.step(t, "sign-in")
	s.mentions(t, "alice@CORP.EXAMPLE signs in to HTTP/proxy.corp.example", "aes256-cts-hmac-sha1-96 of version 1", "S-1-5-21-1-2-3-", "3 groups")
	// Without a user the account itself shows that the keys fit.
	_, c = l.check(file)
	l.wantCauses(c, "warn", "sign-in").mentions(t, "tried as the account itself", "--password-file")
	_, c = l.check(l.auth(l.Login("spn "+signInSPN, "allow_groups *-1105")...), "--user", "alice", "--password-file", password)
	l.wantCauses(c, "FAIL", "sign-in", diagnosis.CauseUserMayNotEnter).mentions(t, "allow_groups names no group of the user")
	_, c = l.check(file, "--user", "alice", "--password-file", l.Write("wrong", []byte("wrong")))
	if s := c.step(t, "sign-in"); c.OK || s.Status != "FAIL" || !strings.Contains(s.Text, "no ticket for") {
		t.Errorf("wrong password: %+v", s)
	}
}

func TestCheck_SignInKeys(t *testing.T) {
	l := signInLab(t)
	password := l.Write("alice", []byte("alice's password\n"))
	asAlice := []string{"--user", "alice", "--password-file", password}
	// The service is on another account than the keytab's.
	other := l.Realm.AddService("HTTP/other.corp.example")
	_, c := l.check(l.auth(l.Login("spn HTTP/other.corp.example")...), asAlice...)
	s := l.wantCauses(c, "FAIL", "sign-in", diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged)
	s.mentions(t, "HTTP/other.corp.example", "setspn -Q")
	// The keytab is older than the key.
	keys := l.Write("old.keytab", l.KeysOf(other))
	other.ChangeKey(false)
	_, c = l.check(l.auth("kdc "+l.KDC.Addr(), "keytab "+keys), asAlice...)
	if c.OK {
		t.Errorf("%+v", c.Steps)
	}
	// The service is unknown.
	_, c = l.check(l.auth(l.Login("spn HTTP/nowhere.corp.example")...), asAlice...)
	l.wantCauses(c, "FAIL", "sign-in", diagnosis.CauseUnknownSPN)
}

// A browser that is sent to an alias may ask for a ticket for the host behind it.
func TestCheck_SignInAlias(t *testing.T) {
	l := signInLab(t)
	server := must.OK(net.ListenPacket("udp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { server.Close() })
	go answerWithAlias(server, "host7.corp.example.")
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	_, c := l.check(l.auth(l.Login("spn "+signInSPN)...), "--user", "alice", "--password-file", l.Write("alice", []byte("alice's password")))
	l.wantCauses(c, "warn", "sign-in").mentions(t, "proxy.corp.example is an alias of host7.corp.example", "HTTP/host7.corp.example")
}

// answerWithAlias answers every question of a name with an alias of one address.
func answerWithAlias(server net.PacketConn, alias string) {
	buffer := make([]byte, 512)
	for {
		n, client, err := server.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		name := dnsmessage.MustNewName(alias)
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.CNAMEResource{CNAME: name},
		}}
		if m.Questions[0].Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}},
			})
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = server.WriteTo(answer, client)
		}
	}
}

func TestCheck_PasswordFileNeedsUser(t *testing.T) {
	l := signInLab(t)
	if _, err := caddyKerberos(t, "check", "--config", l.auth(l.Login("spn "+signInSPN)...), "--password-file", "x"); err == nil || !strings.Contains(err.Error(), "--user") {
		t.Error(err)
	}
}

// With the user's password the delegation by the ticket that they sign in with is checked, as it would
// be in the server.
func TestCheck_ClientTicket(t *testing.T) {
	l := signInLab(t)
	l.Proxy.Set(kdctest.DelegateTo(labService))
	l.Realm.AddUser("carol", "alice's password", kdctest.With(kdctest.NotDelegable))
	password := l.Write("alice", []byte("alice's password\n"))
	text := caddytest.Block("", "admin off", "auto_https off", "storage file_system "+l.Dir+"/storage",
		caddytest.Block("kerberos", caddytest.Block("identity intranet", l.Login("login_at_start off")...))) + "\n" +
		caddytest.Block("http://:0", "bind 127.0.0.1", caddytest.Block("negotiate_auth intranet", "spn "+signInSPN), caddytest.Block("reverse_proxy "+l.Upstream.URL(),
			caddytest.Block("transport negotiate intranet", "spn "+labService, "impersonate client_ticket"))) + "\n"
	file := l.Write("Caddyfile", caddyfile.Format([]byte(text)))
	out, c := l.check(file, "--user", "alice", "--password-file", password)
	l.wantOK(out, c)
	c.step(t, "delegation").mentions(t, "as alice@CORP.EXAMPLE", "with the user's own ticket")
	_, c = l.check(file, "--user", "carol", "--password-file", password)
	if s := c.step(t, "delegation"); s.Status != "FAIL" || !strings.Contains(s.Remedy, "AccountNotDelegated") {
		t.Errorf("a sensitive user: %+v", s)
	}
	_, c = l.check(file, "--user", "alice")
	if s := c.step(t, "delegation"); s.Status != "warn" || !strings.Contains(s.Remedy, "--password-file") {
		t.Errorf("without a password: %+v", s)
	}
	if n := l.KDC.Counts().S4U2Self; n != 0 {
		t.Errorf("%d tickets by protocol transition", n)
	}
}
