package caddynegotiate

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// ruling is impersonate with rules, in realm CORP.EXAMPLE (CORP) beside BRANCH.EXAMPLE (BRANCH).
func ruling(t *testing.T, allow, deny []string) *Impersonation {
	t.Helper()
	known := atlas{realms: map[string]*Realm{"CORP.EXAMPLE": {NetBIOS: "CORP"}, "BRANCH.EXAMPLE": {NetBIOS: "BRANCH"}}}
	i := &Impersonation{Impersonate: "{http.auth.user.id}", AllowUsers: allow, DenyUsers: deny}
	if err := i.provision(nil, known, "CORP.EXAMPLE"); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *Impersonation) asked(t *testing.T, name string) error {
	t.Helper()
	user, err := negotiate.ParseUser(name, i.form)
	if err != nil {
		return err
	}
	return i.admit(user.Principal())
}

func TestDenyRulesFindUsersHoweverTheyAreWritten(t *testing.T) {
	for _, row := range []struct {
		deny         string
		denied, free []string
	}{
		{
			"bob",
			[]string{"bob", "Bob", "bob@corp.example", "BOB@mail.example", `CORP\bob`, `BRANCH\bob`, "bób", "ｂｏｂ", "boｂ@corp.example"},
			[]string{"bobby", "bob2", "alice", "alice@bob.example"},
		},
		{`CORP\bob`, []string{"bob", `corp\Bob`, `corp.example\bob`, "bob@corp.example", "bob@mail.example"}, []string{`BRANCH\bob`, "bobby"}},
		{`corp.example\b*`, []string{"bob", "barbara@mail.example"}, []string{"alice", `BRANCH\bob`}},
		{"bob@corp.example", []string{"bob", `CORP\bob`, "BOB@CORP.EXAMPLE"}, []string{`BRANCH\bob`, "alice"}},
		{"*@branch.example", []string{`BRANCH\eve`, "eve@branch.example"}, []string{"alice", "alice@mail.example"}},
		{"svc-*", []string{"svc-backup", `BRANCH\SVC-web`, "svc-web@mail.example"}, []string{"alice"}},
		{"*$", []string{"DC1$", `CORP\dc1$`}, []string{"alice"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},
		{"Jürgen Müller", []string{"jurgen muller", "JÜRGEN  MÜLLER", "ju\u0308rgen mu\u0308ller"}, []string{"jurgenmuller"}},
		{"*", []string{"alice", "alice@corp.example", `BRANCH\eve`}, nil},
	} {
		i := ruling(t, nil, []string{"nobody-at-all", row.deny})
		for _, name := range row.denied {
			if err := i.asked(t, name); !errors.Is(err, errUserDenied) {
				t.Errorf("deny %s: %q may enter (%v)", row.deny, name, err)
			}
		}
		for _, name := range row.free {
			if err := i.asked(t, name); err != nil {
				t.Errorf("deny %s: %q may not enter: %v", row.deny, name, err)
			}
		}
	}
}

func TestAllowRulesTakeNamesForWhatTheyAre(t *testing.T) {
	for _, row := range []struct {
		allow        string
		in, notAlone []string
	}{
		{"alice", []string{"alice", "ALICE", `CORP\alice`, "alice@corp.example"}, []string{`BRANCH\alice`, "alice@mail.example", "alíce", "alice2"}},
		{"alice@corp.example", []string{"alice", `CORP\alice`, "alice@CORP.example"}, []string{`BRANCH\alice`, "bob"}},
		{"*@CORP.EXAMPLE", []string{"alice", "bob@corp.example"}, []string{`BRANCH\alice`, "frank@mail.example"}},
		{"*@mail.example", []string{"frank@mail.example"}, []string{"frank", "frank@corp.example"}},
		{`BRANCH\*`, []string{`BRANCH\eve`, "eve@branch.example"}, []string{"eve", `CORP\eve`}},
	} {
		i := ruling(t, []string{row.allow}, nil)
		for _, name := range row.in {
			if err := i.asked(t, name); err != nil {
				t.Errorf("allow %s: %q may not enter: %v", row.allow, name, err)
			}
		}
		for _, name := range row.notAlone {
			if err := i.asked(t, name); !errors.Is(err, errUserDenied) {
				t.Errorf("allow %s: %q may enter (%v)", row.allow, name, err)
			}
		}
	}
}

func TestRulesAreTriedOnWhatTheKDCReturns(t *testing.T) {
	client := func(kind messages.NameType, name, realm string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(kind, name), Realm: realm}
	}
	bob := client(messages.KRB_NT_PRINCIPAL, "Bob", "CORP.EXAMPLE")
	foreign := client(messages.KRB_NT_PRINCIPAL, "alice", "BRANCH.EXAMPLE")
	unresolved := client(messages.KRB_NT_PRINCIPAL, "b.smith@mail.example", "CORP.EXAMPLE")
	for _, row := range []struct {
		allow, deny []string
		client      messages.Principal
		in          bool
	}{
		{nil, nil, unresolved, true},
		{nil, []string{"bob"}, bob, false},
		{nil, []string{`CORP\bob`}, bob, false},
		{nil, []string{"carol"}, bob, true},
		{nil, []string{"carol"}, unresolved, false}, // it may be carol's
		{[]string{"bob", "alice"}, nil, bob, true},
		{[]string{"bob", "alice"}, nil, foreign, false},
		{[]string{"*@branch.example"}, nil, foreign, true},
		{[]string{"*@mail.example"}, nil, unresolved, true},
		{[]string{"*"}, []string{"b*"}, bob, false},
	} {
		if err := ruling(t, row.allow, row.deny).admitClient(row.client); (err == nil) != row.in {
			t.Errorf("allow %v deny %v: %s: %v", row.allow, row.deny, row.client, err)
		}
	}
}

func TestOddNamesAreNobodys(t *testing.T) {
	i := ruling(t, nil, nil)
	for _, name := range []string{
		"", " alice", "alice ", "alice\u00a0", "ali\u200bce", "al\u00adice", "alice\x00", "ali\nce", "alice\u202e", "\ufeffalice", "al\u2028ice",
		"HTTP/web.corp.example", "krbtgt/CORP.EXAMPLE", "\xff\xfe", `CORP\`, `\alice`, `CORP\BRANCH\alice`, `CORP\alice@corp.example`,
		"@corp.example", "alice@", strings.Repeat("a", 513),
	} {
		if _, err := negotiate.ParseUser(name, i.form); !errors.Is(err, krb5core.ErrEndUser) {
			t.Errorf("%q is somebody: %v", name, err)
		}
		if got := diagnose(krb5core.ErrEndUser); got.Status != 403 || got.Name != errUnknownUser {
			t.Errorf("%+v", got)
		}
	}
	for _, name := range []string{"Jürgen Müller", "o'hara", "a.b-c_d$", "名前", "alice(admin)", "*", "alice@mail@corp.example", "Ⅷ"} {
		if _, err := negotiate.ParseUser(name, i.form); err != nil {
			t.Errorf("%q is nobody: %v", name, err)
		}
	}
}

func TestRulesThatCannotMatchAreRefused(t *testing.T) {
	for _, rule := range []string{`ELSEWHERE\bob`, `\bob`, "", "@", " "} {
		if _, err := compileUserRules([]string{rule}, krb5core.UserForm{Default: "CORP.EXAMPLE", NetBIOS: atlas{}.netbios}, true); err == nil {
			t.Errorf("%q was taken", rule)
		}
	}
}
