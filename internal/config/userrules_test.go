package config

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// withRules returns an impersonator of realm CORP.EXAMPLE (CORP); BRANCH.EXAMPLE
// (BRANCH) is known, too.
func withRules(t *testing.T, allow, deny []string) *Impersonator {
	t.Helper()
	realms := newRealmConfig(map[string]*Realm{"CORP.EXAMPLE": {NetBIOS: "CORP"}, "BRANCH.EXAMPLE": {NetBIOS: "BRANCH"}}, new(krb5conf.Config), zap.NewNop())
	m, err := (&Impersonation{Impersonate: "{http.auth.user.id}", AllowUsers: allow, DenyUsers: deny}).Compile(realms, "CORP.EXAMPLE", negotiate.KindKeytab)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *Impersonator) admitName(name string) error {
	user, err := m.Parse(name)
	if err != nil {
		return err
	}
	return m.Admit(user.Principal())
}

func TestDenyUsers_AllForms(t *testing.T) {
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
		m := withRules(t, nil, []string{"no-such-user", row.deny})
		for _, name := range row.denied {
			if err := m.admitName(name); !errors.Is(err, negotiate.ErrUserDenied) {
				t.Errorf("deny %s: %q is admitted (%v)", row.deny, name, err)
			}
		}
		for _, name := range row.free {
			if err := m.admitName(name); err != nil {
				t.Errorf("deny %s: %q is denied: %v", row.deny, name, err)
			}
		}
	}
}

func TestAllowUsers_ExactNames(t *testing.T) {
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
		m := withRules(t, []string{row.allow}, nil)
		for _, name := range row.in {
			if err := m.admitName(name); err != nil {
				t.Errorf("allow %s: %q is denied: %v", row.allow, name, err)
			}
		}
		for _, name := range row.notAlone {
			if err := m.admitName(name); !errors.Is(err, negotiate.ErrUserDenied) {
				t.Errorf("allow %s: %q is admitted (%v)", row.allow, name, err)
			}
		}
	}
}

func TestUserRules_NameFromKDC(t *testing.T) {
	client := func(kind messages.NameType, name, realm string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(kind, name), Realm: realm}
	}
	bob := client(messages.KRB_NT_PRINCIPAL, "Bob", "CORP.EXAMPLE")
	foreign := client(messages.KRB_NT_PRINCIPAL, "alice", "BRANCH.EXAMPLE")
	unresolved := client(messages.KRB_NT_PRINCIPAL, "b.smith@mail.example", "CORP.EXAMPLE")
	dc1 := client(messages.KRB_NT_PRINCIPAL, "dc1", "CORP.EXAMPLE")
	odd := client(messages.KRB_NT_PRINCIPAL, "bo\u200bb", "CORP.EXAMPLE")
	account := func(name string) *messages.Account { return &messages.Account{Name: name} }
	machine := func(name string) *messages.Account { return &messages.Account{Name: name, Machine: true} }
	unread := (*messages.Account)(nil)
	for _, row := range []struct {
		allow, deny []string
		client      messages.Principal
		account     *messages.Account
		in          bool
	}{
		{nil, nil, unresolved, unread, true},
		{nil, nil, odd, account(""), true},
		{nil, []string{"bob"}, bob, account(""), false},
		{nil, []string{`CORP\bob`}, bob, account(""), false},
		{nil, []string{"carol"}, bob, account(""), true},
		{nil, []string{"carol"}, bob, unread, false},
		{nil, []string{"carol"}, unresolved, account(""), false}, // it may be carol's
		{nil, []string{"carol"}, unresolved, account("carol"), false},
		{nil, []string{`CORP\carol`}, unresolved, account("carol"), false},
		{nil, []string{`BRANCH\carol`}, unresolved, account("carol"), true},
		{nil, []string{"carol"}, unresolved, account("ben"), true},
		{nil, []string{"*$"}, dc1, account("DC1$"), false},
		{nil, []string{`CORP\*$`}, dc1, machine("DC1"), false},
		{nil, []string{"*$"}, dc1, machine("DC1"), false},
		{nil, []string{"*$"}, dc1, account("DC1"), true},
		{nil, []string{"*$"}, foreign, account("PC1$"), false},
		{nil, []string{"carol"}, odd, account("bob"), false},
		{nil, []string{"carol"}, bob, account("bo\u0378b"), false},
		{[]string{"bob", "alice"}, nil, bob, account(""), true},
		{[]string{"bob", "alice"}, nil, bob, unread, true},
		{[]string{"bob", "alice"}, nil, bob, account("carol"), false},
		{[]string{"bob", "alice"}, nil, foreign, unread, false},
		{[]string{"*@branch.example"}, nil, foreign, unread, true},
		{[]string{"*@mail.example"}, nil, unresolved, unread, true},
		{[]string{"*@mail.example"}, nil, unresolved, account("ben"), false},
		{[]string{"*@mail.example", "ben"}, nil, unresolved, account("ben"), true},
		{[]string{"*"}, []string{"b*"}, bob, account(""), false},
		{[]string{"*"}, nil, odd, account(""), false},
	} {
		err := withRules(t, row.allow, row.deny).AdmitTicket(&messages.Credential{Client: row.client, Account: row.account})
		if (err == nil) != row.in || err != nil && !errors.Is(err, negotiate.ErrUserDenied) {
			t.Errorf("allow %v deny %v: %s, account %v: %v", row.allow, row.deny, row.client, row.account, err)
		}
		if unreadable := errors.Is(err, negotiate.ErrAccountUnknown); unreadable != (row.account == nil && row.deny != nil) {
			t.Errorf("deny %v: %s, account %v: %v", row.deny, row.client, row.account, err)
		}
	}
}

// What Active Directory takes for one name, and what it takes for two.
func TestFoldName(t *testing.T) {
	for _, row := range [][]string{
		{"bob", "BOB", "bób", "ｂｏｂ", "bob\u0301"},
		{"weiss", "weiß", "WEISS", "WEIẞ"},
		{"soren", "søren", "Sören"},
		{"lukasz", "łukasz"},
		{"aesop", "æsop", "Ǽsop"},
		{"thor", "þor"},
		{"odin", "oðin", "ođin", "ođın"},
		{"oeuvre", "œuvre"},
		{"administrator", "administrator🫨", "admin\u2603istrator"},
		{"たなか", "タナカ", "ﾀﾅｶ"},
		{"ǆ", "Ǆ", "ǅ"},
		{"ÿ", "Ÿ"},
		{"ⱥ", "Ⱥ"},
		{"ա", "Ա"},
		{"я", "Я"},
		{"ω", "Ω"},
	} {
		for _, name := range row {
			if m := withRules(t, nil, []string{row[0]}); m.admitName(name) == nil {
				t.Errorf("deny %s: %s is admitted", row[0], name)
			}
			if m := withRules(t, nil, []string{name}); m.admitName(row[0]) == nil {
				t.Errorf("deny %s: %s is admitted", name, row[0])
			}
		}
	}
	for _, row := range [][2]string{{"bob", "bop"}, {"weis", "weiß"}, {"я", "r"}, {"たなか", "たなき"}} {
		if err := withRules(t, nil, []string{row[0]}).admitName(row[1]); err != nil {
			t.Errorf("deny %s: %s: %v", row[0], row[1], err)
		}
	}
}

func TestDenyUsers_NeedsKey(t *testing.T) {
	i := &Impersonation{Impersonate: "{http.auth.user.id}", DenyUsers: []string{"bob"}}
	_, err := i.Compile(new(RealmConfig), "CORP.EXAMPLE", negotiate.KindCCache)
	if err == nil || !strings.Contains(err.Error(), "deny_users") || !strings.Contains(err.Error(), "allow_users") {
		t.Errorf("with a ccache: %v", err)
	}
	i = &Impersonation{Impersonate: "{http.auth.user.id}", AllowUsers: []string{"bob"}}
	if _, err := i.Compile(new(RealmConfig), "CORP.EXAMPLE", negotiate.KindCCache); err != nil {
		t.Errorf("allow_users with a ccache: %v", err)
	}
}

func TestUserNames_Invalid(t *testing.T) {
	m := withRules(t, nil, nil)
	for _, name := range []string{
		"", " alice", "alice ", "alice\u00a0", "ali\u200bce", "al\u00adice", "alice\x00", "ali\nce", "alice\u202e", "\ufeffalice", "al\u2028ice", "ali\u0378ce", "ali\ue000ce", "ali\u3164ce", "ali\u034fce", "alice\ufe0f", "ali\u115fce",
		"HTTP/web.corp.example", "krbtgt/CORP.EXAMPLE", "\xff\xfe", `CORP\`, `\alice`, `CORP\BRANCH\alice`, `CORP\alice@corp.example`,
		"@corp.example", "alice@", "alice@mail@corp.example", "alice@@corp.example", strings.Repeat("a", 513),
	} {
		if _, err := m.Parse(name); !errors.Is(err, krb5core.ErrEndUser) {
			t.Errorf("%q is accepted: %v", name, err)
		}
	}
	for _, name := range []string{"Jürgen Müller", "o'hara", "a.b-c_d$", "名前", "alice(admin)", "*", "Ⅷ"} {
		if _, err := m.Parse(name); err != nil {
			t.Errorf("%q is rejected: %v", name, err)
		}
	}
}

func TestUserRules_Remedies(t *testing.T) {
	for _, row := range []struct {
		rules []string
		says  string
	}{
		{[]string{"bob", "{env.DENIED}"}, "{$NAME}"},
		{[]string{"bob "}, "write alice, alice@REALM"},
		{[]string{}, "leave it out"},
	} {
		for setting, i := range map[string]*Impersonation{"allow_users": {AllowUsers: row.rules}, "deny_users": {DenyUsers: row.rules}} {
			if err := i.Check(); err == nil || !strings.Contains(err.Error(), setting+": requires impersonate") {
				t.Errorf("%s %q without impersonate: %v", setting, row.rules, err)
			}
			i.Impersonate = "{http.auth.user.id}"
			if err := i.Check(); err == nil || !strings.Contains(err.Error(), setting) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%s %q: %v", setting, row.rules, err)
			}
		}
	}
}

func TestUserRules_EmptyDomain(t *testing.T) {
	err := (&Impersonation{Impersonate: "{http.auth.user.id}", DenyUsers: []string{`\bob`}}).Check()
	if err == nil || !strings.Contains(err.Error(), "empty domain") {
		t.Error(err)
	}
}

// A user must not choose the part that a template adds.
func TestImpersonator_AtInTemplate(t *testing.T) {
	t.Setenv("SUFFIX", "@CORP.EXAMPLE")
	for _, row := range []struct{ template, id, want string }{ // an empty want: refused
		{"{http.auth.user.id}@CORP.EXAMPLE", "alice", "alice@CORP.EXAMPLE"},
		{"{http.auth.user.id}@CORP.EXAMPLE", "admin@EVIL", ""},
		{"{http.auth.user.id}@CORP.EXAMPLE", "admin@", ""},
		{"{http.auth.user.id}@CORP.EXAMPLE", `admin\@EVIL`, ""},
		{"{http.auth.user.id}{env.SUFFIX}", "alice", "alice@CORP.EXAMPLE"},
		{"{http.auth.user.id}{env.SUFFIX}", "admin@EVIL", ""},
		{"{http.auth.user.id}@{http.auth.user.domain}", "alice", "alice@mail.example"},
		{"{http.auth.user.id}@{http.auth.user.domain}", "admin@EVIL", ""},
		{"{http.auth.user.id}", "alice@mail.example", "alice@mail.example"},
		{"{http.auth.user.id}", "admin@EVIL@CORP.EXAMPLE", ""},
	} {
		m := withRules(t, nil, nil)
		m.source = row.template
		repl := caddy.NewReplacer()
		repl.Set("http.auth.user.id", row.id)
		repl.Set("http.auth.user.domain", "mail.example")
		user, name, err := m.User(t.Context(), repl, nil)
		if row.want != "" {
			if err != nil || user.Principal().Name.NameString[0] != row.want {
				t.Errorf("%s with %s: %v, %v", row.template, row.id, user, err)
			}
			continue
		}
		if name == "" || !errors.Is(err, krb5core.ErrEndUser) || diagnosis.Of(err).Word != diagnosis.UserUnknown {
			t.Errorf("%s with %s: %v, %v", row.template, row.id, user, err)
		}
	}
}

func TestUserRules_NeverMatching(t *testing.T) {
	for _, rule := range []string{
		`ELSEWHERE\bob`, `\bob`, "", "@", " ", "{env.DENIED}", "bob-{http.auth.user.id}", "bob ", " bob", "bob\u00a0", "CORP.EXAMPLE/bob", "HTTP/*",
		"bo\x00b", "bob\n", "bo\u200bb", `CORP\`, `CORP\bob@corp.example`, `CORP\BRANCH\bob`, "@corp.example", "bob@", "bob@mail@corp.example",
	} {
		i := &Impersonation{Impersonate: "{http.auth.user.id}", DenyUsers: []string{rule}}
		_, err := i.Compile(new(RealmConfig), "CORP.EXAMPLE", negotiate.KindKeytab)
		if i.Check() == nil && err == nil {
			t.Errorf("%q is accepted", rule)
		}
	}
}
