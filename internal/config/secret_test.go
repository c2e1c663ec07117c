package config

import (
	"os"
	"path/filepath"
	"strings"
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

// A cache that is not a file may be filled after the start, if the realm is known; a file must be
// there.
func TestResolve_CCacheFilledLater(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "krb5.conf")
	must.Do(t, os.WriteFile(conf, []byte("[libdefaults]\n kcm_socket = "+conf+"-none\n"), 0o600))
	gone := filepath.Join(t.TempDir(), "gone")
	for _, x := range []struct {
		name  string
		creds Credentials
		want  string // the principal, or what the error says
	}{
		{"user", Credentials{User: "alice@CORP.EXAMPLE", CCache: "KCM:"}, "alice@CORP.EXAMPLE"},
		{"realm", Credentials{Realm: "CORP.EXAMPLE", CCache: "KCM:"}, "@CORP.EXAMPLE"},
		{"neither", Credentials{CCache: "KCM:"}, "error: set user, or realm"},
		{"a file", Credentials{User: "alice@CORP.EXAMPLE", CCache: gone}, "error: no such file"},
		{"a folder", Credentials{User: "alice@CORP.EXAMPLE", CCache: "DIR:" + gone}, "error: is not there"},
		{"a type", Credentials{User: "alice@CORP.EXAMPLE", CCache: "MSLSA:"}, "error: ccache: MSLSA:"},
	} {
		env := must.OK(NewEnv(nil, conf, zap.NewNop()))(t)
		r, err := x.creds.Resolve(env)
		if message, fails := strings.CutPrefix(x.want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %v", x.name, err)
			}
			continue
		}
		if err != nil || r.Principal.String() != x.want || r.Missing == nil {
			t.Errorf("%s: %+v, %v", x.name, r, err)
		}
	}
}

// default is KRB5CCNAME, else krb5.conf's, also where kdc takes the place of krb5.conf for the rest.
func TestResolve_DefaultCCache(t *testing.T) {
	cacheOf := func(user string) string {
		file := ccache.CCache{DefaultPrincipal: must.OK(messages.ParsePrincipal(user, ""))(t)}
		path := filepath.Join(t.TempDir(), "ccache")
		must.Do(t, os.WriteFile(path, must.OK(file.Marshal())(t), 0o600))
		return path
	}
	conf := filepath.Join(t.TempDir(), "krb5.conf")
	must.Do(t, os.WriteFile(conf, []byte("[libdefaults]\n default_ccache_name = FILE:"+cacheOf("alice@A")+"%{null}\n"), 0o600))
	env := must.OK(NewEnv(nil, conf, zap.NewNop()))(t)
	for variable, want := range map[string]string{"": "alice@A", cacheOf("bob@B"): "bob@B", "MEMORY:": "error: ccache: default is MEMORY:"} {
		t.Setenv("KRB5CCNAME", variable)
		r, err := (&Credentials{CCache: "default", KDC: []string{"127.0.0.1"}}).Resolve(env)
		if message, fails := strings.CutPrefix(want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("KRB5CCNAME=%s: %v", variable, err)
			}
		} else if err != nil || r.Principal.String() != want {
			t.Errorf("KRB5CCNAME=%s: %+v, %v", variable, r, err)
		}
	}
}
