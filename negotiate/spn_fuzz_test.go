package negotiate

import (
	"strings"
	"testing"
)

// A request's host may become part of a service principal.
func FuzzHostSPN(f *testing.F) {
	for _, host := range []string{"web.corp.example", "WEB.corp.example.", "a/b", "a@B", `a\b`, "", ".", "a..b", "xn--bcher-kva.example", "[::1]", "web:80", strings.Repeat("a", 300)} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		spn, err := HostSPN(host)
		if err != nil {
			return
		}
		name := spn.principal.Name.NameString
		if len(name) != 2 || name[0] != "HTTP" || spn.principal.Realm != "" {
			t.Fatalf("%q is %+v", host, spn.principal)
		}
		if name[1] != strings.ToLower(name[1]) || strings.ContainsAny(name[1], "/@\\ \t\x00") || !strings.EqualFold(strings.TrimSuffix(host, "."), strings.TrimSuffix(name[1], ".")) {
			t.Errorf("%q is the host %q", host, name[1])
		}
		again, err := ParseSPN(spn.String())
		if err != nil || again.String() != spn.String() {
			t.Errorf("%q read again is %q, %v", spn, again, err)
		}
	})
}
