package caddynegotiate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
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

func TestWrongSaltIsInTheRemedy(t *testing.T) {
	e := refusedLogin(messages.KDC_ERR_PREAUTH_FAILED, 0)
	e.Salt, e.HasSalt = "CORP.EXAMPLEold-name", true
	if got := diagnose(e).Remedy; !strings.Contains(got, `"CORP.EXAMPLEold-name"`) {
		t.Error(got)
	}
}
