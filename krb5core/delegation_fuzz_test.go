package krb5core_test

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// What authentication handlers yield may come from outside.
func FuzzParseEndUser(f *testing.F) {
	for _, user := range []string{"alice", `CORP\alice`, "alice@corp.example", `a\@b@c`, "@", `\`, "a/b", "a\x00b", "jürgen@corp", strings.Repeat("a", 600)} {
		f.Add(user)
	}
	f.Fuzz(func(t *testing.T, user string) {
		p, err := krb5core.ParseEndUser(user, krb5core.UserForm{Default: "CORP.EXAMPLE"})
		if err != nil {
			return
		}
		if len(p.Name.NameString) != 1 || p.Name.NameString[0] == "" || p.Realm == "" {
			t.Fatalf("%q is %+v", user, p)
		}
		if name := p.Name.NameString[0]; strings.ContainsAny(name, "/\x00\n") || len(name) > 512 {
			t.Errorf("%q is the user %q", user, name)
		}
		if enterprise := p.Name.NameType == messages.KRB_NT_ENTERPRISE; enterprise != strings.Contains(user, "@") {
			t.Errorf("%q: enterprise is %t", user, enterprise)
		}
	})
}

func FuzzParseUser(f *testing.F) {
	for _, user := range []string{"alice", `CORP\alice`, "alice@corp.example", `a\@b@c`, "HTTP/web@R", "R/alice", "@", `\`, "/", "a@"} {
		f.Add(user, "")
		f.Add(user, "CORP.EXAMPLE")
	}
	f.Fuzz(func(t *testing.T, user, realm string) {
		p, err := krb5core.ParseUser(user, krb5core.UserForm{Realm: realm, Default: "DEFAULT.EXAMPLE"})
		if err == nil && (len(p.Name.NameString) == 0 || p.Realm == "") {
			t.Errorf("%q in %q is %+v", user, realm, p)
		}
	})
}
