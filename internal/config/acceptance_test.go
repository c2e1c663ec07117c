package config

import (
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// admission is that of an account with a password.
func admission(t *testing.T, a Acceptance) *Admission {
	t.Helper()
	a.SPN = []string{"HTTP/app.corp.example"}
	return must.OK(a.Compile(&Resolved{Secret: negotiate.PasswordSecret("x")}))(t)
}

func TestAdmission(t *testing.T) {
	alice := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "alice"), Realm: "CORP.EXAMPLE"}
	account := &accept.Account{
		SID: "S-1-5-21-1-2-3-1001", Groups: []pac.SID{"S-1-5-21-1-2-3-513", "S-1-18-1"}, DenyOnly: []pac.SID{"S-1-5-32-544"},
	}
	none := new(accept.Account)
	list := func(s ...string) []string { return s }
	for name, row := range map[string]struct {
		rules   Acceptance
		account *accept.Account
		want    error
	}{
		"no rules, no PAC":                    {Acceptance{}, nil, nil},
		"realm":                               {Acceptance{Realms: list("OTHER", "corp.example")}, nil, nil},
		"another realm":                       {Acceptance{Realms: list("OTHER")}, account, ErrRealmDenied},
		"allowed":                             {Acceptance{AllowGroups: list("S-1-5-32-1", "S-1-5-21-*-513")}, account, nil},
		"allowed without regard to case":      {Acceptance{AllowGroups: list("s-1-18-1")}, account, nil},
		"not allowed":                         {Acceptance{AllowGroups: list("S-1-5-21-1-2-3-51")}, account, ErrGroupMissing},
		"a deny-only group does not allow":    {Acceptance{AllowGroups: list("S-1-5-32-544")}, account, ErrGroupMissing},
		"a deny-only group denies":            {Acceptance{DenyGroups: list("S-1-5-32-544")}, account, ErrGroupDenied},
		"denied":                              {Acceptance{DenyGroups: list("*-513")}, account, ErrGroupDenied},
		"not denied":                          {Acceptance{DenyGroups: list("*-512")}, account, nil},
		"deny takes precedence":               {Acceptance{AllowGroups: list("*"), DenyGroups: list("*-513")}, account, ErrGroupDenied},
		"the user's own SID is no group":      {Acceptance{AllowGroups: list("*-1001")}, account, ErrGroupMissing},
		"no groups at all":                    {Acceptance{AllowGroups: list("*")}, none, ErrGroupMissing},
		"no groups to deny":                   {Acceptance{DenyGroups: list("*")}, none, nil},
		"allow_groups without PAC":            {Acceptance{AllowGroups: list("*")}, nil, ErrNoGroups},
		"deny_groups without PAC":             {Acceptance{DenyGroups: list("*")}, nil, ErrNoGroups},
		"a realm that is not allowed, no PAC": {Acceptance{Realms: list("OTHER"), DenyGroups: list("*")}, nil, ErrRealmDenied},
	} {
		if got := admission(t, row.rules).Admit(alice, row.account); !errors.Is(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

func TestCheckGroups(t *testing.T) {
	for text, want := range map[string]bool{
		"S-1-5-21-1-2-3-512": true, "s-1-5-32-544": true, "S-1-5-21-*": true, "*": true, "*-512": true, "S-1-*-512": true,
		"": false, "Staff": false, `CORP\Staff`: false, "512": false, "S-2-5": false, "S-1-5-21-1.2": false, "{env.SID}": false, "S-1-5-32-544 ": false,
	} {
		if err := checkGroups([]string{text}); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
