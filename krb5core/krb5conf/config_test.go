package krb5conf

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	return must.OK(Parse([]byte(text)))(t)
}

func TestLibDefaults_Empty(t *testing.T) {
	want := LibDefaults{
		ClockSkew: 5 * time.Minute, DNSLookupKDC: true, UDPPreferenceLimit: 1465,
	}
	filetest.Same(t, want, mustParse(t, "").LibDefaults)
}

func TestLibDefaults(t *testing.T) {
	c := mustParse(t, `[libdefaults]
	default_realm = EXAMPLE.COM
	default_realm = SECOND.IS.IGNORED
	permitted_enctypes = aes256-cts,aes128-cts , aes -rc4
	allow_weak_crypto = unused relations are not judged
	clockskew = 2m
	dns_lookup_kdc = off
	udp_preference_limit = 1
	kdc_timeout = 3
	ticket_lifetime = 10h
	canonicalize = true
	unknown = kept in the tree
	R.ORG = {
		canonicalize = false
		ticket_lifetime = 1h
		default_realm = has no meaning here
	}
`)
	want := LibDefaults{
		DefaultRealm:       "EXAMPLE.COM",
		PermittedEnctypes:  []string{"aes256-cts", "aes128-cts", "aes", "-rc4"},
		ClockSkew:          2 * time.Minute,
		UDPPreferenceLimit: 1,
		RequestTimeout:     3 * time.Second,
		TicketLifetime:     10 * time.Hour,
		Canonicalize:       new(true),
	}
	filetest.Same(t, want, c.LibDefaults)
	filetest.Same(t, want, c.LibDefaultsFor("OTHER"))
	want.Canonicalize, want.TicketLifetime = new(false), time.Hour
	filetest.Same(t, want, c.LibDefaultsFor("R.ORG"))
	filetest.Same(t, []string{"kept in the tree"}, c.Profile.Sub("libdefaults").Values("unknown"))
}

func TestLibDefaults_UDPPreferenceLimit(t *testing.T) {
	c := mustParse(t, "[libdefaults]\n udp_preference_limit = 100000\n")
	if c.LibDefaults.UDPPreferenceLimit != 32700 {
		t.Errorf("limit %d", c.LibDefaults.UDPPreferenceLimit)
	}
}

func TestRealmsKeepKDCsAsWritten(t *testing.T) {
	c := mustParse(t, `[realms]
 EXAMPLE.COM = {
  kdc = kdc1.example.com
  kdc = tcp/kdc2.example.com:8888
  kdc = "udp/[2001:db8::1]:88"
  kdc = ""
  kdc = https://proxy.example.com/KdcProxy
  admin_server = kdc1
  kpasswd_server = kdc2:1464
  kpasswd_server = kdc3
  master_kdc = old
  primary_kdc = new
  http_anchors = FILE:/etc/ca.pem
  sitename = Berlin
 }
 OLD = {
  master_kdc = old
 }
`)
	want := map[string]Realm{
		"EXAMPLE.COM": {
			KDCs:        []string{"kdc1.example.com", "tcp/kdc2.example.com:8888", "udp/[2001:db8::1]:88", "https://proxy.example.com/KdcProxy"},
			PrimaryKDCs: []string{"new"},
			HTTPAnchors: []string{"FILE:/etc/ca.pem"},
			SiteName:    "Berlin",

			KpasswdServers: []string{"kdc2:1464", "kdc3"},
			AdminServers:   []string{"kdc1"},
		},
		"OLD": {PrimaryKDCs: []string{"old"}},
	}
	filetest.Same(t, want, c.Realms)
}

func TestRealmOf_OddNames(t *testing.T) {
	c := mustParse(t, `[domain_realm]
 .example.com = EXAMPLE.COM
 10.0.0.5 = IP.REALM
 1.2.3 = THREE
 1.2.3.4.5 = FIVE
 256.0.0.1 = BAD
 UP.com = UP
 q = q1
 q = q2
 ignored = {
  a = b
 }
`)
	for host, want := range map[string]string{
		"A..example.com": "EXAMPLE.COM", ".example.com": "EXAMPLE.COM", "example.com..": "", "::1": "", "fe80::1": "",
		"1.2.3": "THREE", "1.2.3.4.5": "FIVE", "256.0.0.1": "", "10.0.0.5.": "", "host.10.0.0.5": "IP.REALM",
		"up.com": "", "UP.com": "", "q": "q1", "ignored": "", ".": "", "..": "",
	} {
		if realm := c.RealmOf(host); realm != want {
			t.Errorf("realm of %q is %q, MIT says %q", host, realm, want)
		}
	}
}

func TestCAPath_AsMIT(t *testing.T) {
	c := mustParse(t, `[capaths]
 A = {
  B = C
  B = D
  E = .
  F = G H
  I = .
  I = J
 }
`)
	for _, tt := range []struct{ client, server, between string }{
		{"A", "B", "C D"},
		{"A", "E", "direct"},
		{"A", "F", "G_H"},
		{"A", "I", "direct"},
		{"B", "A", "none"},
	} {
		between := "none"
		if list := c.CAPath(tt.client, tt.server); list != nil {
			if between = join(list); len(list) == 0 {
				between = "direct"
			}
		}
		if between != tt.between {
			t.Errorf("between %s and %s: %s, want %s", tt.client, tt.server, between, tt.between)
		}
	}
}

// join joins realms; a blank within one shows as an underscore.
func join(realms []string) string {
	var list []string
	for _, r := range realms {
		list = append(list, strings.ReplaceAll(r, " ", "_"))
	}
	return strings.Join(list, " ")
}

func TestParseDurationRefusesLongFields(t *testing.T) {
	for _, s := range []string{"0:001", "1-001:1:1", "1:2:345", "24856d", "35791394m8s", "-2147483648", "1-2:3", "2s3m", "5m 3"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v, but MIT refuses it", s, d)
		}
	}
	for s, want := range map[string]int64{"-1-2:3:4": -79016, "24855d": 2147472000, "5m x": 300, "1d\t2h": 93600, "00001:1": 3660} {
		if d, err := ParseDuration(s); err != nil || d != time.Duration(want)*time.Second {
			t.Errorf("%q: %v, %v, but MIT reads %d s", s, d, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	v := loadVectors(f)
	for _, tt := range v.Krb5Conf {
		f.Add([]byte(tt.Text))
	}
	for _, tt := range v.Durations {
		f.Add([]byte("[libdefaults]\n ticket_lifetime = " + tt.Input + "\n"))
	}
	f.Add([]byte(v.DomainRealm))
	f.Add([]byte("[capaths]\n A = {\n  B = .\n }\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		for realm := range c.Realms {
			c.CAPath(realm, "A.B")
			c.RealmOf(realm)
			c.LibDefaultsFor(realm)
		}
		if c.LibDefaults.ClockSkew < 0 || c.LibDefaults.TicketLifetime < 0 || c.LibDefaults.UDPPreferenceLimit < 0 {
			t.Error("a negative limit")
		}
	})
}
