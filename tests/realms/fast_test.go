package realms

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// fastRealm has a service that is for those alone who have logged in with armor.
func fastRealm(t *testing.T) *lab.MIT {
	t.Helper()
	m := lab.StartMIT(t, lab.MITOptions{
		Realm:   "FAST.TEST",
		KDCConf: []string{"encrypted_challenge_indicator = fast"},
		Principals: []lab.Principal{
			{Name: "alice", Password: "alice-secret"},
			{Name: "HTTP/app.fast.test"},
			{Name: "host/proxy.fast.test", Flags: []string{"+requires_preauth"}},
		},
	})
	m.Kadmin(t, "setstr HTTP/app.fast.test require_auth fast")
	return m
}

func keytabArmor(t *testing.T, m *lab.MIT, principal string) *krb5core.Armor {
	t.Helper()
	path := m.Keytab(t, principal)
	return krb5core.KeytabArmor(func() (*krb5core.Account, error) {
		return keys(t, principal+"@"+m.Name(), readKeytab(t, path)), nil
	}, nil)
}

func TestMIT_FASTKeytabArmor(t *testing.T) {
	m := fastRealm(t)
	plain, _ := newClient(t, nil, m)
	unarmored := password(t, "alice@FAST.TEST", "alice-secret", nil)
	_, err := plain.ServiceTicket(t.Context(), unarmored, login(t, plain, unarmored), spn(t, "HTTP/app.fast.test"))
	refused(t, err, messages.KDC_ERR_POLICY)

	client, tr := newClient(t, func(c *krb5core.Config) { c.Armor = keytabArmor(t, m, "host/proxy.fast.test") }, m)
	alice := password(t, "alice@FAST.TEST", "alice-secret", nil)
	tgt := login(t, client, alice)
	if tgt.Client.String() != "alice@FAST.TEST" || tgt.Flags&messages.TKT_FLG_PRE_AUTHENT == 0 {
		t.Errorf("%v with flags %s", tgt, tgt.Flags)
	}
	cred := ticket(t, client, alice, tgt, "HTTP/app.fast.test")
	if part := opened(t, cred, m.Keytab(t, "HTTP/app.fast.test")); part.CName.String() != "alice" {
		t.Errorf("the ticket is of %s", part.CName)
	}
	if _, ok := eventOf[exchange.EncPARepVerified](tr); !ok {
		t.Error("the KDC's checksum over the request was not verified")
	}
	// The armor serves again, and the salt is known.
	before := tr.count("sent", "KRB_AS_REQ")
	login(t, client, alice)
	if n := tr.count("sent", "KRB_AS_REQ") - before; n != 1 {
		t.Errorf("the next login takes %d requests, want 1:\n%s", n, tr)
	}
	if n := m.Logins(t, "host/proxy.fast.test@FAST.TEST"); n != 1 {
		t.Errorf("the armor's account logged in %d times, want once", n)
	}
	if _, err := client.Forward(t.Context(), alice, tgt); err != nil {
		t.Errorf("a TGT to forward: %v", err)
	}
}

func TestMIT_FASTCCacheArmor(t *testing.T) {
	m := fastRealm(t)
	x := lab.NewTools(t, m)
	x.KinitKeytab("host/proxy.fast.test", m.Keytab(t, "host/proxy.fast.test"))
	source := ccache.File(x.CCache())
	read := func(ctx context.Context, realm string) (*messages.Credential, error) {
		file, err := source.Read(ctx, messages.Principal{})
		if err != nil {
			return nil, err
		}
		return best(file, realm)
	}
	client, _ := newClient(t, func(c *krb5core.Config) { c.Armor = krb5core.CCacheArmor(read) }, m)
	alice := password(t, "alice@FAST.TEST", "alice-secret", nil)
	tgt := login(t, client, alice)
	ticket(t, client, alice, tgt, "HTTP/app.fast.test")
	if n := m.Logins(t, "alice@FAST.TEST"); n != 1 {
		t.Errorf("%d logins of alice, want 1", n)
	}
}

func best(file *ccache.CCache, realm string) (*messages.Credential, error) {
	if tgt := file.TGT(realm, time.Now()); tgt != nil {
		return tgt, nil
	}
	return nil, errors.New("no ticket-granting ticket in it")
}

func TestMIT_FASTWrongPassword(t *testing.T) {
	m := fastRealm(t)
	client, tr := newClient(t, func(c *krb5core.Config) { c.Armor = keytabArmor(t, m, "host/proxy.fast.test") }, m)
	_, err := client.Login(t.Context(), password(t, "alice@FAST.TEST", "wrong", nil), nil)
	fail := refused(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	var unarmored *exchange.UnarmoredError
	if errors.As(err, &unarmored) || !fail.Confirmed || fail.PreAuths > 2 || fail.Salt != "FAST.TESTalice" {
		t.Errorf("%+v\n%s", fail, tr)
	}
}

func TestMIT_FASTArmorRenewedOnce(t *testing.T) {
	m := fastRealm(t)
	client, tr := newClient(t, func(c *krb5core.Config) { c.Armor = keytabArmor(t, m, "host/proxy.fast.test") }, m)
	alice := password(t, "alice@FAST.TEST", "alice-secret", nil)
	login(t, client, alice)
	m.Kadmin(t, "cpw -randkey krbtgt/FAST.TEST") // and the old key is gone
	login(t, client, alice)
	if n := m.Logins(t, "host/proxy.fast.test@FAST.TEST"); n != 2 {
		t.Errorf("the armor's account logged in %d times, want twice:\n%s", n, tr)
	}
}

func TestMIT_FASTArmorUnavailable(t *testing.T) {
	m := fastRealm(t)
	client, _ := newClient(t, func(c *krb5core.Config) {
		c.Armor = krb5core.KeytabArmor(func() (*krb5core.Account, error) {
			return password(t, "nobody@FAST.TEST", "secret", nil), nil
		}, nil)
	}, m)
	_, err := client.Login(t.Context(), password(t, "alice@FAST.TEST", "alice-secret", nil), nil)
	if fail := refused(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN); fail.Op != krb5core.OpArmor || fail.Client != "nobody@FAST.TEST" {
		t.Errorf("%+v", fail)
	}
	if n := m.Count(t, lab.Exchange{Client: "alice@FAST.TEST"}); n != 0 {
		t.Errorf("%d requests for alice without armor", n)
	}
}

func TestMIT_FASTAcrossRealms(t *testing.T) {
	near := fastRealm(t)
	far := lab.StartMIT(t, lab.MITOptions{Realm: "REMOTE.TEST", Principals: []lab.Principal{{Name: "HTTP/far.remote.test"}}})
	near.Trust(t, far)
	client, _ := newClient(t, func(c *krb5core.Config) { c.Armor = keytabArmor(t, near, "host/proxy.fast.test") }, near, far)
	alice := password(t, "alice@FAST.TEST", "alice-secret", nil)
	cred := ticket(t, client, alice, login(t, client, alice), "HTTP/far.remote.test")
	if cred.Service.Realm != "REMOTE.TEST" {
		t.Errorf("the ticket is of %s", cred.Service.Realm)
	}
}

func TestMIT_FASTArmorOfAnotherRealm(t *testing.T) {
	near := fastRealm(t)
	far := lab.StartMIT(t, lab.MITOptions{Realm: "REMOTE.TEST", Principals: []lab.Principal{
		{Name: "host/proxy.remote.test", Flags: []string{"+requires_preauth"}},
	}})
	near.Trust(t, far)
	client, _ := newClient(t, func(c *krb5core.Config) { c.Armor = keytabArmor(t, far, "host/proxy.remote.test") }, near, far)
	alice := password(t, "alice@FAST.TEST", "alice-secret", nil)
	ticket(t, client, alice, login(t, client, alice), "HTTP/app.fast.test")
}

// The service takes those alone who have logged in with armor, so that the upstream sees alice only if fast_armor works.
func TestCaddy_FAST(t *testing.T) {
	m := fastRealm(t)
	x := lab.NewTools(t, m)
	x.KinitKeytab("host/proxy.fast.test", m.Keytab(t, "host/proxy.fast.test"))
	both := m.Keytab(t, "host/proxy.fast.test", "HTTP/app.fast.test")
	for armor, want := range map[string]string{
		"fast_armor keytab " + m.Keytab(t, "host/proxy.fast.test"):      "alice@FAST.TEST",
		"fast_armor keytab " + both + " host/proxy.fast.test@FAST.TEST": "alice@FAST.TEST",
		"fast_armor ccache FILE:" + x.CCache():                          "alice@FAST.TEST",
		"":                                                              "",
	} {
		s := newSite(t, m.Keytab(t, "HTTP/app.fast.test"),
			"user alice@FAST.TEST", "keytab "+m.Keytab(t, "alice"), "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.fast.test", armor)
		if a := s.Get("/"); want == "" {
			a.WantError(t, 502, "credentials_refused", "12")
		} else {
			a.WantUser(t, want)
		}
	}
}
