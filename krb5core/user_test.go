package krb5core_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestParseUser(t *testing.T) {
	netbios := func(domain string) string {
		if strings.EqualFold(domain, "CORP") {
			return "CORP.EXAMPLE"
		}
		return ""
	}
	const enterprise, plain = messages.KRB_NT_ENTERPRISE, messages.KRB_NT_PRINCIPAL
	for _, row := range []struct {
		user, realm, byDefault string
		parts                  string // joined by |
		inRealm                string
		nameType               messages.NameType
	}{
		{"svc-proxy@CORP.EXAMPLE", "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{"svc-proxy@corp.example", "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{"svc-proxy@corp.example", "", "OTHER.EXAMPLE", "svc-proxy", "CORP.EXAMPLE", plain},
		{"CORP.EXAMPLE/svc-proxy", "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{"corp.example/svc-proxy", "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{`CORP.EXAMPLE\svc-proxy`, "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{`corp\svc-proxy`, "", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{`other\svc-proxy`, "", "", "svc-proxy", "OTHER", plain},
		{`lab.test\a\b`, "", "", `a\b`, "LAB.TEST", plain},
		{`CORP\svc-proxy`, "corp.example", "", "svc-proxy", "corp.example", plain},
		{"svc-proxy", "", "CORP.EXAMPLE", "svc-proxy", "CORP.EXAMPLE", plain},
		{"svc-proxy", "CORP.EXAMPLE", "OTHER.EXAMPLE", "svc-proxy", "CORP.EXAMPLE", plain},
		{"HTTP/proxy.corp.example@CORP.EXAMPLE", "", "", "HTTP|proxy.corp.example", "CORP.EXAMPLE", plain},
		{"HTTP/proxy.corp.example", "CORP.EXAMPLE", "", "HTTP|proxy.corp.example", "CORP.EXAMPLE", plain},
		{"svc-proxy@corp.example", "CORP.EXAMPLE", "", "svc-proxy", "CORP.EXAMPLE", plain},
		{"alice@corp.example", "AD.EXAMPLE", "", "alice@corp.example", "AD.EXAMPLE", enterprise},
		{"alice/admin@corp.example", "AD.EXAMPLE", "", "alice/admin@corp.example", "AD.EXAMPLE", enterprise},
		{"CORP$@CORP.EXAMPLE", "", "", "CORP$", "CORP.EXAMPLE", plain},
		{`a\@b@CORP.EXAMPLE`, "", "", "a@b", "CORP.EXAMPLE", plain},
		{`a\/b@CORP.EXAMPLE`, "", "", "a/b", "CORP.EXAMPLE", plain},
	} {
		t.Run(row.user+" in "+row.realm, func(t *testing.T) {
			p := must.OK(krb5core.ParseUser(row.user, krb5core.UserForm{Realm: row.realm, Default: row.byDefault, NetBIOS: netbios}))(t)
			got := fmt.Sprint(strings.Join(p.Name.NameString, "|"), " ", p.Realm, " ", p.Name.NameType)
			want := fmt.Sprint(row.parts, " ", row.inRealm, " ", row.nameType)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// An empty domain is of no realm, whatever the lookup of short names returns for it.
func TestParseUser_EmptyDomain(t *testing.T) {
	partner := func(string) string { return "PARTNER.EXAMPLE" }
	for _, realm := range []string{"", "PARTNER.EXAMPLE"} {
		if p, err := krb5core.ParseUser(`\alice`, krb5core.UserForm{Realm: realm, NetBIOS: partner}); err == nil || !strings.Contains(err.Error(), "empty realm") {
			t.Errorf("realm %q: read as %s, %v", realm, p, err)
		}
	}
	if p, err := krb5core.ParseEndUser(`\alice`, krb5core.UserForm{Default: "CORP.EXAMPLE", NetBIOS: partner}); !errors.Is(err, krb5core.ErrEndUser) {
		t.Errorf("read as %s, %v", p, err)
	}
}

func TestParseUser_Invalid(t *testing.T) {
	for _, row := range []struct{ user, realm, says string }{
		{"", "", "empty"},
		{"svc-proxy", "", "names no realm"},
		{"svc-proxy@", "", "no realm after"},
		{"@CORP.EXAMPLE", "", "empty"},
		{"CORP.EXAMPLE/", "", "empty"},
		{"/svc-proxy", "", "empty realm"},
		{`\svc-proxy`, "", "empty realm"},
		{`CORP\`, "", "empty"},
		{"HTTP//host@CORP.EXAMPLE", "", "empty"},
		{`CORP\svc-proxy`, "OTHER.EXAMPLE", "drop one of them"},
		{`svc-proxy\@CORP.EXAMPLE\`, "CORP.EXAMPLE", ""},
	} {
		t.Run(row.user, func(t *testing.T) {
			p, err := krb5core.ParseUser(row.user, krb5core.UserForm{Realm: row.realm})
			if err == nil {
				t.Fatalf("taken for %s", p)
			}
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("%q does not say %q", err, row.says)
			}
		})
	}
}
