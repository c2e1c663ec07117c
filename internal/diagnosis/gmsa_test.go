package diagnosis

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// However a reading fails, the credentials are missing, not refused; each stage has a remedy of its
// own, that of the reader's login the reader's.
func TestOf_ManagedPassword(t *testing.T) {
	account := func(name string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: "CORP.EXAMPLE"}
	}
	remedies := make(map[string]gmsa.Stage)
	for _, stage := range gmsa.Stages() {
		cause := errors.New("cause")
		want := ""
		switch stage {
		case gmsa.StageLogin:
			cause, want = &negotiate.LoginError{Kind: negotiate.KindPasswordFile, Err: refused(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED, 0)}, "correct password_file"
		case gmsa.StagePermission:
			want = "Set-ADServiceAccount svc-web$ -PrincipalsAllowedToRetrieveManagedPassword WEB01$"
		default: // any remedy
		}
		got := Of(&negotiate.PasswordError{Account: account("svc-web$"), Reader: account("WEB01$"), Err: &gmsa.Error{Stage: stage, Err: cause}})
		if got.Word != CredentialsMissing || got.Status != http.StatusBadGateway || !strings.Contains(got.Remedy, want) || got.Remedy == "" {
			t.Errorf("%s: %+v", stage, got)
		}
		if before, twice := remedies[got.Remedy]; twice {
			t.Errorf("%s has the remedy of %s: %s", stage, before, got.Remedy)
		}
		remedies[got.Remedy] = stage
	}
	host := Of(&negotiate.PasswordError{Err: &gmsa.Error{Stage: gmsa.StageTLS, Err: x509.HostnameError{Certificate: new(x509.Certificate), Host: "dc1"}}})
	if !strings.Contains(host.Remedy, "as its certificate does") {
		t.Error(host.Remedy)
	}
	kdc := Of(&negotiate.LoginError{Kind: negotiate.KindGMSA, Err: refused(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED, 0)})
	if kdc.Word != CredentialsRefused || !strings.Contains(kdc.Remedy, "repadmin") {
		t.Errorf("%+v", kdc)
	}
}
