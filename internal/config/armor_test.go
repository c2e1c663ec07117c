package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// keytabOf writes a keytab with keys of the type for principals.
func keytabOf(t *testing.T, id enctype.ID, principals ...string) string {
	t.Helper()
	var file keytab.Keytab
	for _, name := range principals {
		p, err := messages.ParsePrincipal(name, "CORP.EXAMPLE")
		if err != nil {
			t.Fatal(err)
		}
		key, err := enctype.StringToKey(id, "secret", name, nil)
		if err != nil {
			t.Fatal(err)
		}
		file.Entries = append(file.Entries, keytab.Entry{Principal: p, Timestamp: time.Unix(0, 0), KVNO: 1, Key: key})
	}
	content, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFASTArmor_Caddyfile(t *testing.T) {
	for text, want := range map[string]*FASTArmor{
		"fast_armor keytab /etc/krb5.keytab":                 {Keytab: "/etc/krb5.keytab"},
		"fast_armor keytab /etc/krb5.keytab host/a@B":        {Keytab: "/etc/krb5.keytab", Principal: "host/a@B"},
		"fast_armor ccache FILE:/tmp/krb5cc":                 {CCache: "FILE:/tmp/krb5cc"},
		"fast_armor anonymous":                               {Anonymous: true},
		"fast_armor anonymous a":                             nil,
		"fast_armor":                                         nil,
		"fast_armor /etc/krb5.keytab":                        nil,
		"fast_armor keytab":                                  nil,
		"fast_armor keytab a b c":                            nil,
		"fast_armor ccache a b":                              nil,
		"fast_armor ccache /tmp/a\nfast_armor ccache /tmp/b": nil,
	} {
		var c Credentials
		d := caddyfile.NewTestDispenser("negotiate {\n" + text + "\n}")
		d.Next()
		err := c.Readers().Parse(d, make(Places))
		if want == nil {
			if err == nil || !strings.Contains(err.Error(), "fast_armor") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil || !cmp.Equal(c.FASTArmor, want) {
			t.Errorf("%s: %+v, %v", text, c.FASTArmor, err)
		}
	}
}

func TestFASTArmor_Resolve(t *testing.T) {
	one := keytabOf(t, enctype.AES256_CTS_HMAC_SHA1_96, "host/proxy")
	two := keytabOf(t, enctype.AES256_CTS_HMAC_SHA1_96, "host/proxy", "HTTP/proxy")
	rc4 := keytabOf(t, enctype.RC4_HMAC, "host/proxy")
	for name, c := range map[string]struct {
		armor FASTArmor
		say   string // "" if it is good
	}{
		"the only principal":   {FASTArmor{Keytab: one}, ""},
		"one of two":           {FASTArmor{Keytab: two, Principal: "HTTP/proxy@CORP.EXAMPLE"}, ""},
		"which of two":         {FASTArmor{Keytab: two}, "2 principals"},
		"not in the keytab":    {FASTArmor{Keytab: one, Principal: "alice@CORP.EXAMPLE"}, "alice@CORP.EXAMPLE"},
		"no file":              {FASTArmor{Keytab: one + ".gone"}, "no such file"},
		"weak keys":            {FASTArmor{Keytab: rc4}, "2026"},
		"nothing":              {FASTArmor{}, "keytab FILE"},
		"both":                 {FASTArmor{Keytab: one, CCache: one}, "keep one"},
		"no ccache":            {FASTArmor{CCache: one}, one},
		"another kind of file": {FASTArmor{CCache: "MEMORY:0"}, "MEMORY"},
		"whose ccache":         {FASTArmor{CCache: one, Principal: "alice"}, "leave the principal out"},
	} {
		creds := &Credentials{User: "svc@CORP.EXAMPLE", Password: "{env.PATH}", KDC: []string{"kdc"}, FASTArmor: &c.armor}
		r, err := creds.Resolve(testEnv(t))
		switch {
		case c.say == "" && (err != nil || r.Armor == nil):
			t.Errorf("%s: %v", name, err)
		case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "fast_armor: ")):
			t.Errorf("%s: %v does not say %q", name, err, c.say)
		}
	}
}

// testEnv returns an Env without realms.
func testEnv(t *testing.T) *Env {
	t.Helper()
	env, err := NewEnv(nil, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return env
}
