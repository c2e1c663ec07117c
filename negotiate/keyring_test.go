package negotiate

import (
	"errors"
	"fmt"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A new key must not count as refused because of the armor or an outage.
func TestKeyring_KeyRefused(t *testing.T) {
	fail := func(op krb5core.Op, code messages.ErrorCode) error {
		return fmt.Errorf("wrapped: %w", &krb5core.Error{Op: op, Refused: true, Code: code, Err: &messages.KRBError{ErrorCode: code}})
	}
	for _, row := range []struct {
		err     error
		refused bool
	}{
		{fail(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED), true},
		{fail(krb5core.OpLogin, messages.KRB_AP_ERR_BAD_INTEGRITY), true},
		{fail(krb5core.OpLogin, messages.KDC_ERR_ETYPE_NOSUPP), true},
		{fail(krb5core.OpLogin, messages.KDC_ERR_CLIENT_REVOKED), false},
		{fail(krb5core.OpArmor, messages.KDC_ERR_PREAUTH_FAILED), false},
		{fail(krb5core.OpArmor, messages.KDC_ERR_ETYPE_NOSUPP), false},
		{errors.New("no KDC could be reached"), false},
	} {
		if got := KeyRefused(row.err); got != row.refused {
			t.Errorf("%v: refused %t, want %t", row.err, got, row.refused)
		}
	}
}
