package config

import "testing"

func TestRealmOf_LongestDomain(t *testing.T) {
	r := parsedConf(t, "[domain_realm]\n .corp.example = CONF.EXAMPLE\n .other.example = OTHER.EXAMPLE\n")
	r.realms = map[string]*Realm{
		"CORP.EXAMPLE": {Domains: []string{".corp.example", "corp.example"}, NetBIOS: "CORP"},
		"LAB.EXAMPLE":  {Domains: []string{".lab.corp.example", "Web.Corp.Example"}},
	}
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
