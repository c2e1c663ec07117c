package diagnosis

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func TestWindows_EveryStatusHasARemedy(t *testing.T) {
	for _, s := range append(sspi.Statuses(), 0x80090999) {
		d := Of(fmt.Errorf("fetching: %w", &sspi.Error{Function: "InitializeSecurityContext", Status: s}))
		if d.Word == "" || d.Status < 400 || d.Remedy == "" || len(d.Causes) == 0 || !d.Local {
			t.Errorf("%s: %+v", s, d)
		}
		if s.Missing() && d.Word != CredentialsMissing || s.Unknown() && d.Word != UnknownService {
			t.Errorf("%s is remembered as another word than %s", s, d.Word)
		}
	}
	for s, want := range map[sspi.Status]struct {
		status int
		word   Word
	}{
		sspi.SEC_E_NO_CREDENTIALS:              {http.StatusBadGateway, CredentialsMissing},
		sspi.SEC_E_LOGON_DENIED:                {http.StatusBadGateway, CredentialsRefused},
		sspi.SEC_E_TARGET_UNKNOWN:              {http.StatusBadGateway, UnknownService},
		sspi.SEC_E_INTERNAL_ERROR:              {http.StatusBadGateway, UnknownService},
		sspi.SEC_E_NO_AUTHENTICATING_AUTHORITY: {http.StatusServiceUnavailable, KDCUnreachable},
		sspi.SEC_E_TIME_SKEW:                   {http.StatusBadGateway, CredentialsRefused},
		sspi.SEC_E_KDC_UNKNOWN_ETYPE:           {http.StatusBadGateway, NoCommonEType},
		sspi.SEC_E_WRONG_PRINCIPAL:             {http.StatusBadGateway, MutualAuthFailed},
		sspi.SEC_E_BAD_BINDINGS:                {http.StatusBadGateway, ChannelBindingFailed},
	} {
		if d := Of(&sspi.Error{Status: s}); d.Status != want.status || d.Word != want.word {
			t.Errorf("%s: %d %s, want %d %s", s, d.Status, d.Word, want.status, want.word)
		}
	}
	proof := fmt.Errorf("%w: %w", negotiate.ErrMutualAuth, &sspi.Error{Status: sspi.SEC_E_INTERNAL_ERROR})
	if d := Of(proof); d.Word != MutualAuthFailed {
		t.Errorf("a wrong proof: %s", d.Word)
	}
}
