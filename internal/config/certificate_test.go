package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

func TestCertificate_Caddyfile(t *testing.T) {
	for text, want := range map[string]*Certificate{
		"certificate a.pem a.key":              {Certificate: "a.pem", Key: "a.key"},
		"certificate a.pfx":                    {PFX: "a.pfx"},
		"certificate a.P12 a.txt":              {PFX: "a.P12", PasswordFile: "a.txt"},
		"certificate managed proxy.test":       {Managed: "proxy.test"},
		"certificate":                          nil,
		"certificate a.pem":                    nil,
		"certificate managed":                  nil,
		"certificate a.pem a.key b":            nil,
		"certificate a.pfx\ncertificate b.pfx": nil,
	} {
		var c Credentials
		d := caddyfile.NewTestDispenser("negotiate {\n" + text + "\n}")
		d.Next()
		err := c.Readers().Parse(d, make(Places))
		if (err == nil) != (want != nil) || err == nil && !cmp.Equal(c.Certificate, want) {
			t.Errorf("%s: %+v, %v", text, c.Certificate, err)
		}
	}
}

func TestCertificate_Rejected(t *testing.T) {
	for text, want := range map[string]string{
		`{"certificate": {}}`: "set one of",
		`{"certificate": {"certificate": "a", "key": "b", "pfx": "c"}}`:           "set one of",
		`{"certificate": {"certificate": "a"}}`:                                   "both the certificate and its key",
		`{"certificate": {"certificate": "a", "key": "b", "password_file": "c"}}`: "openssl pkey",
		`{"certificate": {"pfx": "a"}, "keytab": "b"}`:                            "keep one of them",
	} {
		var c Credentials
		must.Do(t, json.Unmarshal([]byte(text), &c))
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCertificate_Resolve(t *testing.T) {
	ca := pkitest.NewCA(t, "test CA")
	cert, key := ca.Issue(t, pkitest.ForClient("alice", "CORP.EXAMPLE")).Files(t)
	web, webKey := ca.Issue(t, pkitest.Spec{Name: "www", DNSNames: []string{"www.corp.example"}}).Files(t)
	env := must.OK(NewEnv(nil, "", zap.NewNop()))(t)
	resolve := func(c Credentials) (*Resolved, error) {
		c.KDC = []string{"127.0.0.1"}
		return c.Resolve(env)
	}
	r := must.OK(resolve(Credentials{Certificate: &Certificate{Certificate: cert, Key: key}, KDCOptions: &KDCOptions{PKINITCA: ca.File(t)}}))(t)
	if r.Principal.String() != "alice@CORP.EXAMPLE" || r.PKINIT.Roots == nil || r.PKINIT.WeakGroups {
		t.Errorf("%s, %+v", r.Principal, r.PKINIT)
	}
	for name, x := range map[string]struct {
		c    Credentials
		want string
	}{
		"no principal":   {Credentials{Certificate: &Certificate{Certificate: web, Key: webKey}}, "name the account with user"},
		"another's key":  {Credentials{Certificate: &Certificate{Certificate: cert, Key: cert}}, "must be PEM"},
		"no file":        {Credentials{Certificate: &Certificate{Certificate: cert + ".none", Key: key}}, "no such file"},
		"no PFX":         {Credentials{Certificate: &Certificate{PFX: cert}}, "PKCS #12"},
		"managed, alone": {Credentials{Certificate: &Certificate{Managed: "www.corp.example"}}, "user is missing"},
		"no CA":          {Credentials{Certificate: &Certificate{Certificate: cert, Key: key}, KDCOptions: &KDCOptions{PKINITCA: key}}, "pkinit_ca"},
	} {
		if _, err := resolve(x.c); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
