package caddynegotiate

import (
	"encoding/json"
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

func TestFASTArmorInTheCaddyfileAndInJSON(t *testing.T) {
	for text, want := range map[string]*FASTArmor{
		"fast_armor keytab /etc/krb5.keytab":                 {Keytab: "/etc/krb5.keytab"},
		"fast_armor keytab /etc/krb5.keytab host/a@B":        {Keytab: "/etc/krb5.keytab", Principal: "host/a@B"},
		"fast_armor ccache FILE:/tmp/krb5cc":                 {CCache: "FILE:/tmp/krb5cc"},
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
		err := c.block().parse(d, make(Origin))
		if want == nil {
			if err == nil || !strings.Contains(err.Error(), "fast_armor") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil || !cmp.Equal(c.FASTArmor, want) {
			t.Errorf("%s: %+v, %v", text, c.FASTArmor, err)
		}
		b, err := json.Marshal(c)
		var again Credentials
		if err != nil || json.Unmarshal(b, &again) != nil || !cmp.Equal(again.FASTArmor, want) || !strings.Contains(string(b), `"fast_armor":{"`) {
			t.Errorf("%s: %s, %v", text, b, err)
		}
	}
}

func TestFASTArmorIsCheckedWhenLoaded(t *testing.T) {
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
		"nobody's":             {FASTArmor{Keytab: one, Principal: "alice@CORP.EXAMPLE"}, "alice@CORP.EXAMPLE"},
		"no file":              {FASTArmor{Keytab: one + ".gone"}, "no such file"},
		"weak keys":            {FASTArmor{Keytab: rc4}, "2026"},
		"nothing":              {FASTArmor{}, "keytab FILE"},
		"both":                 {FASTArmor{Keytab: one, CCache: one}, "keep one"},
		"no ccache":            {FASTArmor{CCache: one}, one},
		"another kind of file": {FASTArmor{CCache: "KCM:0"}, "KCM"},
		"whose ccache":         {FASTArmor{CCache: one, Principal: "alice"}, "leave the principal out"},
	} {
		creds := &Credentials{FASTArmor: &c.armor, Origin: Origin{"fast_armor": "Caddyfile:7"}}
		armor, err := creds.armor(atlas{})
		switch {
		case c.say == "" && (err != nil || armor == nil):
			t.Errorf("%s: %v", name, err)
		case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "Caddyfile:7: fast_armor")):
			t.Errorf("%s: %v does not say %q", name, err, c.say)
		}
	}
	if armor, err := new(Credentials).armor(atlas{}); armor != nil || err != nil {
		t.Errorf("%v, %v without fast_armor", armor, err)
	}
}

func TestRC4OnlyKeytabIsExplainedWhenLoaded(t *testing.T) {
	path := keytabOf(t, enctype.RC4_HMAC, "svc-proxy")
	c := &Credentials{User: "svc-proxy@CORP.EXAMPLE", Keytab: path, KDC: []string{"kdc"}}
	app := &App{}
	_, err := app.accountForTest(t, c)
	for _, part := range []string{path, "rc4-hmac", "April 2026", "July 2026", "AES", "export the keytab"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
	c.EncryptionTypes = []string{"rc4-hmac"}
	if _, err := app.accountForTest(t, c); err == nil || !strings.Contains(err.Error(), "allow_weak_crypto") {
		t.Errorf("a weak type without leave: %v", err)
	}
	c.AllowWeakCrypto = true
	if _, err := app.accountForTest(t, c); err != nil {
		t.Errorf("a weak type with leave: %v", err)
	}
}

// accountForTest reads the credentials as the configuration's load does.
func (a *App) accountForTest(t *testing.T, c *Credentials) (*account, error) {
	t.Helper()
	a.logger = zap.NewNop()
	acct, err := a.account(c, "")
	if acct != nil {
		t.Cleanup(acct.release)
	}
	return acct, err
}
