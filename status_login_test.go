package caddynegotiate

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// refusedLogin is what a KDC refuses a login with.
func refusedLogin(code messages.ErrorCode, status messages.NTStatus) *krb5core.Error {
	k := &messages.KRBError{ErrorCode: code, Realm: "CORP.EXAMPLE"}
	return &krb5core.Error{Op: krb5core.OpLogin, Refused: true, Confirmed: true, Code: code, Status: status, Err: k}
}

func TestRefusedAccountsAreToldApart(t *testing.T) {
	seen := make(map[string]string)
	for name, x := range map[string]struct {
		code   messages.ErrorCode
		status messages.NTStatus
		want   string
	}{
		"unknown":                 {messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, 0, "does not know the account"},
		"wrong password":          {messages.KDC_ERR_PREAUTH_FAILED, 0, "wrong password"},
		"MIT: disabled or locked": {messages.KDC_ERR_CLIENT_REVOKED, 0, "disabled, locked or expired"},
		"MIT: password expired":   {messages.KDC_ERR_KEY_EXPIRED, 0, "expired or must be changed"},
		"disabled":                {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_DISABLED, "Enable-ADAccount"},
		"disabled, as Heimdal":    {messages.KDC_ERR_POLICY, 0, "policy forbids"},
		"locked":                  {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_LOCKED_OUT, "Unlock-ADAccount"},
		"expired":                 {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_EXPIRED, "Clear-ADAccountExpiration"},
		"password expired":        {messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_EXPIRED, "PasswordNeverExpires"},
		"must change":             {messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_MUST_CHANGE, "ChangePasswordAtLogon"},
		"logon hours":             {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_INVALID_LOGON_HOURS, "logonHours"},
		"armor":                   {messages.KDC_ERR_POLICY, messages.STATUS_ACCOUNT_RESTRICTION, "fast_armor"},
	} {
		got := diagnose(refusedLogin(x.code, x.status))
		if got.Status != http.StatusBadGateway || got.Name != errCredentialsRefused || !strings.Contains(got.Remedy, x.want) {
			t.Errorf("%s: %+v, want %q", name, got, x.want)
		}
		if other, twice := seen[got.Remedy]; twice {
			t.Errorf("%s and %s have one remedy: %s", name, other, got.Remedy)
		}
		seen[got.Remedy] = name
	}
}

func TestRemedyFitsTheCredentialInUse(t *testing.T) {
	for kind, own := range map[string]string{
		negotiate.KindKeytab: "keytab", negotiate.KindPassword: "password", negotiate.KindPasswordFile: "password_file",
	} {
		for code, status := range map[messages.ErrorCode]messages.NTStatus{
			messages.KDC_ERR_PREAUTH_FAILED: 0,
			messages.KDC_ERR_KEY_EXPIRED:    messages.STATUS_PASSWORD_EXPIRED,
			messages.KDC_ERR_CLIENT_REVOKED: messages.STATUS_PASSWORD_MUST_CHANGE,
			messages.KDC_ERR_NAME_EXP:       messages.STATUS_PASSWORD_EXPIRED,
		} {
			e := refusedLogin(code, status)
			e.Salt, e.HasSalt = "CORP.EXAMPLEsvc-proxy", true
			wantRemedyOf(t, kind, own, diagnose(&negotiate.RefusedError{Err: &negotiate.LoginError{Kind: kind, Err: e}}).Remedy)
		}
		wantRemedyOf(t, kind, own, diagnose(&negotiate.LoginError{Kind: kind, Err: exchange.ErrNoKey}).Remedy)
		wantRemedyOf(t, kind, own, diagnose(&negotiate.LoginError{Kind: kind, Err: refusedLogin(messages.KDC_ERR_KEY_EXPIRED, 0)}).Remedy)
	}
}

// wantRemedyOf fails unless a remedy speaks of the credential in use, and of a keytab
// and its salt only where there is one.
func wantRemedyOf(t *testing.T, kind, own, remedy string) {
	t.Helper()
	ofKeytab := strings.Contains(remedy, "keytab") || strings.Contains(remedy, "salt")
	if !strings.Contains(remedy, own) || ofKeytab && kind != negotiate.KindKeytab || strings.Contains(remedy, "RENEW") {
		t.Errorf("%s: %s", kind, remedy)
	}
}

func TestRemedyOfTheArmorsKeyIsNotThatOfThePassword(t *testing.T) {
	e := refusedLogin(messages.KDC_ERR_PREAUTH_FAILED, 0)
	e.Op = krb5core.OpArmor
	got := diagnose(&negotiate.LoginError{Kind: negotiate.KindPassword, Err: e}).Remedy
	if !strings.Contains(got, "keytab") {
		t.Error(got)
	}
}

func TestRunningCaddySaysWhatToDoAboutItsPasswordFile(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	path := filepath.Join(r.folder, "log")
	r.log = "file " + path
	r.load("", r.proxied("{", "user svc-proxy@CORP.EXAMPLE", "password_file "+l.write("password", []byte("wrong")), "kdc "+l.kdc.Addr(), "spn "+labService, "login_at_start off"))
	if status := r.get("/", "site"); status != http.StatusBadGateway {
		t.Fatalf("got %d", status)
	}
	v := see[[]identityView](r, http.MethodGet, "/kerberos/identities")
	wantRemedyOf(t, negotiate.KindPasswordFile, "password_file", v[0].Breaker.Remedy)
	for _, message := range []string{"cannot log in", "request not authenticated"} {
		remedy, _ := logLine(t, path, message)["remedy"].(string)
		wantRemedyOf(t, negotiate.KindPasswordFile, "password_file", remedy)
	}
}

func TestWrongSaltIsInTheRemedy(t *testing.T) {
	e := refusedLogin(messages.KDC_ERR_PREAUTH_FAILED, 0)
	e.Salt, e.HasSalt = "CORP.EXAMPLEold-name", true
	if got := diagnose(e).Remedy; !strings.Contains(got, `"CORP.EXAMPLEold-name"`) {
		t.Error(got)
	}
}
