package config

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// A configured user pins a credential cache; without one the identity follows the file. A site that
// follows does not share an identity with one that does not.
func TestResolve_UserPinsCCache(t *testing.T) {
	alice := must.OK(messages.ParsePrincipal("alice@CORP.EXAMPLE", ""))(t)
	file := ccache.CCache{DefaultPrincipal: alice}
	path := filepath.Join(t.TempDir(), "ccache")
	must.Do(t, os.WriteFile(path, must.OK(file.Marshal())(t), 0o600))
	env := must.OK(NewEnv(nil, "", zap.NewNop()))(t)
	resolve := func(user string) *Resolved {
		t.Helper()
		return must.OK((&Credentials{User: user, CCache: path, KDC: []string{"127.0.0.1"}}).Resolve(env))(t)
	}
	pinned, follows := resolve("alice@CORP.EXAMPLE"), resolve("")
	if !pinned.Secret.Pinned.Equal(alice) {
		t.Errorf("with user, pinned to %q", pinned.Secret.Pinned)
	}
	if !follows.Secret.Pinned.IsZero() || !follows.Principal.Equal(alice) {
		t.Errorf("without user, pinned to %q, principal %s", follows.Secret.Pinned, follows.Principal)
	}
	if pinned.PoolKey == follows.PoolKey {
		t.Error("both are one identity")
	}
}
