package krb5conf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmptyConfigHasMITsDefaults(t *testing.T) {
	want := LibDefaults{
		ClockSkew: 5 * time.Minute, KDCTimeSync: true, DNSLookupKDC: true, DNSURILookup: true,
		UDPPreferenceLimit: 1465,
	}
	if diff := cmp.Diff(want, mustParse(t, "").LibDefaults); diff != "" {
		t.Error(diff)
	}
}

func TestLibDefaultsAreTyped(t *testing.T) {
	c := mustParse(t, `[libdefaults]
	default_realm = EXAMPLE.COM
	default_realm = SECOND.IS.IGNORED
	permitted_enctypes = aes256-cts,aes128-cts , aes -rc4
	default_tkt_enctypes = aes256-sha2
	allow_weak_crypto = YES
	allow_rc4 = 1
	allow_des3 = t
	clockskew = 2m
	kdc_timesync = 0
	dns_lookup_kdc = off
	dns_lookup_realm = on
	dns_uri_lookup = no
	udp_preference_limit = 1
	kdc_timeout = 3
	ticket_lifetime = 10h
	renew_lifetime = 7d
	forwardable = true
	proxiable = true
	canonicalize = true
	unknown = kept in the tree
	R.ORG = {
		forwardable = false
		ticket_lifetime = 1h
		default_realm = has no meaning here
	}
`)
	want := LibDefaults{
		DefaultRealm:       "EXAMPLE.COM",
		PermittedEnctypes:  []string{"aes256-cts", "aes128-cts", "aes", "-rc4"},
		DefaultTktEnctypes: []string{"aes256-sha2"},
		DefaultTGSEnctypes: []string{"aes256-cts", "aes128-cts", "aes", "-rc4"},
		AllowWeakCrypto:    true, AllowRC4: true, AllowDES3: true,
		ClockSkew:          2 * time.Minute,
		DNSLookupRealm:     true,
		UDPPreferenceLimit: 1,
		RequestTimeout:     3 * time.Second,
		TicketLifetime:     10 * time.Hour,
		RenewLifetime:      7 * 24 * time.Hour,
		Forwardable:        true, Proxiable: true, Canonicalize: true,
	}
	if diff := cmp.Diff(want, c.LibDefaults); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, c.LibDefaultsFor("OTHER")); diff != "" {
		t.Error(diff)
	}
	want.Forwardable, want.TicketLifetime = false, time.Hour
	if diff := cmp.Diff(want, c.LibDefaultsFor("R.ORG")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"kept in the tree"}, c.Profile.Sub("libdefaults").Values("unknown")); diff != "" {
		t.Error(diff)
	}
}

func TestUDPPreferenceLimitHasACeiling(t *testing.T) {
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
		},
		"OLD": {PrimaryKDCs: []string{"old"}},
	}
	if diff := cmp.Diff(want, c.Realms); diff != "" {
		t.Error(diff)
	}
}

func TestRealmOfTreatsOddNamesAsMIT(t *testing.T) {
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

func TestCAPathAndRealmPathAgreeWithMIT(t *testing.T) {
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
	for _, tt := range []struct{ client, server, between, path string }{
		{"A", "B", "C D", "A C D B"},
		{"A", "E", "direct", "A E"},
		{"A", "F", "G_H", "A G_H F"},
		{"A", "I", "direct", "A I"},
		{"B", "A", "none", "B A"},
		{"A", "A", "none", "A"},
		{"A.B.C", "X.B.C", "none", "A.B.C B.C X.B.C"},
		{"A.B.C", "C", "none", "A.B.C B.C C"},
		{"C", "A.B.C", "none", "C B.C A.B.C"},
		{"A.B.C", "X.Y.Z", "none", "A.B.C B.C C Z Y.Z X.Y.Z"},
		{"A.B.C", "D", "none", "A.B.C B.C C D"},
		{"AB.C", "B.C", "none", "AB.C C B.C"},
		{"XB.C", "A.B.C", "none", "XB.C C B.C A.B.C"},
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
		if path := join(c.RealmPath(tt.client, tt.server)); path != tt.path {
			t.Errorf("from %s to %s: %s, MIT walks %s", tt.client, tt.server, path, tt.path)
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

func TestProfilePrintsItself(t *testing.T) {
	text := "[libdefaults]\n\tdefault_realm = A\n[realms]\n\tA = {\n\t\tkdc = k\n\t}\n"
	if diff := cmp.Diff(text, mustParse(t, text).Profile.String()); diff != "" {
		t.Error(diff)
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
			c.RealmPath(realm, "A.B")
			c.RealmOf(realm)
			c.LibDefaultsFor(realm)
		}
		if c.LibDefaults.ClockSkew < 0 || c.LibDefaults.TicketLifetime < 0 || c.LibDefaults.UDPPreferenceLimit < 0 {
			t.Error("a negative limit")
		}
		_ = c.Profile.String()
	})
}
