package caddynegotiate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/examples"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// adapt makes JSON of a Caddyfile.
func adapt(text string) ([]byte, error) {
	adapted, _, err := caddytest.Adapt(text)
	return adapted, err
}

// validate is `caddy validate`.
func validate(text string) error {
	adapted, err := adapt(text)
	if err != nil {
		return err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		return err
	}
	return caddy.Validate(config)
}

// logFolder is a folder for Caddy's log, which stays open: Windows does not delete it then.
func logFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// files are keytabs and others, good and bad, by their names.
func files(t *testing.T) map[string]string {
	t.Helper()
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	alice := realm.AddUser("svc-proxy", "secret")
	bob := realm.AddUser("bob", "secret")
	rc4 := realm.AddUser("old", "secret", kdctest.ETypes(enctype.RC4_HMAC))
	sha2 := realm.AddUser("new", "secret", kdctest.ETypes(enctype.AES256_CTS_HMAC_SHA384_192))
	keys := func(p ...*kdctest.Principal) []byte { return caddytest.KeysOf(t, realm, p...) }
	folder, paths := t.TempDir(), make(map[string]string)
	for name, content := range map[string][]byte{
		"good.keytab": keys(alice), "other.keytab": keys(bob), "two.keytab": keys(alice, bob), "rc4.keytab": keys(rc4),
		"sha2.keytab": keys(sha2), "none.keytab": keys(), "cut.keytab": keys(alice)[:50], "empty.keytab": nil,
		"foreign.keytab": []byte("-----BEGIN CERTIFICATE-----\nMIIB\n"),
		"password":       []byte("secret\n"), "empty-password": []byte("\n"),
		"cache": []byte("no cache"), "krb5.conf": []byte("[libdefaults]\n\tdefault_realm = CORP.EXAMPLE\n"),
		"camellia.conf": []byte("[libdefaults]\n permitted_enctypes = camellia\n"),
	} {
		paths[name] = caddytest.WriteFile(t, filepath.Join(folder, name), content)
	}
	return paths
}

// site puts lines into a negotiate block, the first of which is line 7.
func site(lines string) string {
	return "{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:9 {\n\tnegotiate {\n" + lines + "\n\t}\n\trespond ok\n}\n"
}

func TestBadInputIsRefusedWithPlaceThingAndRemedy(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", "secret")
	file := files(t)
	const who = "user svc-proxy@CORP.EXAMPLE\n"
	good := who + "keytab " + file["good.keytab"] + "\n"
	const where = "kdc 127.0.0.1\n"
	const what = "spn HTTP/web.corp.example\n"
	for _, row := range []struct {
		name, lines string
		says        []string
	}{
		// Syntax.
		{"misspelt", good + where + what + "keytap x", []string{"Caddyfile:11", "unrecognized", "keytap", "did you mean keytab?"}},
		{"unknown", good + where + what + "wholly_unknown x", []string{"Caddyfile:11", "wholly_unknown", "known here are", "use_tcp"}},
		{"twice", good + where + what + "spn HTTP/other", []string{"Caddyfile:11", "spn is set twice", "Caddyfile:10"}},
		{"too few", good + where + "spn", []string{"Caddyfile:10", "spn takes exactly one value"}},
		{"too many", good + where + "spn a b", []string{"Caddyfile:10", "spn takes exactly one value", "between backticks"}},
		{"empty", good + where + `spn ""`, []string{"Caddyfile:10", "spn", "empty"}},
		{"no KDC", good + "kdc", []string{"Caddyfile:9", "kdc takes one value or more"}},
		{"no type", good + where + what + "encryption_types", []string{"Caddyfile:11", "encryption_types takes one value or more"}},
		{"bad switch", good + where + what + "use_tcp yes", []string{"Caddyfile:11", "use_tcp takes on, off or no argument", "yes"}},
		{"bad time", good + where + what + "timeout soon", []string{"Caddyfile:11", "soon", "10s"}},
		{"negative time", good + where + what + "timeout -1s", []string{"Caddyfile:11", "-1s", "10s"}},
		{"bad size", good + where + what + "replay_buffer much", []string{"Caddyfile:11", "much", "64KiB"}},
		{"absurd size", good + where + what + "replay_buffer 2GiB", []string{"Caddyfile:11", "replay_buffer", "1GiB"}},
		{"bad mutual_auth", good + where + what + "mutual_auth maybe", []string{"Caddyfile:11", "mutual_auth takes off, on, required", "maybe"}},
		{"bad delegate", good + where + what + "delegate sometimes", []string{"Caddyfile:11", "delegate takes always or no argument"}},
		{"bad ip_version", good + where + what + "kdc_options {\n ip_version 5\n}", []string{"Caddyfile:12", "4 or 6"}},
		{"bad dscp", good + where + what + "kdc_options {\n dscp 64\n}", []string{"Caddyfile:12", "dscp takes a number from 0 to 63", "64"}},
		{"misspelt option", good + where + what + "kdc_options {\n dscpp 1\n}", []string{"Caddyfile:12", "did you mean dscp?"}},
		{"option twice", good + where + what + "kdc_options {\n dscp 1\n dscp 1\n}", []string{"Caddyfile:13", "set twice", "Caddyfile:12"}},

		// Credentials.
		{"no credentials", what, []string{"Caddyfile:6", "no credentials"}},
		{"nothing to log in with", who + where + what, []string{"Caddyfile:6", "nothing to log in with", "keytab FILE"}},
		{"keytab and password", good + where + what + "password x", []string{"Caddyfile:11", "password", "keytab is set too"}},
		{"password without user", where + what + "password {env.PROXY_PASSWORD}", []string{"Caddyfile:6", "user is missing", "svc-proxy@"}},
		{"no realm", "user svc-proxy\n" + where + what + "password {env.PROXY_PASSWORD}", []string{"Caddyfile:7", "names no realm", "svc-proxy@REALM"}},
		{"user with a placeholder of the request", "user {http.auth.user.id}@CORP.EXAMPLE\n" + where + what + "password x", []string{"Caddyfile:7", "{env.NAME}"}},
		{"password with a placeholder of the request", who + where + what + "password {http.request.uri}", []string{"Caddyfile:10", "password", "{env.NAME}"}},
		{"variable that is not set", who + where + what + "password {env.NOT_SET_AT_ALL}", []string{"Caddyfile:10", "password", "NOT_SET_AT_ALL", "is the variable set"}},
		{"password file missing", who + where + what + "password_file /nonexistent/password", []string{"Caddyfile:10", filepath.FromSlash("/nonexistent/password"), "no such file"}},
		{"password file empty", who + where + what + "password_file " + file["empty-password"], []string{"Caddyfile:10", "empty-password", "must hold the password"}},

		// Keytabs.
		{"keytab missing", who + where + what + "keytab /nonexistent/x.keytab", []string{"Caddyfile:10", filepath.FromSlash("/nonexistent/x.keytab"), "no such file", "visible to the user"}},
		{"keytab is a folder", who + where + what + "keytab " + filepath.Dir(file["good.keytab"]), []string{"Caddyfile:10", "is a folder"}},
		{"keytab cut short", who + where + what + "keytab " + file["cut.keytab"], []string{"Caddyfile:10", "cut.keytab", "byte 6", "copy the file again"}},
		{"keytab empty", who + where + what + "keytab " + file["empty.keytab"], []string{"Caddyfile:10", "empty.keytab"}},
		{"keytab foreign", who + where + what + "keytab " + file["foreign.keytab"], []string{"Caddyfile:10", "foreign.keytab", "keytab"}},
		{"keytab of another", who + where + what + "keytab " + file["other.keytab"], []string{"Caddyfile:10", "no key for svc-proxy@CORP.EXAMPLE", "bob@CORP.EXAMPLE", "fix user"}},
		{"keytab without keys", where + what + "keytab " + file["none.keytab"], []string{"Caddyfile:9", "has no key", "create it again"}},
		{"keytab of two", where + what + "keytab " + file["two.keytab"], []string{"Caddyfile:9", "2 principals", "name one of them with user"}},
		{"keytab with RC4 only", where + what + "keytab " + file["rc4.keytab"], []string{"Caddyfile:9", "old@CORP.EXAMPLE", "weak", "rc4-hmac", "April 2026", "July 2026", "KB5073381", "ktpass -crypto"}},
		{"keytab without an allowed type", where + what + "encryption_types aes128-cts-hmac-sha1-96\nkeytab " + file["sha2.keytab"], []string{"Caddyfile:10", "new@CORP.EXAMPLE", "aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha1-96"}},
		{"keytab without a type that krb5.conf permits", where + what + "krb5_conf " + file["camellia.conf"] + "\nkeytab " + file["good.keytab"], []string{"Caddyfile:10", "camellia256-cts-cmac"}},
		{"canonicalize with ccache", where + what + "canonicalize off\nccache " + file["cache"], []string{"Caddyfile:9", "canonicalize", "does not apply to ccache", "remove it"}},
		{"bad canonicalize", good + where + what + "canonicalize yes", []string{"Caddyfile:11", "canonicalize takes on, off or no argument", "yes"}},
		{"ccache foreign", where + what + "ccache " + file["cache"], []string{"Caddyfile:9", "cache"}},

		// KDCs.
		{"KDC that is none", good + what + "kdc http://dc1.corp.example", []string{"Caddyfile:10", "http://dc1.corp.example"}},
		{"KDC with a bad port", good + what + "kdc dc1.corp.example:99999", []string{"Caddyfile:10", "99999"}},
		{"KDC with a path", good + what + "kdc dc1.corp.example/x", []string{"Caddyfile:10", "dc1.corp.example/x"}},
		{"unknown type", good + where + what + "encryption_types aes512-sha3", []string{"Caddyfile:11", "aes512-sha3"}},
		{"type twice", good + where + what + "encryption_types aes256-cts-hmac-sha1-96,aes256-cts", []string{"Caddyfile:11", "named twice"}},
		{"weak type without allow_weak_crypto", good + where + what + "encryption_types rc4-hmac aes256-cts-hmac-sha1-96", []string{"Caddyfile:11", "rc4-hmac is weak", "allow_weak_crypto"}},
		{"krb5.conf missing", good + what + "krb5_conf /nonexistent/krb5.conf", []string{"Caddyfile:10", "/nonexistent/krb5.conf"}},

		// Service.
		{"no SPN", good + where, []string{"Caddyfile:6", "spn is missing", "spn HTTP/iis.corp.example"}},
		{"SPN without a host", good + where + "spn HTTP", []string{"Caddyfile:10", `"HTTP" has no host`, "HTTP/HTTP"}},
		{"SPN with an empty host", good + where + "spn HTTP/", []string{"Caddyfile:10", "empty part"}},
		{"SPN with a placeholder without bounds", good + where + "spn HTTP/{http.request.host}", []string{"Caddyfile:10", "{http.request.host}", "allow_spns HTTP/*.corp.example"}},
		{"SPN with a shorthand without bounds", good + where + "spn HTTP/{host}", []string{"Caddyfile:10", "{http.request.host}", "allow_spns"}},
		{"SPN that only a transport knows", good + where + "spn HTTP/{http.reverse_proxy.upstream.host}\nallow_spns *", []string{"Caddyfile:10", "transport negotiate"}},
		{"SPN whose service is a placeholder", good + where + "spn {http.request.host}/x\nallow_spns *", []string{"Caddyfile:10", "in the host only"}},
		{"SPN of a variable that is not set", good + where + "spn HTTP/{env.NOT_SET_AT_ALL}", []string{"Caddyfile:10", "NOT_SET_AT_ALL"}},
	} {
		t.Run(row.name, func(t *testing.T) { wantError(t, validate(site(row.lines)), row.says...) })
	}
}

// wantError checks that an error says all of the texts.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestBadInput_Identities(t *testing.T) {
	file := files(t)
	for _, row := range []struct {
		name, global, block string
		says                []string
	}{
		{"identity beside inline", "", "negotiate intranet {\n\t\tuser x@Y\n\t}", []string{"Caddyfile:12", "user: is set although identity intranet is named", "keep one"}},
		{"identity that is not defined", "", "negotiate other {\n\t\tspn HTTP/web.corp.example\n\t}", []string{"Caddyfile:11", "identity other is not defined", "kerberos { identity other"}},
		{"two identities", "", "negotiate a b {\n\t}", []string{"Caddyfile:11", "unexpected b"}},
		{"identity with a bad keytab", "identity bad {\n keytab /nonexistent\n}", "respond ok", []string{"Caddyfile:8", "identity bad", filepath.FromSlash("/nonexistent"), "no such file"}},
		{"identity with nothing", "identity bad {\n}", "respond ok", []string{"Caddyfile:7", "identity bad", "nothing to log in with"}},
		{"realm with a bad KDC", "realm X {\n kdc ftp://x\n}", "respond ok", []string{"Caddyfile:8", "ftp://x"}},
		{"realm with a bad domain", "realm X {\n domains *.x\n}", "respond ok", []string{"Caddyfile:8", `"*.x" is not a domain`, ".corp.example"}},
		{"misspelt", "identitty x {\n}", "respond ok", []string{"Caddyfile:7", "identitty", "identity"}},
		{"too little memory", "ticket_memory 1KiB", "respond ok", []string{"Caddyfile:7", "ticket_memory", "1MiB"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantError(t, validate(fmt.Sprintf("{\n\tadmin off\n\tkerberos {\n\t\tidentity intranet {\n keytab %s\n }\n %s\n\t}\n}\nhttp://127.0.0.1:9 {\n\t%s\n}\n",
				file["good.keytab"], row.global, row.block)), row.says...)
		})
	}
}

func TestGoodInput(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", "secret")
	t.Setenv("BRACES", "a{b}c")
	file := files(t)
	const rest = "\nkdc 127.0.0.1\nspn HTTP/web.corp.example\n"
	for name, lines := range map[string]string{
		"the keytab's principal":      "keytab " + file["good.keytab"] + rest,
		"password of a variable":      "user a@B\npassword {env.PROXY_PASSWORD}" + rest,
		"password with a brace in it": "user a@B\npassword {env.BRACES}" + rest,
		"password with escapes":       "user a@B\npassword a\\{b" + rest,
		"password of a file":          "user a@B\npassword {file." + file["password"] + "}" + rest,
		"password file":               "user a@B\npassword_file " + file["password"] + rest,
		"user of a variable":          "user {env.PROXY_PASSWORD}@B\npassword x" + rest,
		"realm beside":                "user a\nrealm B\npassword x" + rest,
		"RC4 with allow_weak_crypto":  "keytab " + file["rc4.keytab"] + "\nencryption_types rc4-hmac\nallow_weak_crypto" + rest,
		"commas and aliases":          "keytab " + file["good.keytab"] + "\nencryption_types \"aes256-cts, aes128-cts-hmac-sha1-96\"" + rest,
		"every form of KDC":           "keytab " + file["good.keytab"] + "\nkdc dc1 dc2:89 tcp/dc3 udp/dc4:88 https://dc5/KdcProxy [::1]:88\nspn HTTP/web",
		"host of the request":         "keytab " + file["good.keytab"] + "\nkdc dc1\nspn HTTP/{host}\nallow_spns HTTP/*.corp.example",
		"host of a variable":          "keytab " + file["good.keytab"] + "\nkdc dc1\nspn HTTP/{env.PROXY_PASSWORD}",
		"krb5.conf for the rest":      "user a\npassword x\nkrb5_conf " + file["krb5.conf"] + "\nspn HTTP/web",
	} {
		t.Run(name, func(t *testing.T) {
			if err := validate(site(lines)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestValidate_NoKDC(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	contacts := make(chan string, 16)
	go func() {
		for c, err := tcp.Accept(); err == nil; c, err = tcp.Accept() {
			contacts <- "tcp " + c.RemoteAddr().String()
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 1)
		for _, from, err := udp.ReadFrom(b); err == nil; _, from, err = udp.ReadFrom(b) {
			contacts <- "udp " + from.String()
		}
	}()
	file := files(t)
	for range 3 {
		for _, tail := range []string{"", "\nuse_tcp", "\nlogin_at_start on", "\ncanonicalize", "\ncanonicalize off"} {
			if err := validate(site("keytab " + file["good.keytab"] + "\nkdc tcp/" + tcp.Addr().String() + " udp/" + udp.LocalAddr().String() + "\nspn HTTP/web.corp.example" + tail)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The test's own contacts come after all others, and show that the listeners listen.
	for network, address := range map[string]string{"tcp": tcp.Addr().String(), "udp": udp.LocalAddr().String()} {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got, want := must.Receive(t, "the test's own contact", contacts), network+" "+c.LocalAddr().String(); got != want {
			t.Errorf("contacted by %s", got)
		}
	}
}

func TestAdapt_JSON(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	adapted, err := adapt(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/contract.json"
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(golden, append(got.Bytes(), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(bytes.TrimSpace(want)), got.String()); diff != "" {
		t.Errorf("adapted JSON differs from %s (-want +got):\n%s", golden, diff)
	}
}

func TestNegotiate_BeforeReverseProxy(t *testing.T) {
	adapted, err := adapt("http://app.example.com {\n\treverse_proxy 127.0.0.1:1\n\tnegotiate intranet {\n\t\tspn HTTP/x\n\t}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	first, second := bytes.Index(adapted, []byte(`"handler":"negotiate"`)), bytes.Index(adapted, []byte(`"handler":"reverse_proxy"`))
	if first < 0 || second < first {
		t.Errorf("negotiate at %d, reverse_proxy at %d", first, second)
	}
}

func TestExampleIsFormatted(t *testing.T) {
	if diff := cmp.Diff(string(caddyfile.Format(examples.Caddyfile)), string(examples.Caddyfile)); diff != "" {
		t.Errorf("caddy fmt would change examples/Caddyfile (-formatted +is):\n%s", diff)
	}
}

func TestNoPasswords(t *testing.T) {
	const secret = "hunter2-is-secret"
	t.Setenv("PROXY_PASSWORD", secret)
	for _, lines := range []string{
		"user a@B\npassword " + secret + "\nkeytab /nonexistent\nspn HTTP/web",
		"user a@B\npassword " + secret + "{oops}\nspn HTTP/web\nkdc x",
		"user a@B\npassword {env.PROXY_PASSWORD}{env.NOT_SET_AT_ALL}\nspn HTTP/web\nkdc x",
		"password " + secret + "\nspn HTTP/web\nkdc x",
		"user a\npassword {env.PROXY_PASSWORD}\nspn HTTP/web\nkdc x",
	} {
		err := validate(site(lines))
		if err == nil {
			t.Fatalf("accepted: %s", lines)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the password shows: %v", err)
		}
	}
	adapted, err := adapt(site("user a@B\npassword {env.PROXY_PASSWORD}\nspn HTTP/web\nkdc x"))
	if err != nil || bytes.Contains(adapted, []byte(secret)) {
		t.Errorf("adapted: %s, %v", adapted, err)
	}
}

// adaptKerberos returns the kerberos app that global options adapt to.
func adaptKerberos(options string) (map[string]any, error) {
	out, err := adapt("{\n" + options + "\n}\n")
	if err != nil {
		return nil, err
	}
	var config struct {
		Apps map[string]map[string]any `json:"apps"`
	}
	if err := json.Unmarshal(out, &config); err != nil {
		return nil, err
	}
	return config.Apps["kerberos"], nil
}

func TestKerberos_RepeatedBlocks(t *testing.T) {
	got, err := adaptKerberos(`
	kerberos {
		krb5_conf /etc/krb5.conf
		realm CORP.EXAMPLE {
			kdc dc1.corp.example dc2.corp.example:88
			domains .corp.example
			netbios CORP
			site Berlin
		}
		identity one {
			user svc-one@CORP.EXAMPLE
			keytab /one.keytab
		}
	}
	kerberos {
		ticket_memory 64MiB
		ticket_store storage {env.TICKET_KEY}
		realm OTHER.EXAMPLE {
			kdc dc.other.example
		}
		identity two {
			user svc-two@OTHER.EXAMPLE
			password {env.TWO}
			use_tcp
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"krb5_conf": "/etc/krb5.conf", "ticket_memory": float64(64 << 20), "ticket_store": "storage", "ticket_store_key": "{env.TICKET_KEY}",
		"realms": map[string]any{
			"CORP.EXAMPLE": map[string]any{
				"kdc": []any{"dc1.corp.example", "dc2.corp.example:88"}, "domains": []any{".corp.example"},
				"netbios": "CORP", "site": "Berlin",
			},
			"OTHER.EXAMPLE": map[string]any{"kdc": []any{"dc.other.example"}},
		},
		"identities": map[string]any{
			"one": map[string]any{"user": "svc-one@CORP.EXAMPLE", "keytab": "/one.keytab"},
			"two": map[string]any{"user": "svc-two@OTHER.EXAMPLE", "password": "{env.TWO}", "use_tcp": true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKerberos_Errors(t *testing.T) {
	for options, want := range map[string]string{
		"kerberos {\nrealm A\nrealm A\n}":                                      "realm A is defined twice",
		"kerberos {\nrealm A\n}\nkerberos {\nrealm A\n}":                       "realm A is defined twice",
		"kerberos {\nidentity a {\nkeytab x\n}\nidentity a\n}":                 "identity a is defined twice",
		"kerberos {\nidentity a {\nkeytab x\n}\n}\nkerberos {\nidentity a\n}":  "identity a is defined twice",
		"kerberos {\nkrb5_conf /a\nkrb5_conf /b\n}":                            "krb5_conf is set twice",
		"kerberos {\nkrb5_conf /a\n}\nkerberos {\nkrb5_conf /b\n}":             "krb5_conf is set twice, also in an earlier kerberos block",
		"kerberos {\nticket_memory 1MiB\n}\nkerberos {\nticket_memory 2MiB\n}": "ticket_memory is set twice",
		"kerberos {\nidentity a {\nuser x\nuser y\n}\n}":                       "user is set twice, also at Caddyfile:4",
		"kerberos {\nticket_store\n}":                                          "ticket_store takes memory, or storage",
		"kerberos {\nticket_store redis\n}":                                    "ticket_store takes memory, or storage",
		"kerberos {\nticket_store memory key\n}":                               "ticket_store takes memory, or storage",
		"kerberos {\nticket_store memory\nticket_store memory\n}":              "ticket_store is set twice",
		"kerberos corp {\n}":                                                   "unexpected corp",
		"kerberos {\nidentity\n}":                                              "identity takes a name",
		"kerberos {\nrealm A B\n}":                                             "realm takes a name",
		"kerberos {\nrelam A\n}":                                               "did you mean realm?",
		"kerberos {\nidentity a {\nkeytba /x\n}\n}":                            "did you mean keytab?",
		"kerberos {\nidentity a {\nspn HTTP/x\n}\n}":                           "unrecognized subdirective spn",
		"kerberos {\nrealm A {\nnetbios C\n}\nrealm B {\nnetbios C\n}\n}":      "Caddyfile:7: realm B: netbios: C is set for A and for B",
		"kerberos {\nrealm A {\nnetbios B\n}\n}\nkerberos {\nrealm B\n}":       "netbios: B of realm A is the name of realm B",
	} {
		_, err := adaptKerberos(options)
		wantError(t, err, want)
	}
}

// What only files and variables show is not the adapter's to check.
func TestAdapt_ReadsNoFile(t *testing.T) {
	for _, secret := range []string{"keytab /nonexistent", "password_file /nonexistent", "ccache /nonexistent", "password {env.NOT_SET_AT_ALL}"} {
		if _, err := adapt(site("user a@B\n" + secret + "\nspn HTTP/{env.NOT_SET_AT_ALL}\nkrb5_conf /nonexistent\nfast_armor keytab /nonexistent\nkdc_options {\ntls_ca /nonexistent\nproxy {env.NOT_SET_AT_ALL}\n}")); err != nil {
			t.Error(err)
		}
	}
}

func TestAdapt_NoPlacesInTheJSON(t *testing.T) {
	for name, value := range map[string]string{"DEMO_KDC": "127.0.0.1", "DEMO_KEYTAB": "/nonexistent", "DEMO_UPSTREAM": "127.0.0.1:9"} {
		t.Setenv(name, value)
	}
	first, err := adapt(string(examples.Caddyfile))
	if err != nil {
		t.Fatal(err)
	}
	second, err := adapt("# one line more\n" + string(examples.Caddyfile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("a comment changes the JSON:\n%s\n%s", first, second)
	}
}
