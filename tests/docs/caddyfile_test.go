package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "caddy-negotiate-docs-")
	if err != nil {
		panic(err)
	}
	// Where Caddy would leave something, if it did.
	os.Setenv("XDG_DATA_HOME", folder)
	os.Setenv("XDG_CONFIG_HOME", folder)
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// environment is what the shown Caddyfiles take from outside.
var environment = map[string]string{
	"DEMO_HOST": "127.0.0.1", "DEMO_PORT": "8080", "DEMO_KDC": "127.0.0.1:88", "DEMO_UPSTREAM": "127.0.0.1:80",
	"DEMO_KEYTAB": "/etc/caddy/demo.keytab", "CREDENTIALS_DIRECTORY": "/etc/caddy",
	"UPSTREAM": "http://iis.corp.example", "KDC": "dc1.corp.example", "KERBEROS_USER": "svc-proxy@CORP.EXAMPLE", "SPN": "HTTP/iis.corp.example",
	"ETL_PASSWORD_HASH": hash("secret"), "TICKET_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "PROXY_PASSWORD": "secret",
}

// hash is what `caddy hash-password` gives, with the least work.
func hash(password string) string {
	hashed, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(hashed)
}

// fillIn replaces {$NAME} and {$NAME:default} as the adapter does, from here.
func fillIn(text string, values map[string]string) (string, error) {
	for {
		before, rest, found := strings.Cut(text, "{$")
		if !found {
			return text, nil
		}
		variable, after, found := strings.Cut(rest, "}")
		variable, _, _ = strings.Cut(variable, ":")
		value, known := values[variable]
		if !found || !known {
			return "", fmt.Errorf("the environment of the tests has no %s", variable)
		}
		text = before + value + after
	}
}

// caddyfiles are all that are shown, in pages and as files, by where they stand.
func caddyfiles(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	b := readBook(t)
	for page := range b {
		for _, code := range b.blocks(page) {
			if code.lang == "caddyfile" {
				found[fmt.Sprintf("%s:%d", page, code.line)] = code.text
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(root, "examples"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "Caddyfile") && filepath.Ext(path) != ".caddyfile" {
			return err
		}
		text, err := os.ReadFile(path)
		found[slash(path)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests(t, "examples/kubernetes/caddy.yaml") {
		if m.Kind == "ConfigMap" {
			found["examples/kubernetes/caddy.yaml"] = m.Data["Caddyfile"]
		}
	}
	return found
}

// A cabinet is a folder in place of those that the Caddyfiles name, with all files
// that they ask for.
type cabinet struct {
	t      *testing.T
	folder string
}

var folders = []string{"/etc/caddy", "/run/secrets", "/etc/kerberos", "/run/caddy"}

func newCabinet(t *testing.T) *cabinet {
	c := &cabinet{t: t, folder: t.TempDir()}
	for _, folder := range folders {
		if err := os.MkdirAll(c.folder+folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// put writes a file into every folder, or into the one that the name has.
func (c *cabinet) put(name string, content []byte) {
	c.t.Helper()
	paths := []string{name}
	if !strings.HasPrefix(name, "/") {
		paths = nil
		for _, folder := range folders {
			paths = append(paths, folder+"/"+name)
		}
	}
	for _, path := range paths {
		if err := os.WriteFile(c.folder+path, content, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// take makes a Caddyfile ask for the files here.
func (c *cabinet) take(text string) string {
	for _, folder := range folders {
		text = strings.ReplaceAll(text, folder+"/", c.folder+folder+"/")
	}
	return text
}

// adapt makes JSON of a Caddyfile; warnings are errors, as they tell of bad format.
func adapt(text string) ([]byte, error) {
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		return nil, errors.New(warnings[0].String())
	}
	return adapted, nil
}

// validate does what `caddy validate` does with a Caddyfile that is shown.
func validate(c *cabinet, text string) error {
	if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
		return fmt.Errorf("is not formatted; it should be\n%s", formatted)
	}
	text, err := fillIn(text, environment)
	if err != nil {
		return err
	}
	adapted, err := adapt(c.take(text))
	if err != nil {
		return err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		return err
	}
	return caddy.Validate(config)
}

// corporate is the realm of the examples, with a file for every account.
func corporate(t *testing.T) (*kdctest.Realm, *cabinet) {
	t.Helper()
	c, realm := newCabinet(t), kdctest.NewRealm("CORP.EXAMPLE")
	for _, user := range []string{"svc-proxy", "svc-monitoring"} {
		keys, err := realm.Keytab(realm.AddUser(user, "secret of "+user, kdctest.SPN("HTTP/"+user+".corp.example")))
		if err != nil {
			t.Fatal(err)
		}
		c.put(user+".keytab", keys)
	}
	c.put("svc-proxy.password", []byte("secret of svc-proxy\n"))
	for file, of := range map[string][2]string{"svc-etl.keytab": {"HADOOP.EXAMPLE", "svc-etl"}, "demo.keytab": {"DEMO.EXAMPLE", "svc-proxy"}} {
		other := kdctest.NewRealm(of[0])
		keys, err := other.Keytab(other.AddUser(of[1], "secret"))
		if err != nil {
			t.Fatal(err)
		}
		c.put(file, keys)
	}
	conf, err := os.ReadFile(root + "/examples/hadoop/krb5.conf")
	if err != nil {
		t.Fatal(err)
	}
	c.put("krb5.conf", conf)
	c.put("corp-ca.pem", newAuthority(t).pem())
	return realm, c
}

func TestShownCaddyfilesLoadAndAreFormatted(t *testing.T) {
	_, c := corporate(t)
	all := caddyfiles(t)
	if len(all) < 15 {
		t.Errorf("%d Caddyfiles only", len(all))
	}
	for where, text := range all {
		if err := validate(c, text); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestBadCaddyfileIsSeen(t *testing.T) {
	_, c := corporate(t)
	const good = "app.example.com {\n\tnegotiate {\n\t\tuser svc-proxy@CORP.EXAMPLE\n\t\tkeytab /etc/caddy/svc-proxy.keytab\n\t\tspn HTTP/iis.corp.example\n\t}\n\treverse_proxy iis.corp.example:80\n}\n"
	if err := validate(c, good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][3]string{
		{"spn HTTP", "service HTTP", "unrecognized subdirective service"},
		{"\t\tspn", "  spn", "is not formatted"},
		{"svc-proxy@CORP.EXAMPLE", "{$UNHEARD_OF}", "no UNHEARD_OF"},
		{"svc-proxy.keytab", "other.keytab", "no such file"},
	} {
		if err := validate(c, strings.ReplaceAll(good, change[0], change[1])); err == nil || !strings.Contains(err.Error(), change[2]) {
			t.Errorf("with %s: %v", change[1], err)
		}
	}
}
