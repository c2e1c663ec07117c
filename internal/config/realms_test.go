package config

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
)

func TestRealmOf_LongestDomain(t *testing.T) {
	r := parsedConf(t, "[domain_realm]\n .corp.example = CONF.EXAMPLE\n .other.example = OTHER.EXAMPLE\n")
	r = newRealmConfig(map[string]*Realm{
		"CORP.EXAMPLE": {Domains: []string{".corp.example", "corp.example"}, NetBIOS: "CORP"},
		"LAB.EXAMPLE":  {Domains: []string{".lab.corp.example", "Web.Corp.Example"}},
	}, r.conf, zap.NewNop())
	for host, want := range map[string]string{
		"iis.corp.example":      "CORP.EXAMPLE", // before krb5.conf
		"corp.example":          "CORP.EXAMPLE",
		"IIS.Corp.Example.":     "CORP.EXAMPLE",
		"a.lab.corp.example":    "LAB.EXAMPLE",
		"lab.corp.example":      "CORP.EXAMPLE",
		"web.corp.example":      "LAB.EXAMPLE",
		"deep.web.corp.example": "CORP.EXAMPLE",
		"x.other.example":       "OTHER.EXAMPLE",
		"evilcorp.example":      "", // only a KDC can tell
		"192.0.2.1":             "",
	} {
		if got := r.RealmOf(host); got != want {
			t.Errorf("%s is in %q, want %q", host, got, want)
		}
	}
	for domain, want := range map[string]string{"CORP": "CORP.EXAMPLE", "corp": "CORP.EXAMPLE", "lab.example": "LAB.EXAMPLE", "NONE": ""} {
		if got := r.NetBIOS(domain); got != want {
			t.Errorf("domain %s is of realm %q, want %q", domain, got, want)
		}
	}
}

// What a realm block or krb5.conf names is configured, and nothing that the DNS may have.
func TestRealmConfig_Configured(t *testing.T) {
	r := parsedConf(t, "[libdefaults]\n default_realm = DEFAULT.EXAMPLE\n[realms]\n CONF.EXAMPLE = {\n }\n[domain_realm]\n .hosts.example = HOSTS.EXAMPLE\n")
	r = newRealmConfig(map[string]*Realm{"BLOCK.EXAMPLE": {}}, r.conf, zap.NewNop())
	for realm, want := range map[string]bool{
		"BLOCK.EXAMPLE": true, "CONF.EXAMPLE": true, "DEFAULT.EXAMPLE": true, "HOSTS.EXAMPLE": true,
		"block.example": false, "ATTACKER.EXAMPLE": false, "": false,
	} {
		if got := r.Configured(realm); got != want {
			t.Errorf("%q: %t, want %t", realm, got, want)
		}
	}
	if none := newRealmConfig(nil, new(krb5conf.Config), zap.NewNop()); none.Configured("DEFAULT.EXAMPLE") {
		t.Error("configured by nothing")
	}
}

// The order of Go's maps must not decide.
func TestRealmConfig_Ties(t *testing.T) {
	domains := []string{".corp.example"}
	for range 50 {
		r := newRealmConfig(map[string]*Realm{
			"A.EXAMPLE": {NetBIOS: "corp.example", Domains: domains}, "CORP.EXAMPLE": {Domains: domains}, "Corp.Example": {},
			"PARTNER.EXAMPLE": {}, "THIRD.EXAMPLE": {},
			"X.EXAMPLE": {NetBIOS: "SHORT"}, "Y.EXAMPLE": {NetBIOS: "SHORT"},
		}, new(krb5conf.Config), zap.NewNop())
		for domain, want := range map[string]string{
			"": "", "CORP.EXAMPLE": "CORP.EXAMPLE", "Corp.Example": "Corp.Example", "corp.example": "CORP.EXAMPLE", "short": "X.EXAMPLE",
		} {
			if got := r.NetBIOS(domain); got != want {
				t.Fatalf("domain %q is of realm %q, want %q", domain, got, want)
			}
		}
		if got := r.RealmOf("iis.corp.example"); got != "A.EXAMPLE" {
			t.Fatalf("iis.corp.example is in %q", got)
		}
	}
}

func TestCheckNetBIOS(t *testing.T) {
	for _, row := range []struct {
		realms map[string]*Realm
		says   []string // none: they are accepted
	}{
		{map[string]*Realm{"A.EXAMPLE": {NetBIOS: "CORP"}, "B.EXAMPLE": {NetBIOS: "BRANCH"}, "C.EXAMPLE": {}, "D.EXAMPLE": {}, "E.EXAMPLE": nil}, nil},
		{map[string]*Realm{"CORP": {NetBIOS: "CORP"}, "B.EXAMPLE": {}}, nil},
		{map[string]*Realm{"A.EXAMPLE": {NetBIOS: "CORP"}, "B.EXAMPLE": {NetBIOS: "corp"}}, []string{"netbios", "A.EXAMPLE", "B.EXAMPLE", "CORP"}},
		{map[string]*Realm{"A.EXAMPLE": {NetBIOS: "corp"}, "CORP": {}}, []string{"netbios", "A.EXAMPLE", "realm CORP"}},
		{map[string]*Realm{"A.EXAMPLE": {NetBIOS: "corp"}, "CORP": nil}, []string{"netbios", "A.EXAMPLE", "realm CORP"}},
	} {
		_, err := NewEnv(row.realms, "", zap.NewNop())
		if (err == nil) != (row.says == nil) {
			t.Errorf("%v: %v", row.realms, err)
		}
		for _, says := range row.says {
			if !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("%v does not say %q", err, says)
			}
		}
	}
}
