package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// parsedConf returns the realms of a krb5.conf.
func parsedConf(t *testing.T, text string) *RealmConfig {
	t.Helper()
	conf, err := krb5conf.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return newRealmConfig(nil, conf, zap.NewNop())
}

// limits returns what credentials with a timeout and options resolve to.
func limits(realms *RealmConfig, realm string, timeout time.Duration, sockets kdc.Options) (*Resolved, error) {
	r := &Resolved{Realms: realms, Principal: messages.Principal{Realm: realm}, Sockets: sockets, Timeout: timeout}
	return r, r.resolveLimits(nil)
}

func TestKrb5Conf_Limits(t *testing.T) {
	realms := parsedConf(t, `[libdefaults]
 request_timeout = 4s
 ticket_lifetime = 8h
 clockskew = 120
 canonicalize = true
 OTHER.EXAMPLE = {
  ticket_lifetime = 1h
  canonicalize = false
 }
`)
	for realm, want := range map[string]Resolved{
		"CORP.EXAMPLE":  {Timeout: 4 * time.Second, Lifetime: 8 * time.Hour, MaxSkew: 2 * time.Minute, Canonicalize: true},
		"OTHER.EXAMPLE": {Timeout: 4 * time.Second, Lifetime: time.Hour, MaxSkew: 2 * time.Minute},
	} {
		got, err := limits(realms, realm, 0, kdc.Options{})
		if err != nil || got.Timeout != want.Timeout || got.Lifetime != want.Lifetime || got.MaxSkew != want.MaxSkew || got.Canonicalize != want.Canonicalize {
			t.Errorf("%s: %+v, %v", realm, got, err)
		}
	}
	set, err := limits(realms, "CORP.EXAMPLE", time.Second, kdc.Options{})
	if err != nil || set.Timeout != time.Second {
		t.Errorf("the configured timeout became %s, %v", set.Timeout, err)
	}
}

// The directive decides, then krb5.conf, then the default.
func TestCanonicalize_Precedence(t *testing.T) {
	const absent, on, off = "", " canonicalize = true\n", " canonicalize = false\n"
	for _, row := range []struct {
		directive *bool
		conf      string
		kind      negotiate.SecretKind
		want      bool
	}{
		{nil, absent, negotiate.KindKeytab, true},
		{nil, on, negotiate.KindKeytab, true},
		{nil, off, negotiate.KindPassword, false},
		{new(true), off, negotiate.KindKeytab, true},
		{new(false), on, negotiate.KindKeytab, false},
		{new(false), absent, negotiate.KindKeytab, false},
		{nil, on, negotiate.KindCCache, false}, // which never logs in
	} {
		r := &Resolved{Realms: parsedConf(t, "[libdefaults]\n"+row.conf)}
		r.Secret.Kind = row.kind
		if err := r.resolveLimits(row.directive); err != nil || r.Canonicalize != row.want {
			t.Errorf("%+v: %t, %v", row, r.Canonicalize, err)
		}
	}
}

func TestKrb5Conf_TCPFirst(t *testing.T) {
	for _, row := range []struct {
		value    string
		set, get int
	}{{"1", 0, 1}, {"0", 0, 1}, {"600", 0, 600}, {"1", 900, 900}} {
		realms := parsedConf(t, "[libdefaults]\n udp_preference_limit = "+row.value+"\n")
		got, err := limits(realms, "CORP.EXAMPLE", 0, kdc.Options{UDPPreferenceLimit: row.set})
		if err != nil || got.Sockets.UDPPreferenceLimit != row.get {
			t.Errorf("%+v: %d, %v", row, got.Sockets.UDPPreferenceLimit, err)
		}
	}
}

func TestKrb5Conf_EncryptionTypes(t *testing.T) {
	const (
		aes256, aes128 = enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96
		sha384, sha256 = enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128
	)
	permitted := func(conf string, configured ...enctype.ID) ([]enctype.ID, error) {
		r := &Resolved{Realms: parsedConf(t, "[libdefaults]\n"+conf+"\n"), ETypes: configured}
		err := r.resolveETypes()
		return r.ETypes, err
	}
	for names, want := range map[string][]enctype.ID{
		"aes":                             {aes256, aes128, sha384, sha256},
		"aes128-cts aes256-cts":           {aes128, aes256},
		"DEFAULT -camellia -aes128-cts":   {aes256, sha384, sha256},
		"rc4-hmac, AES256-SHA1, des3, xx": {aes256},
		"aes256-sha2 aes256-sha2":         {sha384},
	} {
		got, err := permitted(" permitted_enctypes = " + names)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", names, err, diff)
		}
	}
	const weak = " permitted_enctypes = rc4-hmac\n allow_weak_crypto = true"
	if got, err := permitted(weak); err == nil || !strings.Contains(err.Error(), "encryption_types") {
		t.Errorf("a file that permits RC4 only: %v, %v", got, err)
	}
	if got, err := permitted(weak, aes128); err != nil || !cmp.Equal(got, []enctype.ID{aes128}) {
		t.Errorf("encryption_types with such a file: %v, %v", got, err)
	}
	if got, err := permitted(""); err != nil || !cmp.Equal(got, enctype.Strong()) {
		t.Errorf("a file without permitted_enctypes: %v, %v", got, err)
	}
}

func TestKrb5Conf_KDCs(t *testing.T) {
	realms := parsedConf(t, `[libdefaults]
 dns_lookup_kdc = false
[realms]
 CORP.EXAMPLE = {
  kdc = dc1.corp.example
  kdc = tcp/dc2.corp.example:8888
  kdc = https://proxy.corp.example/KdcProxy
  kdc = no port:x
  kdc = [2001:db8::1]:88
  primary_kdc = dc1.corp.example
  primary_kdc = dc3.corp.example
 }
[capaths]
 CORP.EXAMPLE = {
  FAR.EXAMPLE = MIDDLE.EXAMPLE
 }
[domain_realm]
 .corp.example = CORP.EXAMPLE
`)
	finder := realms.Finder("CORP.EXAMPLE", nil)
	servers, err := finder.KDCs(t.Context(), "CORP.EXAMPLE")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(servers), "[dc1.corp.example tcp/dc2.corp.example:8888 https://proxy.corp.example/KdcProxy [2001:db8::1] dc3.corp.example]"; got != want {
		t.Errorf("KDCs %s\nwant %s", got, want)
	}
	if servers, err := finder.KDCs(t.Context(), "NONE.EXAMPLE"); err == nil { // dns_lookup_kdc = false
		t.Errorf("KDCs of an unknown realm: %v", servers)
	}
	if got := realms.CAPath("CORP.EXAMPLE", "FAR.EXAMPLE"); !cmp.Equal(got, []string{"MIDDLE.EXAMPLE"}) {
		t.Errorf("the path to FAR.EXAMPLE is %v", got)
	}
	if got := realms.RealmOf("web.corp.example"); got != "CORP.EXAMPLE" {
		t.Errorf("the host is in %q", got)
	}
	if got := realms.Source("CORP.EXAMPLE"); got != "krb5.conf" {
		t.Errorf("the source of KDCs is %q", got)
	}
	set := realms.Finder("CORP.EXAMPLE", []kdc.Server{{Host: "set.example", Port: 88}})
	if servers, err := set.KDCs(t.Context(), "CORP.EXAMPLE"); err != nil || len(servers) != 1 || servers[0].Host != "set.example" {
		t.Errorf("with kdc: %v, %v", servers, err)
	}
}

func TestKrb5Conf_Site(t *testing.T) {
	realms := parsedConf(t, "[realms]\n CORP.EXAMPLE = {\n  sitename = Berlin\n }\n")
	if f := realms.srv.(siteFinder); f["CORP.EXAMPLE"] == nil {
		t.Error("the site of krb5.conf is not used")
	}
}

func TestKrb5Conf_HTTPAnchors(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(file, certificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CADDY_NEGOTIATE_ANCHOR", "FILE:"+file)
	anchored := func(anchor string, o kdc.Options) (*Resolved, error) {
		return limits(parsedConf(t, "[realms]\n CORP.EXAMPLE = {\n  http_anchors = "+anchor+"\n }\n"), "CORP.EXAMPLE", 0, o)
	}
	for _, anchor := range []string{"FILE:" + file, "DIR:" + folder, "ENV:CADDY_NEGOTIATE_ANCHOR"} {
		if r, err := anchored(anchor, kdc.Options{}); err != nil || r.Sockets.RootCAs == nil {
			t.Errorf("%s: %v", anchor, err)
		}
	}
	for _, anchor := range []string{"FILE:" + file + "x", "DIR:" + file, "ENV:CADDY_NEGOTIATE_NONE", file} {
		if _, err := anchored(anchor, kdc.Options{}); err == nil || !strings.Contains(err.Error(), "tls_ca") {
			t.Errorf("%s: %v", anchor, err)
		}
	}
	if _, err := anchored("FILE:none", kdc.Options{RootCAs: x509.NewCertPool()}); err != nil {
		t.Errorf("with tls_ca: %v", err)
	}
}

// One krb5.conf is read, and warned of, once for all credentials of a configuration.
func TestKrb5Conf_ReadOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(file, []byte("[realms]\n CORP.EXAMPLE = {\n  kdc = no port:x\n }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	env, err := NewEnv(nil, file, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := &Credentials{User: "alice@CORP.EXAMPLE", Password: "{env.PATH}"}
		if _, err := c.Resolve(env); err != nil {
			t.Fatal(err)
		}
		os.Remove(file)
	}
	if logs.FilterMessage("krb5.conf has a kdc that is ignored").Len() != 1 {
		t.Errorf("logged: %v", logs.All())
	}
}

func certificate(t *testing.T) []byte {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
