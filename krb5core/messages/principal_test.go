package messages

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// principalVector is a name as MIT's krb5_parse_name and krb5_unparse_name treat it, the default
// realm being EXAMPLE.COM.
type principalVector struct {
	Input           string
	Type            NameType
	Realm           string
	Components      []string
	Unparsed        string
	UnparsedNoRealm string `json:"unparsed_no_realm"`
	Error           string
}

func checkPrincipals(t *testing.T, vectors []principalVector, parse func(s, defaultRealm string) (Principal, error)) {
	t.Helper()
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors {
		p, err := parse(v.Input, "EXAMPLE.COM")
		if v.Error != "" {
			if !errors.Is(err, ErrPrincipal) {
				t.Errorf("%q is accepted: %v, %v", v.Input, p, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", v.Input, err)
			continue
		}
		equal(t, v.Input, p, Principal{PrincipalName{v.Type, v.Components}, v.Realm})
		equal(t, v.Input+" as text", p.String(), v.Unparsed)
		equal(t, v.Input+" as text without realm", p.Name.String(), v.UnparsedNoRealm)
	}
}

func TestParsePrincipal_AsMIT(t *testing.T) {
	var file struct {
		PrincipalNames  []principalVector `json:"principal_names"`
		EnterpriseNames []principalVector `json:"enterprise_names"`
	}
	vectors.Load(t, "mit-config.json", &file)
	t.Run("names", func(t *testing.T) { checkPrincipals(t, file.PrincipalNames, ParsePrincipal) })
	t.Run("enterprise names", func(t *testing.T) { checkPrincipals(t, file.EnterpriseNames, ParseEnterprise) })
}

func TestParsePrincipal_Errors(t *testing.T) {
	for s, remedy := range map[string]string{
		"alice@corp.com@EXAMPLE.COM": `write \@ if`,
		"alice@A/B":                  `write \/ if`,
		`alice\`:                     "needs a character after it",
	} {
		if _, err := ParsePrincipal(s, ""); err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestPrincipalName_Equal(t *testing.T) {
	if !NewPrincipalName(KRB_NT_SRV_HST, "HTTP", "web").Equal(NewPrincipalName(KRB_NT_PRINCIPAL, "HTTP", "web")) {
		t.Error("the type tells names apart")
	}
	for _, other := range []PrincipalName{
		NewPrincipalName(KRB_NT_PRINCIPAL, "HTTP/web"), NewPrincipalName(KRB_NT_PRINCIPAL, "HTTP", "WEB"), NewPrincipalName(KRB_NT_PRINCIPAL, "HTTP"),
	} {
		if NewPrincipalName(KRB_NT_PRINCIPAL, "HTTP", "web").Equal(other) {
			t.Errorf("HTTP/web is taken for %q", other.NameString)
		}
	}
	a, b := Principal{alice, "A"}, Principal{alice, "B"}
	if a.Equal(b) || !a.Equal(a) {
		t.Error("the realm does not tell principals apart")
	}
}

func TestPrincipalName_IsTGS(t *testing.T) {
	if r, ok := TGSName("OTHER.COM").IsTGS(); !ok || r != "OTHER.COM" {
		t.Errorf("krbtgt/OTHER.COM is of %q, %t", r, ok)
	}
	for _, n := range []PrincipalName{web, NewPrincipalName(KRB_NT_SRV_INST, "krbtgt"), NewPrincipalName(KRB_NT_SRV_INST, "krbtgt", "A", "B"), {}} {
		if r, ok := n.IsTGS(); ok {
			t.Errorf("%v is taken for the ticket-granting service of %q", n, r)
		}
	}
}
