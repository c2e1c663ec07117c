package diagnosis

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

func TestOfSignIn_EveryReason(t *testing.T) {
	for reason := accept.Malformed; reason <= accept.Internal; reason++ {
		s := OfSignIn(fmt.Errorf("wrapped: %w", &accept.Error{Reason: reason}))
		if s.Reason != reason || s.Remedy == "" || !slices.Contains(SignInResults(), s.Result) {
			t.Errorf("%s: %+v", reason, s)
		}
		if want := s.Status == http.StatusServiceUnavailable; want != (s.Result == Unverified) || s.Status != http.StatusServiceUnavailable && s.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d and %s", reason, s.Status, s.Result)
		}
	}
	if len(SignIns()) != int(accept.Internal) {
		t.Errorf("%d rows", len(SignIns()))
	}
}

// What a client without Kerberos sends does not count as a failure of its address.
func TestSignIn_Counts(t *testing.T) {
	for reason, want := range map[accept.Reason]bool{
		accept.NTLM: false, accept.OtherMechanism: false, accept.NotPreferred: false, accept.NoToken: false,
		accept.ReplaysFull: false, accept.Internal: false,
		accept.Malformed: true, accept.WrongKey: true, accept.Skew: true, accept.Replay: true, accept.BindingsWrong: true,
	} {
		if got := OfSignIn(&accept.Error{Reason: reason}).Counts(); got != want {
			t.Errorf("%s: %t", reason, got)
		}
	}
}

func TestOfSignIn_NoKeys(t *testing.T) {
	down := &krb5core.Error{Op: krb5core.OpLogin, Err: &kdc.UnreachableError{}}
	for _, err := range []error{down, errors.New("anything")} {
		if s := OfSignIn(err); s.Status != http.StatusServiceUnavailable || s.Result != Unverified || s.Remedy == "" || s.Counts() {
			t.Errorf("%v: %+v", err, s)
		}
	}
}
