package caddynegotiate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// confAtlas knows what a krb5.conf says.
func confAtlas(t *testing.T, text string) atlas {
	t.Helper()
	conf, err := krb5conf.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return atlas{conf: conf}
}

func TestKrb5ConfLimitsTheClient(t *testing.T) {
	a := confAtlas(t, `[libdefaults]
 request_timeout = 4s
 ticket_lifetime = 8h
 clockskew = 120
 canonicalize = true
 OTHER.EXAMPLE = {
  ticket_lifetime = 1h
  canonicalize = false
 }
`)
	want := krb5core.Config{Timeout: 4 * time.Second, Lifetime: 8 * time.Hour, MaxSkew: 2 * time.Minute, Canonicalize: true}
	other := krb5core.Config{Timeout: 4 * time.Second, Lifetime: time.Hour, MaxSkew: 2 * time.Minute}
	for realm, want := range map[string]krb5core.Config{"CORP.EXAMPLE": want, "OTHER.EXAMPLE": other} {
		var got krb5core.Config
		a.limit(&got, realm)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", realm, diff)
		}
	}
	stated := krb5core.Config{Timeout: time.Second}
	a.limit(&stated, "CORP.EXAMPLE")
	if stated.Timeout != time.Second {
		t.Errorf("the timeout stated in the configuration became %s", stated.Timeout)
	}
}

func TestKrb5ConfPutsTCPFirst(t *testing.T) {
	for value, want := range map[string]int{"1": 1, "0": 1, "600": 600} {
		var o kdc.Options
		if err := confAtlas(t, "[libdefaults]\n udp_preference_limit = "+value+"\n").limitSockets(&o, "CORP.EXAMPLE"); err != nil || o.UDPPreferenceLimit != want {
			t.Errorf("%s gives %d, %v; want %d", value, o.UDPPreferenceLimit, err, want)
		}
	}
	stated := kdc.Options{UDPPreferenceLimit: 900}
	if err := confAtlas(t, "[libdefaults]\n udp_preference_limit = 1\n").limitSockets(&stated, "CORP.EXAMPLE"); err != nil || stated.UDPPreferenceLimit != 900 {
		t.Errorf("the limit stated in the configuration became %d, %v", stated.UDPPreferenceLimit, err)
	}
}

func TestKrb5ConfLimitsEncryptionTypes(t *testing.T) {
	const (
		aes256, aes128 = enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96
		sha384, sha256 = enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128
	)
	for names, want := range map[string][]enctype.ID{
		"aes":                             {aes256, aes128, sha384, sha256},
		"aes128-cts aes256-cts":           {aes128, aes256},
		"DEFAULT -camellia -aes128-cts":   {aes256, sha384, sha256},
		"rc4-hmac, AES256-SHA1, des3, xx": {aes256},
		"aes256-sha2 aes256-sha2":         {sha384},
	} {
		a := confAtlas(t, "[libdefaults]\n permitted_enctypes = "+names+"\n")
		got, err := new(Credentials).permitted(a)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", names, err, diff)
		}
	}
	weak := confAtlas(t, "[libdefaults]\n permitted_enctypes = rc4-hmac\n allow_weak_crypto = true\n")
	if got, err := new(Credentials).permitted(weak); err == nil || !strings.Contains(err.Error(), "encryption_types") {
		t.Errorf("a file that permits RC4 alone gives %v, %v", got, err)
	}
	stated := &Credentials{EncryptionTypes: []string{"aes128-cts"}}
	if got, err := stated.permitted(weak); err != nil || !cmp.Equal(got, []enctype.ID{aes128}) {
		t.Errorf("what is stated gives %v, %v", got, err)
	}
	if got, err := new(Credentials).permitted(confAtlas(t, "[libdefaults]\n")); err != nil || !cmp.Equal(got, enctype.Strong()) {
		t.Errorf("a file that says nothing gives %v, %v", got, err)
	}
}

func TestKrb5ConfNamesKDCs(t *testing.T) {
	a := confAtlas(t, `[libdefaults]
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
	finder, err := a.finder("CORP.EXAMPLE", nil)
	if err != nil {
		t.Fatal(err)
	}
	servers, err := finder.KDCs(t.Context(), "CORP.EXAMPLE")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(servers), "[dc1.corp.example tcp/dc2.corp.example:8888 https://proxy.corp.example/KdcProxy [2001:db8::1] dc3.corp.example]"; got != want {
		t.Errorf("KDCs %s\nwant %s", got, want)
	}
	if _, odd := kdcsOf(a.conf.Realms["CORP.EXAMPLE"]); len(odd) != 1 {
		t.Errorf("of what is passed over is told: %v", odd)
	}
	// dns_lookup_kdc = false: nobody else is asked.
	if servers, err := finder.KDCs(t.Context(), "NONE.EXAMPLE"); err == nil {
		t.Errorf("KDCs of an unknown realm: %v", servers)
	}
	if got := a.CAPath("CORP.EXAMPLE", "FAR.EXAMPLE"); !cmp.Equal(got, []string{"MIDDLE.EXAMPLE"}) {
		t.Errorf("the way to FAR.EXAMPLE is %v", got)
	}
	if got := a.RealmOf("web.corp.example"); got != "CORP.EXAMPLE" {
		t.Errorf("the host is in %q", got)
	}
	stated, err := a.finder("CORP.EXAMPLE", []kdc.Server{{Host: "stated.example", Port: 88}})
	if err != nil {
		t.Fatal(err)
	}
	if servers, err := stated.KDCs(t.Context(), "CORP.EXAMPLE"); err != nil || len(servers) != 1 || servers[0].Host != "stated.example" {
		t.Errorf("what is stated gives %v, %v", servers, err)
	}
}

func TestKrb5ConfNamesTheSite(t *testing.T) {
	a := confAtlas(t, "[realms]\n CORP.EXAMPLE = {\n  sitename = Berlin\n }\n")
	if f := a.dns().(srvFinders); f.sites["CORP.EXAMPLE"] == nil {
		t.Error("the site of krb5.conf is not looked for")
	}
}

func TestKrb5ConfAnchorsOfHTTPSKDCs(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(file, certificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CADDY_NEGOTIATE_ANCHOR", "FILE:"+file)
	conf := func(anchor string) atlas {
		return confAtlas(t, "[realms]\n CORP.EXAMPLE = {\n  http_anchors = "+anchor+"\n }\n")
	}
	for _, anchor := range []string{"FILE:" + file, "DIR:" + folder, "ENV:CADDY_NEGOTIATE_ANCHOR"} {
		var o kdc.Options
		if err := conf(anchor).limitSockets(&o, "CORP.EXAMPLE"); err != nil || o.RootCAs == nil {
			t.Errorf("%s: %v, %v", anchor, o.RootCAs, err)
		}
	}
	for _, anchor := range []string{"FILE:" + file + "x", "DIR:" + file, "ENV:CADDY_NEGOTIATE_NONE", file} {
		var o kdc.Options
		if err := conf(anchor).limitSockets(&o, "CORP.EXAMPLE"); err == nil || !strings.Contains(err.Error(), "tls_ca") {
			t.Errorf("%s: %v", anchor, err)
		}
	}
	stated := kdc.Options{RootCAs: x509.NewCertPool()}
	if err := conf("FILE:none").limitSockets(&stated, "CORP.EXAMPLE"); err != nil {
		t.Errorf("tls_ca is stated: %v", err)
	}
}

func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestKeytabIsHeldAgainstWhatKrb5ConfPermits(t *testing.T) {
	folder := t.TempDir()
	conf, file := filepath.Join(folder, "krb5.conf"), filepath.Join(folder, "keytab")
	if err := os.WriteFile(conf, []byte("[libdefaults]\n permitted_enctypes = camellia\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := enctype.GenerateKey(enctype.AES256_CTS_HMAC_SHA1_96, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	alice := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "alice"), Realm: "CORP.EXAMPLE"}
	content, err := (&keytab.Keytab{Entries: []keytab.Entry{{Principal: alice, KVNO: 1, Key: key}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	app := &App{logger: zap.NewNop()}
	c := &Credentials{User: "alice@CORP.EXAMPLE", Keytab: file, Krb5Conf: conf, KDC: []string{"127.0.0.1"}}
	if acct, err := app.account(c, ""); err == nil {
		acct.release()
		t.Error("a key of a type that krb5.conf forbids is taken")
	} else if !strings.Contains(err.Error(), "camellia256-cts-cmac") {
		t.Error(err)
	}
}
