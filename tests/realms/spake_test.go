package realms

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// spakeRealm is a realm whose ticket-granting tickets are for those who have logged in by SPAKE, and no others.
func spakeRealm(t *testing.T, libdefaults ...string) *lab.MIT {
	t.Helper()
	m := lab.StartMIT(t, lab.MITOptions{
		Realm:          "PA.TEST",
		KDCConf:        []string{"spake_preauth_indicator = spake"},
		KDCLibDefaults: libdefaults,
		Principals: []lab.Principal{
			{Name: "alice", Password: "alice-secret"},
			{Name: "HTTP/app.pa.test"},
			{Name: "sha2", Password: "sha2-secret", ETypes: []string{"aes256-cts-hmac-sha384-192"}},
			{Name: "camellia", Password: "camellia-secret", ETypes: []string{"camellia128-cts-cmac"}},
		},
	})
	m.Kadmin(t, "setstr krbtgt/PA.TEST require_auth spake")
	return m
}

func TestMIT_SPAKEMissing(t *testing.T) {
	client, tr := newClient(t, nil, spakeRealm(t))
	_, err := client.Login(t.Context(), password(t, "alice@PA.TEST", "alice-secret", nil), nil)
	refused(t, err, messages.KDC_ERR_POLICY)
	if tr.count("MORE_PREAUTH") != 0 {
		t.Errorf("there is SPAKE:\n%s", tr)
	}
}

func TestMIT_SPAKE(t *testing.T) {
	for name, with := range map[string]struct {
		groups, challenge string
		rounds            int // requests of the first login
	}{
		"edwards25519":          {"edwards25519", "", 3},
		"P-256":                 {"P-256", "", 3},
		"edwards25519, at once": {"edwards25519", "edwards25519", 2},
		"P-521, at once":        {"edwards25519", "P-521", 3},
		"P-521 preferred":       {"P-521 P-256", "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			lines := []string{"spake_preauth_groups = " + with.groups}
			if with.challenge != "" {
				lines[0] += " " + with.challenge
				// kdcdefaults is another section, but the file is the KDC's own
				lines = append(lines, "[kdcdefaults]", "spake_preauth_kdc_challenge = "+with.challenge)
			}
			m := spakeRealm(t, lines...)
			client, tr := newClient(t, nil, m)
			alice := password(t, "alice@PA.TEST", "alice-secret", nil)
			tgt := login(t, client, alice)
			if n := tr.count("sent", "KRB_AS_REQ"); n != with.rounds {
				t.Errorf("%d requests, want %d:\n%s", n, with.rounds, tr)
			}
			ticket(t, client, alice, tgt, "HTTP/app.pa.test")
			if n := tr.count("PREAUTH_FAILED"); n != 0 {
				t.Errorf("refused %d times:\n%s", n, tr)
			}
			// The next login knows that it is SPAKE.
			before := tr.count("sent", "KRB_AS_REQ")
			login(t, client, alice)
			if n := tr.count("sent", "KRB_AS_REQ") - before; n != 2 {
				t.Errorf("the next login takes %d requests, want 2:\n%s", n, tr)
			}
		})
	}
}

func TestMIT_SPAKEKeytabAndTypes(t *testing.T) {
	m := spakeRealm(t, "spake_preauth_groups = edwards25519")
	client, _ := newClient(t, nil, m)
	login(t, client, keys(t, "alice@PA.TEST", readKeytab(t, m.Keytab(t, "alice"))))
	for user, etype := range map[string]enctype.ID{
		"sha2": enctype.AES256_CTS_HMAC_SHA384_192, "camellia": enctype.CAMELLIA128_CTS_CMAC,
	} {
		a := password(t, user+"@PA.TEST", user+"-secret", nil)
		client, tr := newClient(t, nil, m)
		login(t, client, a)
		if e, ok := eventOf[exchange.KeyChosen](tr); !ok || e.EType != etype {
			t.Errorf("%s logged in with %v", user, e)
		}
	}
}

func TestMIT_SPAKEWrongPassword(t *testing.T) {
	m := spakeRealm(t, "spake_preauth_groups = edwards25519")
	client, tr := newClient(t, nil, m)
	_, err := client.Login(t.Context(), password(t, "alice@PA.TEST", "wrong", nil), nil)
	fail := refused(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	if fail.PreAuths > 2 || fail.Salt != "PA.TESTalice" {
		t.Errorf("%d proofs, salt %q\n%s", fail.PreAuths, fail.Salt, tr)
	}
	if n := m.Count(t, lab.Exchange{Client: "alice@PA.TEST", Status: "PREAUTH_FAILED", Error: "Preauthentication failed"}); n > 2 {
		t.Errorf("the KDC counts %d bad passwords:\n%s", n, tr)
	}
}

func TestCaddy_SPAKE(t *testing.T) {
	m := spakeRealm(t, "spake_preauth_groups = edwards25519")
	s := newSite(t, m.Keytab(t, "HTTP/app.pa.test"),
		"user alice@PA.TEST", "password alice-secret", "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.pa.test")
	s.Get("/").WantUser(t, "alice@PA.TEST")
}
