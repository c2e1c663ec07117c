package realms

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// saltedKeytab has a key made of the password with the salt.
func saltedKeytab(t *testing.T, principal, password, salt string) *keytab.Keytab {
	t.Helper()
	p, err := messages.ParsePrincipal(principal, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := enctype.StringToKey(enctype.AES256_CTS_HMAC_SHA1_96, password, salt, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &keytab.Keytab{Entries: []keytab.Entry{{Principal: p, KVNO: 1, Key: key}}}
}

func wantSalt(t *testing.T, err error, salt string) {
	t.Helper()
	fail := refused(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	if !fail.HasSalt || fail.Salt != salt {
		t.Errorf("salt %q, want %q", fail.Salt, salt)
	}
	if fail.PreAuths > 2 || !fail.Confirmed {
		t.Errorf("%d tries, confirmed %t; want one or two, and a verdict by a stream", fail.PreAuths, fail.Confirmed)
	}
}

func TestMIT_WrongSalt(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "salted", Password: "secret", Salt: "norealm"}}})
	client, _ := newClient(t, nil, m)
	account := keys(t, "salted@LAB.TEST", saltedKeytab(t, "salted@LAB.TEST", "secret", "LAB.TESTsalted"))
	_, err := client.Login(t.Context(), account, nil)
	wantSalt(t, err, "salted")
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n != 2 {
		t.Errorf("the KDC has refused %d keys", n)
	}
	login(t, client, keys(t, "salted@LAB.TEST", saltedKeytab(t, "salted@LAB.TEST", "secret", "salted")))
}

// Active Directory salts with the name that the account had when its password was last set.
func TestSamba_WrongSalt(t *testing.T) {
	s := lab.SharedSamba(t)
	s.Tool(t, "user", "add", "svc-maiden", "maiden-secret")
	s.Tool(t, "user", "rename", "svc-maiden", "--samaccountname=svc-married")
	client, _ := newClient(t, nil, s)
	login(t, client, password(t, "svc-married@CORP.TEST", "maiden-secret", nil))
	_, err := client.Login(t.Context(), keys(t, "svc-married@CORP.TEST",
		saltedKeytab(t, "svc-married@CORP.TEST", "maiden-secret", "CORP.TESTsvc-married")), nil)
	wantSalt(t, err, "CORP.TESTsvc-maiden")
	login(t, client, keys(t, "svc-married@CORP.TEST",
		saltedKeytab(t, "svc-married@CORP.TEST", "maiden-secret", "CORP.TESTsvc-maiden")))
}

func TestMIT_AccountStates(t *testing.T) {
	past := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	m := lab.StartMIT(t, lab.MITOptions{
		Policies: []string{"-maxfailure 3 -failurecountinterval 300 -lockoutduration 300 lockout"},
		Principals: []lab.Principal{
			{Name: "expired", Password: "secret", Expires: past},
			{Name: "stale", Password: "secret", PasswordExpires: past},
			{Name: "mustchange", Password: "secret", Flags: []string{"+needchange"}},
			{Name: "disabled", Password: "secret", Flags: []string{"-allow_tix"}},
			{Name: "lockme", Password: "secret", Policy: "lockout"},
		},
	})
	client, _ := newClient(t, nil, m)
	for name, want := range map[string]messages.ErrorCode{
		"expired": messages.KDC_ERR_NAME_EXP, "stale": messages.KDC_ERR_KEY_EXPIRED, "mustchange": messages.KDC_ERR_KEY_EXPIRED,
		"disabled": messages.KDC_ERR_CLIENT_REVOKED, "nobody": messages.KDC_ERR_C_PRINCIPAL_UNKNOWN,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.Login(t.Context(), password(t, name+"@LAB.TEST", "secret", nil), nil)
			if fail := refused(t, err, want); !fail.Confirmed {
				t.Error("not confirmed")
			}
		})
	}
	// One login with a wrong password does not lock an account that three lock.
	_, err := client.Login(t.Context(), password(t, "lockme@LAB.TEST", "wrong", nil), nil)
	refused(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	login(t, client, password(t, "lockme@LAB.TEST", "secret", nil))
	for range 2 {
		_, err = client.Login(t.Context(), password(t, "lockme@LAB.TEST", "wrong", nil), nil)
	}
	refused(t, err, messages.KDC_ERR_CLIENT_REVOKED)
}

func TestSamba_AccountStates(t *testing.T) {
	s := lab.SharedSamba(t)
	s.Tool(t, "user", "add", "lockme", "lockme-secret")
	s.Tool(t, "domain", "passwordsettings", "set", "--account-lockout-threshold=3")
	t.Cleanup(func() { s.Tool(t, "domain", "passwordsettings", "set", "--account-lockout-threshold=0") })
	client, _ := newClient(t, nil, s)
	wrong := func() {
		t.Helper()
		if _, err := client.Login(t.Context(), password(t, "lockme@CORP.TEST", "wrong", nil), nil); err == nil {
			t.Fatal("a wrong password serves")
		}
	}
	// One login with a wrong password does not lock an account that three lock.
	wrong()
	login(t, client, password(t, "lockme@CORP.TEST", "lockme-secret", nil))
	for range 3 {
		wrong()
	}
	for name, want := range map[string]struct {
		code   messages.ErrorCode
		status messages.NTStatus
	}{
		"locked":     {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_DISABLED},
		"expired":    {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_EXPIRED},
		"mustchange": {messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_MUST_CHANGE},
		"lockme":     {messages.KDC_ERR_CLIENT_REVOKED, 0}, // Windows says STATUS_ACCOUNT_LOCKED_OUT
		"nobody":     {messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.Login(t.Context(), password(t, name+"@CORP.TEST", name+"-secret", nil), nil)
			fail := refused(t, err, want.code)
			if fail.Status != want.status {
				t.Errorf("status %s, want %s: %v", fail.Status, want.status, fail)
			}
			if want.status != 0 && !strings.Contains(fail.Error(), want.status.Meaning()) {
				t.Errorf("the error does not say why: %v", fail)
			}
		})
	}
}
