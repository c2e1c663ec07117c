package negotiate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
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

// A change that has begun leaves a file beside the secret's: the secret is as old as before.
func TestWatchedFile_AgeOfTheSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	next := path + ".next"
	written := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for file, at := range map[string]time.Time{path: written, next: written.Add(time.Hour)} {
		must.Do(t, os.WriteFile(file, []byte("x"), 0o600))
		must.Do(t, os.Chtimes(file, at, at))
	}
	w := watchedFile{path: path, more: []string{next}, observe: func(Event) {}}
	must.OK(w.reload(func() error { return nil }))(t)
	if got := w.modified(); !got.Equal(written) {
		t.Errorf("modified %s, want %s", got, written)
	}
}
