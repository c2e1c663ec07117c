package realms

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// changer is a client of a realm that changes passwords at the server.
func changer(t *testing.T, realm lab.Realm, server string) *krb5core.Client {
	t.Helper()
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: kdc.Static{realm.Name(): {must.OK(kdc.ParseServer(server))(t)}}}))(t)
	client, _ := newClient(t, func(c *krb5core.Config) { c.Passwords, c.Timeout = sender, 5*time.Second }, realm)
	return client
}

// change logs in with a password and sets another one.
func change(t *testing.T, client *krb5core.Client, user, from, to string) error {
	t.Helper()
	account := password(t, user, from, nil)
	ticket := must.OK(client.PasswordTicket(t.Context(), account, nil))(t)
	return client.ChangePassword(t.Context(), account, ticket, to)
}

// wantPassword fails unless the account logs in with the password.
func wantPassword(t *testing.T, client *krb5core.Client, user, secret string) *krb5core.Account {
	t.Helper()
	account := password(t, user, secret, nil)
	if _, err := client.Login(t.Context(), account, nil); err != nil {
		t.Fatal(err)
	}
	return account
}

func TestKpasswd_MIT(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "svc", Password: "secret-0"}}})
	m.StartKadmind(t, 0)
	for i, scheme := range []string{"", "tcp/", "udp/"} {
		client := changer(t, m, scheme+m.Kpasswd())
		from, to := fmt.Sprintf("secret-%d", i), fmt.Sprintf("secret-%d", i+1)
		must.Do(t, change(t, client, "svc@LAB.TEST", from, to))
		account := wantPassword(t, client, "svc@LAB.TEST", to)
		if info, ok := account.LastKey(); !ok || info.Salt != "LAB.TESTsvc" {
			t.Errorf("%s: %+v, %t", scheme, info, ok)
		}
		if n, err := client.KeyVersion(t.Context(), account, login(t, client, account)); err != nil || n != uint32(i+2) {
			t.Errorf("%s: key version %d, %v", scheme, n, err)
		}
		_, err := client.Login(t.Context(), password(t, "svc@LAB.TEST", from, nil), nil)
		if code, _ := krb5core.Code(err); code != messages.KDC_ERR_PREAUTH_FAILED {
			t.Errorf("%s: the password before: %v", scheme, err)
		}
	}
}

func TestKpasswd_MITPolicy(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{
		Policies: []string{"-minlife 1day young", "-minlength 8 strict", "-history 3 history"},
		Principals: []lab.Principal{
			{Name: "young", Password: "secret-0", Policy: "young"},
			{Name: "strict", Password: "secret-0", Policy: "strict"},
			{Name: "history", Password: "secret-0", Policy: "history"},
		},
	})
	m.StartKadmind(t, 0)
	client := changer(t, m, m.Kpasswd())
	for _, c := range []struct{ user, from, to, want string }{
		{"young", "secret-0", "secret-1", "changed"},
		{"strict", "secret-0", "secret", "short"},
		{"history", "secret-0", "secret-0", "used previously"},
	} {
		err := change(t, client, c.user+"@LAB.TEST", c.from, c.to)
		var refused *kpasswd.RefusedError
		if !errors.As(err, &refused) || refused.Code != kpasswd.KRB5_KPASSWD_SOFTERROR || !strings.Contains(refused.Text, c.want) ||
			errors.Is(err, krb5core.ErrPasswordUnknown) {
			t.Errorf("%s: %v", c.user, err)
		}
		t.Logf("%s: %v", c.user, err)
		wantPassword(t, client, c.user+"@LAB.TEST", c.from)
	}
}

// The clock of kadmind is neither ours nor the KDC's, and kadmind says what time it is. (The ticket lasts five
// minutes: if the clock is off by more than these and the skew that is permitted, no time helps.)
func TestKpasswd_MITClock(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "svc", Password: "secret-0"}}})
	m.StartKadmind(t, 7*time.Minute)
	client := changer(t, m, m.Kpasswd())
	must.Do(t, change(t, client, "svc@LAB.TEST", "secret-0", "secret-1"))
	wantPassword(t, client, "svc@LAB.TEST", "secret-1")
}

// kadmind is asked, does not answer, and changes the password later.
func TestKpasswd_MITLate(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "svc", Password: "secret-0"}}})
	k := m.StartKadmind(t, 0)
	client := changer(t, m, m.Kpasswd())
	account := password(t, "svc@LAB.TEST", "secret-0", nil)
	ticket := must.OK(client.PasswordTicket(t.Context(), account, nil))(t)
	k.Pause()
	if err := client.ChangePassword(t.Context(), account, ticket, "secret-1"); !errors.Is(err, krb5core.ErrPasswordUnknown) {
		t.Fatalf("%v", err)
	}
	wantPassword(t, client, "svc@LAB.TEST", "secret-0")
	k.Resume()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := client.Login(t.Context(), password(t, "svc@LAB.TEST", "secret-1", nil), nil)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the password was not changed later: %v", err)
		}
	}
}

func TestKpasswd_Samba(t *testing.T) {
	samba := lab.SharedSamba(t)
	samba.Tool(t, "user", "add", "svc-changing", "Secret-number-0")
	for _, scheme := range []string{"", "udp/"} {
		client := changer(t, samba, scheme+samba.Kpasswd())
		samba.Tool(t, "domain", "passwordsettings", "set", "--min-pwd-age=1")
		err := change(t, client, "svc-changing@CORP.TEST", "Secret-number-0", "Secret-number-1")
		var refused *kpasswd.RefusedError
		if !errors.As(err, &refused) || errors.Is(err, krb5core.ErrPasswordUnknown) {
			t.Errorf("%s: %v", scheme, err)
		}
		t.Logf("%s: %v", scheme, err)
		wantPassword(t, client, "svc-changing@CORP.TEST", "Secret-number-0")
	}
	samba.Tool(t, "domain", "passwordsettings", "set", "--min-pwd-age=0")
	for i, scheme := range []string{"", "udp/"} {
		client := changer(t, samba, scheme+samba.Kpasswd())
		from, to := fmt.Sprintf("Secret-number-%d", i), fmt.Sprintf("Secret-number-%d", i+1)
		must.Do(t, change(t, client, "svc-changing@CORP.TEST", from, to))
		account := wantPassword(t, client, "svc-changing@CORP.TEST", to)
		if info, ok := account.LastKey(); !ok || info.KVNO == 0 || info.Salt != "CORP.TESTsvc-changing" {
			t.Errorf("%s: %+v, %t", scheme, info, ok)
		}
	}
}

// Requests while Caddy changes the password of its account at Samba: none fails.
func TestCaddy_RotatesAtSamba(t *testing.T) {
	samba := lab.SharedSamba(t)
	samba.Tool(t, "domain", "passwordsettings", "set", "--min-pwd-age=0")
	samba.Tool(t, "user", "add", "svc-rotating", "Secret-number-0")
	path := write(t, "password", []byte("Secret-number-0\n"))
	old := time.Now().Add(-1000 * time.Hour)
	must.Do(t, os.Chtimes(path, old, old))
	lines := func(every string) []string {
		return []string{
			"user svc-rotating@CORP.TEST", "password_file " + path, "rotate_password " + every, "kdc " + samba.KDC(),
			caddytest.Block("kdc_options", "kpasswd_server "+samba.Kpasswd()), "spn HTTP/iis.corp.test",
		}
	}
	keytab := samba.Keytab(t, "HTTP/iis.corp.test")
	s := newSite(t, keytab, lines("1s")...)
	changes, requests := caddytest.Long(2, 20), 0
	for began := time.Now(); s.Log.Count("the password was changed") < changes; requests++ {
		s.Get("/").WantUser(t, "svc-rotating@CORP.TEST")
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("%d changes in five minutes", s.Log.Count("the password was changed"))
		}
	}
	caddytest.Stop(t) // and every ticket is gone
	newSite(t, keytab, lines("30d")...).Get("/").WantUser(t, "svc-rotating@CORP.TEST")
	t.Logf("%d changes of the password, %d requests, none failed", changes, requests)
}
