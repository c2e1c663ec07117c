package config

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

func TestGMSA_Caddyfile(t *testing.T) {
	for text, want := range map[string]*GMSA{
		"gmsa svc-web$": {Account: "svc-web$"},
		"gmsa svc-web$ {\nserver ldaps://dc1 ldaps://dc2:637\ntls_ca ca.pem\n}": {
			Account: "svc-web$", Server: []string{"ldaps://dc1", "ldaps://dc2:637"}, TLSCA: "ca.pem",
		},
		"gmsa":                                   nil,
		"gmsa svc-web$ svc-app$":                 nil,
		"gmsa svc-web$ {\nserver\n}":             nil,
		"gmsa svc-web$ {\npassword x\n}":         nil,
		"gmsa svc-web$ {\ntls_ca a b\n}":         nil,
		"gmsa svc-web$\ngmsa svc-app$":           nil,
		"gmsa svc-web$ {\ntls_ca a\ntls_ca b\n}": nil,
	} {
		var c Credentials
		d := caddyfile.NewTestDispenser("negotiate {\n" + text + "\n}")
		d.Next()
		err := c.Readers().Parse(d, make(Places))
		if (err == nil) != (want != nil) || err == nil && !cmp.Equal(c.GMSA, want) {
			t.Errorf("%s: %+v, %v", text, c.GMSA, err)
		}
	}
}

// What the text alone shows is rejected by the adapter, with the remedy.
func TestGMSA_Rejected(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                  "write NAME$",
		`{"account": "svc-web"}`:              "write NAME$",
		`{"account": "$"}`:                    "write NAME$",
		`{"account": "svc-web@CORP.EXAMPLE"}`: "write NAME$",
		`{"account": "CORP\\svc-web$"}`:       "write NAME$",
		`{"account": "{env.X}$"}`:             "write NAME$",
		`{"account": "svc-web$", "server": ["ldap://dc1.corp.example"]}`:    "over TLS only: write ldaps://dc1.corp.example",
		`{"account": "svc-web$", "server": ["ldaps://192.0.2.1"]}`:          "name the domain controller",
		`{"account": "svc-web$", "server": ["ldaps://dc1_.corp.exa mple"]}`: "server:",
	} {
		var c Credentials
		must.Do(t, json.Unmarshal([]byte(`{"keytab": "x", "gmsa": `+text+`}`), &c))
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "gmsa:") {
			t.Errorf("%s: %v", text, err)
		}
	}
	c := Credentials{GMSA: &GMSA{Account: "svc-web$"}}
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "nothing to log in with") {
		t.Errorf("without a reader: %v", err)
	}
}

func TestGMSA_Resolve(t *testing.T) {
	ca := pkitest.NewCA(t, "corp CA").File(t)
	password := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(password, []byte("x"), 0o600))
	env := must.OK(NewEnv(map[string]*Realm{"OTHER.EXAMPLE": {KDC: []string{"dc9.other.example"}}}, "", zap.NewNop()))(t)
	reader := func(g *GMSA, kdcs ...string) Credentials {
		return Credentials{User: "WEB01$@CORP.EXAMPLE", PasswordFile: password, KDC: kdcs, GMSA: g}
	}
	for name, x := range map[string]struct {
		c         Credentials
		principal string
		servers   string
	}{
		"by server": {
			reader(&GMSA{Account: "svc-web$", Server: []string{"ldaps://dc7.corp.example:637", "ldaps://dc8.corp.example"}, TLSCA: ca}, "dc1.corp.example"),
			"svc-web$@CORP.EXAMPLE", "dc7.corp.example:637 dc8.corp.example:636",
		},
		"by kdc": {
			reader(&GMSA{Account: "svc-web$"}, "192.0.2.1", "dc1.corp.example:1088", "tcp/dc2.corp.example", "https://proxy.corp.example/KdcProxy"),
			"svc-web$@CORP.EXAMPLE", "dc1.corp.example:636 dc2.corp.example:636",
		},
		"of another domain": {reader(&GMSA{Account: "svc-web$@OTHER.EXAMPLE"}, "dc1.corp.example"), "svc-web$@OTHER.EXAMPLE", "dc9.other.example:636"},
	} {
		r := must.OK(x.c.Resolve(env))(t)
		var names []string
		for _, s := range must.OK(r.Directory.Servers(t.Context()))(t) {
			names = append(names, s.String())
		}
		if got := strings.Join(names, " "); got != x.servers || r.Principal.String() != x.principal || r.Secret.Kind != negotiate.KindGMSA {
			t.Errorf("%s: %s of %s as %s", name, got, r.Principal, r.Secret.Kind)
		}
		if r.Reader.Principal.String() != "WEB01$@CORP.EXAMPLE" || r.Reader.Secret.Kind != negotiate.KindPasswordFile || r.Reader.PoolKey == r.PoolKey {
			t.Errorf("%s: the reader is %s", name, r.Reader.Principal)
		}
		if (r.Directory.RootCAs != nil) != (x.c.GMSA.TLSCA != "") {
			t.Errorf("%s: other CAs than set", name)
		}
	}
	for name, x := range map[string]struct {
		c    Credentials
		want string
	}{
		"no CA":        {reader(&GMSA{Account: "svc-web$", TLSCA: password}, "dc1.corp.example"), "no certificate in PEM"},
		"no CA's file": {reader(&GMSA{Account: "svc-web$", TLSCA: password + ".none"}, "dc1.corp.example"), "password.none"},
	} {
		if _, err := x.c.Resolve(env); err == nil || !strings.Contains(err.Error(), x.want) || !strings.HasPrefix(err.Error(), "gmsa: tls_ca:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// srvZone has a host for each name of SRV records.
type srvZone map[string]string

func (z srvZone) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	if host := z[name]; host != "" {
		return name, []*net.SRV{{Target: host, Port: 389}}, nil
	}
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (srvZone) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }

// Domain controllers that no one names are looked up in the DNS, those of the site first, and asked at the
// port of LDAP over TLS.
func TestGMSA_ServersOfDNS(t *testing.T) {
	zone := srvZone{"_ldap._tcp.Berlin._sites.CORP.EXAMPLE.": "near.corp.example.", "_ldap._tcp.CORP.EXAMPLE.": "far.corp.example."}
	r := newRealmConfig(map[string]*Realm{}, parsedConf(t, "").conf, zap.NewNop())
	r.ldap = siteFinder{
		"":             kdc.NewSRV(kdc.SRVConfig{Service: "ldap", Resolver: zone}),
		"CORP.EXAMPLE": kdc.NewSRV(kdc.SRVConfig{Service: "ldap", Site: "Berlin", Resolver: zone}),
	}
	got, err := r.controllers(t.Context(), "CORP.EXAMPLE")
	if err != nil || len(got) != 2 || got[0].String() != "near.corp.example:636" || got[1].String() != "far.corp.example:636" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.controllers(t.Context(), "NONE.EXAMPLE"); err == nil || !strings.Contains(err.Error(), "_ldap._tcp.NONE.EXAMPLE") {
		t.Errorf("%v, %v", got, err)
	}
	r = parsedConf(t, "[libdefaults]\n dns_lookup_kdc = false\n")
	if got, err := r.controllers(t.Context(), "CORP.EXAMPLE"); err == nil || !strings.Contains(err.Error(), "server ldaps://HOST") {
		t.Errorf("%v, %v", got, err)
	}
}
