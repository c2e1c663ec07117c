package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestRotatePassword_Caddyfile(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"rotate_password": 30 * 24 * time.Hour, "rotate_password 90d": 90 * 24 * time.Hour, "rotate_password 1s": time.Second,
		"rotate_password 0": -1, "rotate_password -1h": -1, "rotate_password often": -1, "rotate_password 1d 2d": -1,
	} {
		var c Credentials
		d := caddyfile.NewTestDispenser("identity {\n" + text + "\n}")
		d.Next()
		err := c.Readers().Parse(d, NewPlaces(d))
		if got := time.Duration(c.RotatePassword); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

func TestRotatePassword_NeedsAFile(t *testing.T) {
	every := caddy.Duration(24 * time.Hour)
	for name, c := range map[string]struct {
		Credentials
		want string
	}{
		"password file": {Credentials{User: "a@R", PasswordFile: "/f", RotatePassword: every}, ""},
		"keytab":        {Credentials{Keytab: "/f", RotatePassword: every}, ""},
		"password":      {Credentials{User: "a@R", Password: "{env.X}", RotatePassword: every}, "password_file FILE or keytab FILE"},
		"ccache":        {Credentials{CCache: "/f", RotatePassword: every}, "password_file FILE or keytab FILE"},
		"negative":      {Credentials{Keytab: "/f", RotatePassword: -every}, "must not be negative"},
		"KDC proxy":     {Credentials{Keytab: "/f", RotatePassword: every, KDCOptions: &KDCOptions{KpasswdServer: "https://h/KdcProxy"}}, "kpasswd_server"},
		"no host":       {Credentials{Keytab: "/f", KDCOptions: &KDCOptions{KpasswdServer: ":464"}}, "kpasswd_server"},
	} {
		err := c.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The age is nine tenths of what is configured; a short one warns; another age is another identity.
func TestRotatePassword_Resolved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(path, []byte("secret"), 0o600))
	keys := make(map[string]bool)
	for every, warns := range map[time.Duration]bool{0: false, time.Hour: true, 40 * 24 * time.Hour: false} {
		core, logs := observer.New(zapcore.WarnLevel)
		env := must.OK(NewEnv(nil, "", zap.New(core)))(t)
		c := Credentials{User: "svc@R.EXAMPLE", PasswordFile: path, KDC: []string{"kdc1"}, RotatePassword: caddy.Duration(every)}
		r := must.OK(c.Resolve(env))(t)
		if r.Secret.RotateEvery != every-every/10 || (r.Passwords != nil) != (every > 0) {
			t.Errorf("%s: %s", every, r.Secret.RotateEvery)
		}
		if got := logs.FilterMessageSnippet("changed often").Len() > 0; got != warns {
			t.Errorf("%s: warned %t", every, got)
		}
		keys[r.PoolKey] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d identities", len(keys))
	}
}

func TestPasswordServers(t *testing.T) {
	const conf = "[libdefaults]\n dns_lookup_kdc = false\n[realms]\n R.EXAMPLE = {\n  kdc = kdc9\n%s }\n"
	for name, c := range map[string]struct {
		named, conf string
		kdc         []string
		want        string
	}{
		"named":          {"kp1", "  kpasswd_server = kp2\n", []string{"kdc1"}, "[kp1:464]"},
		"with a port":    {"kp1:88", "", nil, "[kp1]"},
		"kpasswd_server": {"", "  kpasswd_server = kp2:1464\n  kpasswd_server = kp3\n  admin_server = adm\n", nil, "[kp2:1464 kp3:464]"},
		"admin_server":   {"", "  admin_server = adm:749\n", nil, "[adm:464]"},
		"the KDCs":       {"", "", []string{"kdc1:1088", "tcp/kdc2", "https://proxy/KdcProxy"}, "[kdc1:464 tcp/kdc2:464]"},
		"krb5.conf's":    {"", "", nil, "[kdc9:464]"},
		"only proxies":   {"", "", []string{"https://proxy/KdcProxy"}, "kpasswd_server"},
	} {
		t.Run(name, func(t *testing.T) {
			realms := newRealmConfig(nil, must.OK(krb5conf.Parse([]byte(fmt.Sprintf(conf, c.conf))))(t), zap.NewNop())
			named := must.OK((&KDCOptions{KpasswdServer: c.named}).passwordServers())(t)
			kdcs := must.OK(parseServers(c.kdc))(t)
			finder := realms.passwordFinder("R.EXAMPLE", named, realms.Finder("R.EXAMPLE", kdcs))
			servers, err := finder.KDCs(t.Context(), "R.EXAMPLE")
			if got := fmt.Sprint(servers, err); !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
