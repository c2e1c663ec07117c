package negotiate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func TestParseSPN(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP/web.corp.example":              "HTTP/web.corp.example",
		"HTTP/WEB.Corp.Example":              "HTTP/web.corp.example",
		"HTTP/web.corp.example@CORP.EXAMPLE": "HTTP/web.corp.example@CORP.EXAMPLE",
		"http/web":                           "http/web",
		"HTTP/web/instance":                  "HTTP/web/instance",
		"MSSQLSvc/db.corp.example:1433":      "MSSQLSvc/db.corp.example:1433",
	} {
		if spn, err := negotiate.ParseSPN(in); err != nil || spn.String() != want || spn.IsZero() {
			t.Errorf("%s: %s, %v", in, spn, err)
		}
	}
	for _, in := range []string{"", "HTTP", "HTTP/", "/web", "HTTP//web", "HTTP/web ", "HTTP/a b", "HTTP/a\x00b", "web@CORP.EXAMPLE", `HTTP/web\`, "HTTP/a@B@C"} {
		if spn, err := negotiate.ParseSPN(in); !errors.Is(err, negotiate.ErrSPN) {
			t.Errorf("%q: taken for %s (%v)", in, spn, err)
		}
	}
	if !(negotiate.SPN{}).IsZero() {
		t.Error("the zero SPN is one")
	}
}

func TestCheckHost(t *testing.T) {
	for _, host := range []string{"web", "web.corp.example", "web.corp.example.", "a_b", "xn--bcher-kva.example", "1a.2.3.4", strings.Repeat("a", 63)} {
		if err := negotiate.CheckHost(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if spn, err := negotiate.HostSPN(strings.ToUpper(host)); err != nil || spn.String() != "HTTP/"+strings.ToLower(host) {
			t.Errorf("%s: %s, %v", host, spn, err)
		}
	}
	for _, host := range []string{
		"", ".", "..", ".web", "web..example", "a/b", "a@b", `a\b`, "a b", "a:80", "[::1]", "a\nb", "a\x00", "bücher.example", "{x}", "*", "192.0.2.1", "192.0.2.1.", "::1",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if err := negotiate.CheckHost(host); !errors.Is(err, negotiate.ErrSPN) {
			t.Errorf("%q is taken: %v", host, err)
		}
		if spn, err := negotiate.HostSPN(host); err == nil {
			t.Errorf("%q is taken for %s", host, spn)
		}
	}
}
