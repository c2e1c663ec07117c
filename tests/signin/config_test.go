package signin

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// What cannot work is rejected at load, with the remedy and the line.
func TestConfig_Rejected(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	only := e.Write("only.keytab", e.KeysOf(e.Realm.AddService("HTTP/only.corp.example")))
	login := "kdc " + e.KDC.Addr()
	user := "user " + caddytest.Principal
	for name, row := range map[string]struct {
		lines []string
		want  string
	}{
		"spn that the keytab lacks, without user": {[]string{login, "keytab " + only, "spn HTTP/other.corp.example"}, "set user to that account"},
		"no HTTP principal and no spn":            {[]string{login, user, "keytab " + e.accountKeytab()}, "spn: is missing"},
		"password without spn":                    {[]string{login, user, "password {env.HOME}"}, "spn: is missing"},
		"placeholder in spn":                      {[]string{login, "keytab " + only, "spn HTTP/{http.request.host}"}, "placeholders have no value here"},
		"malformed spn":                           {[]string{login, "keytab " + only, "spn web"}, "has no host"},
		"group by name":                           {[]string{login, "keytab " + only, "allow_groups Staff"}, `"Staff" is not a SID`},
		"denied group by name":                    {[]string{login, "keytab " + only, `deny_groups CORP\Staff`}, "is not a SID"},
		"realms with an asterisk":                 {[]string{login, "keytab " + only, "realms A *.EXAMPLE"}, `"*.EXAMPLE" is not the name of a realm`},
		"placeholder in realms":                   {[]string{login, "keytab " + only, "realms {env.REALM}"}, "is not the name of a realm"},
		"required on plain HTTP":                  {[]string{login, "keytab " + only, "channel_binding required"}, "required works over TLS only"},
		"certificate that is not there":           {[]string{login, "keytab " + only, "channel_binding cert " + e.Dir + "/none.pem"}, "none.pem"},
		"binding of another kind":                 {[]string{login, "keytab " + only, "channel_binding on"}, "takes auto, off, required, or cert FILE"},
		"ticket cache":                            {[]string{"ccache KCM:"}, "needs a key of the account"},
		"two secrets":                             {[]string{login, user, "keytab " + only, "password x", spnLine}, "keep one of them"},
		"no credentials":                          {[]string{spnLine}, "no credentials"},
		"subdirective of negotiate":               {[]string{login, "keytab " + only, "mutual_auth on"}, "unrecognized subdirective mutual_auth"},
		"twice":                                   {[]string{login, "keytab " + only, "realms A", "realms B"}, "is set twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "ticket cache" {
				row.lines = append(row.lines, "user "+caddytest.Principal, spnLine)
			}
			err := caddytest.TryLoad(t, e.config(caddytest.Block("negotiate_auth", row.lines...), who))
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "Caddyfile:") {
				t.Errorf("got %v, want %q and the line", err, row.want)
			}
		})
	}
	if n := e.KDC.Counts().ASReq; n != 0 {
		t.Errorf("loading asked the KDC %d times", n)
	}
}

func TestConfig_EmptyListsInJSON(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	adapted, _, err := caddytest.Adapt(e.config(e.auth(spnLine, "realms A", "allow_groups *", "deny_groups S-1-5-32-1"), who))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`"realms":["A"]`: `"realms":[]`, `"allow_groups":["*"]`: `"allow_groups":[]`, `"deny_groups":["S-1-5-32-1"]`: `"deny_groups":[]`,
	} {
		text := strings.Replace(string(adapted), from, to, 1)
		if text == string(adapted) {
			t.Fatalf("no %s in %s", from, adapted)
		}
		if err := caddytest.TryLoadJSON(t, []byte(text)); err == nil || !strings.Contains(err.Error(), strings.Trim(strings.Split(to, ":")[0], `"`)) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// It runs after basic_auth and before what needs the user, wherever it is written.
func TestConfig_Order(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	adapted, _, err := caddytest.Adapt(e.config(who, "request_header X-User {http.auth.user.id}", e.auth(spnLine), caddytest.Block("basic_auth", "carol "+hash(t, "x"))))
	if err != nil {
		t.Fatal(err)
	}
	at := func(handler string) int { return strings.Index(string(adapted), `"handler":"`+handler+`"`) }
	if a, b, c := at("authentication"), at("negotiate_auth"), at("static_response"); a < 0 || b < a || c < b {
		t.Errorf("at %d, %d, %d: %s", a, b, c, adapted)
	}
}
