package kdc

import (
	"strings"
	"testing"
)

func TestParseServerReadsEveryForm(t *testing.T) {
	for text, want := range map[string]Server{
		"kdc1":                        {"", "kdc1", 88, ""},
		"kdc1.example.com":            {"", "kdc1.example.com", 88, ""},
		"kdc1.example.com.":           {"", "kdc1.example.com.", 88, ""},
		"kdc_1.example.com:8888":      {"", "kdc_1.example.com", 8888, ""},
		"192.0.2.1":                   {"", "192.0.2.1", 88, ""},
		"192.0.2.1:750":               {"", "192.0.2.1", 750, ""},
		"[2001:db8::1]:750":           {"", "2001:db8::1", 750, ""},
		"[2001:db8::1]":               {"", "2001:db8::1", 88, ""},
		"2001:db8::1":                 {"", "2001:db8::1", 88, ""},
		"[fe80::1%eth0]:88":           {"", "fe80::1%eth0", 88, ""},
		"tcp/kdc1":                    {"tcp", "kdc1", 88, ""},
		"TCP/kdc1:1088":               {"tcp", "kdc1", 1088, ""},
		"udp/[::1]:1088":              {"udp", "::1", 1088, ""},
		"https://proxy/KdcProxy":      {"https", "proxy", 443, "/KdcProxy"},
		"https://proxy":               {"https", "proxy", 443, "/KdcProxy"},
		"https://proxy/":              {"https", "proxy", 443, "/KdcProxy"},
		"HTTPS://proxy:8443/a%20b/":   {"https", "proxy", 8443, "/a%20b/"},
		"https://[2001:db8::1]:8443/": {"https", "2001:db8::1", 8443, "/KdcProxy"},
	} {
		got, err := ParseServer(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
			continue
		}
		if again, err := ParseServer(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q and read again as %+v, %v", text, got, again, err)
		}
	}
}

func TestParseServerRefusesWithARemedy(t *testing.T) {
	for text, remedy := range map[string]string{
		"":                          "write host, host:port",
		"tcp/":                      "the host is missing",
		":88":                       "the host is missing",
		"kdc:":                      "port",
		"kdc:0":                     "1 to 65535",
		"kdc:65536":                 "1 to 65535",
		"kdc:http":                  "1 to 65535",
		"kdc:+8":                    "1 to 65535",
		"kdc..example.com":          "not a DNS name",
		"bücher.example":            "xn--",
		"kdc one":                   "not a DNS name",
		"[::1":                      "bracket",
		"[::1]88":                   ":port",
		"[kdc]:88":                  "not an IPv6 address",
		"[192.0.2.1]:88":            "not an IPv6 address",
		"1:2:3":                     "[v6-address]:port",
		"sctp/kdc":                  "tcp/ or udp/",
		"kdc/KdcProxy":              "a path needs https://",
		"https/kdc":                 "https://host/KdcProxy",
		"http://proxy/KdcProxy":     "only https://",
		"https://":                  "the host is missing",
		"https://proxy/?a=b":        "without request",
		"https://proxy/#a":          "without request",
		"https://u:secret@proxy/":   "tls_client_cert",
		"https://proxy:99999/":      "1 to 65535",
		"https://pro xy/":           "not a URL",
		strings.Repeat("a.", 200):   "longer than",
		strings.Repeat("a", 64):     "1 to 63",
		"tcp/udp/kdc":               "not a DNS name",
		"https://proxy\x00/KdcProx": "not a URL",
	} {
		got, err := ParseServer(text)
		if err == nil {
			t.Errorf("%q is read as %+v", text, got)
		} else if !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v; want a text with %q", text, err, remedy)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	for _, seed := range []string{"kdc:88", "[::1]:88", "tcp/kdc", "https://proxy:8443/KdcProxy", "::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseServer(text)
		if err != nil {
			return
		}
		if s.Host == "" || s.Port < 1 || s.Port > 65535 {
			t.Errorf("%q is read as %+v", text, s)
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Errorf("%q is written as %q and read again as %+v, %v", text, s, again, err)
		}
	})
}
