package config

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Every other setting of credentials is rejected by name, with the reason.
func TestPlatform_StandsAlone(t *testing.T) {
	for line, want := range map[string]string{
		"user svc@CORP.EXAMPLE":                    "sc.exe",
		"realm CORP.EXAMPLE":                       "domain",
		"canonicalize off":                         "names",
		"kdc dc1":                                  "finds and asks",
		"use_tcp":                                  "finds and asks",
		"krb5_conf /etc/krb5.conf":                 "finds and asks",
		"kdc_options {\n dscp 1\n}":                "finds and asks",
		"encryption_types aes256-cts-hmac-sha1-96": "group policy",
		"allow_weak_crypto":                        "group policy",
		"fast_armor keytab x.keytab":               "group policy",
		"login_at_start off":                       "logged in",
		"trace":                                    "does not see",
		"trace packets x":                          "does not see",
		"keytab x.keytab":                          "keep one",
		"ccache default":                           "keep one",
	} {
		var c Credentials
		d := caddyfile.NewTestDispenser("negotiate {\nplatform\n" + line + "\n}")
		d.Next()
		err := c.Readers().Parse(d, make(Places))
		if err == nil {
			err = c.Check()
		}
		name, _, _ := strings.Cut(line, " ")
		if name == "ccache" || name == "keytab" {
			name = "platform"
		}
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q", line, err, want)
		}
	}
	good := &Credentials{Platform: true, Timeout: caddy.Duration(time.Second)}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

func TestPlatform_Services(t *testing.T) {
	for name, row := range map[string]struct {
		service Service
		user    string
		want    string
	}{
		"nothing":      {},
		"marked":       {service: Service{Delegate: "marked"}},
		"always":       {service: Service{Delegate: "always"}, want: "without always"},
		"a user to be": {user: "{http.auth.user.id}", want: "keytab"},
	} {
		for _, kind := range []negotiate.SecretKind{negotiate.KindPlatform, negotiate.KindKeytab, ""} {
			err := CheckPlatform(kind, &row.service, &Impersonation{Impersonate: row.user})
			fails := kind == negotiate.KindPlatform && row.want != ""
			if fails != (err != nil) || fails && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s with %s: %v", name, kind, err)
			}
		}
		if err := CheckPlatform(negotiate.KindPlatform, &Service{}, nil); err != nil {
			t.Error(err)
		}
	}
	with, without := Login{Credentials: &Credentials{Platform: true}}, Login{Credentials: new(Credentials)}
	if with.Kind() != negotiate.KindPlatform || without.Kind() != "" || new(Login).Kind() != "" {
		t.Error("kinds")
	}
}

func TestPlatform_OnlyOnWindows(t *testing.T) {
	r, err := (&Credentials{Platform: true}).Resolve(testEnv(t))
	if runtime.GOOS == "windows" {
		if err != nil || r.Secret.Kind != negotiate.KindPlatform || r.PoolKey != "platform" || r.LoginAtStart || r.Canonicalize {
			t.Errorf("%+v, %v", r, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "platform: ") || !strings.Contains(err.Error(), "ccache default") {
		t.Error(err)
	}
}
