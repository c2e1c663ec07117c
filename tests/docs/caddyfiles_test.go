package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// environment is what the shown Caddyfiles take from outside.
var environment = map[string]string{
	"DEMO_HOST": "127.0.0.1", "DEMO_PORT": "8080", "DEMO_KDC": "127.0.0.1:88", "DEMO_UPSTREAM": "127.0.0.1:80",
	"DEMO_KEYTAB": "/etc/caddy/demo.keytab", "CREDENTIALS_DIRECTORY": "/etc/caddy",
	"UPSTREAM": "http://iis.corp.example", "KDC": "dc1.corp.example", "KERBEROS_USER": "svc-proxy@CORP.EXAMPLE", "SPN": "HTTP/iis.corp.example",
	"ETL_PASSWORD_HASH": hash("secret"), "TICKET_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "PROXY_PASSWORD": "secret",
	"STATUS_HASH": hash("secret"),
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

// caddyfiles are all that are shown, in pages and as files, by their place.
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
	found["examples/kubernetes/caddy.yaml"] = kubernetesCaddyfile(t)
	return found
}

// folder is a folder in place of those that the Caddyfiles name, with all files that they
// ask for.
type folder struct {
	t    *testing.T
	path string
}

var folders = []string{"/etc/caddy", "/run/secrets", "/etc/kerberos", "/run/caddy"}

func newFolder(t *testing.T) *folder {
	c := &folder{t: t, path: t.TempDir()}
	for _, folder := range folders {
		if err := os.MkdirAll(c.path+folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// put writes a file into every folder, or into the one that the name has.
func (c *folder) put(name string, content []byte) {
	c.t.Helper()
	paths := []string{name}
	if !strings.HasPrefix(name, "/") {
		paths = nil
		for _, folder := range folders {
			paths = append(paths, folder+"/"+name)
		}
	}
	for _, path := range paths {
		caddytest.WriteFile(c.t, c.path+path, content)
	}
}

// paths makes a Caddyfile ask for the files here.
func (c *folder) paths(text string) string {
	text = strings.ReplaceAll(text, "C:/caddy/", "/etc/caddy/")
	for _, folder := range folders {
		text = strings.ReplaceAll(text, folder+"/", c.path+folder+"/")
	}
	return text
}

// adapt makes JSON of a Caddyfile; warnings are errors, as they tell of bad format.
func adapt(text string) ([]byte, error) {
	adapted, warnings, err := caddytest.Adapt(text)
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		return nil, errors.New(warnings[0].String())
	}
	return adapted, nil
}

// validate does what `caddy validate` does with a Caddyfile that is shown.
func validate(c *folder, text string) error {
	if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
		return fmt.Errorf("is not formatted; it should be\n%s", formatted)
	}
	text, err := fillIn(text, environment)
	if err != nil {
		return err
	}
	adapted, err := adapt(c.paths(text))
	if err != nil {
		return err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		return err
	}
	err = caddy.Validate(config)
	if err != nil && runtime.GOOS != "windows" && strings.Contains(err.Error(), "platform: is for Windows") {
		return nil // up to here it is as it should be
	}
	return err
}

// corporate is the realm of the examples, with a file for every account.
func corporate(t *testing.T) (*kdctest.Realm, *folder) {
	t.Helper()
	c, realm := newFolder(t), kdctest.NewRealm("CORP.EXAMPLE")
	for _, user := range []string{"svc-proxy", "svc-monitoring"} {
		c.put(user+".keytab", caddytest.KeysOf(t, realm, realm.AddUser(user, "secret of "+user, kdctest.SPN("HTTP/"+user+".corp.example"))))
	}
	c.put("svc-proxy.password", []byte("secret of svc-proxy\n"))
	for file, of := range map[string][2]string{"svc-etl.keytab": {"HADOOP.EXAMPLE", "svc-etl"}, "demo.keytab": {"DEMO.EXAMPLE", "svc-proxy"}} {
		other := kdctest.NewRealm(of[0])
		c.put(file, caddytest.KeysOf(t, other, other.AddUser(of[1], "secret")))
	}
	c.put("krb5.conf", []byte(read(t, "examples/hadoop/krb5.conf")))
	c.put("corp-ca.pem", caddytest.NewAuthority(t).PEM())
	return realm, c
}

func TestCaddyfiles_LoadAndAreFormatted(t *testing.T) {
	_, c := corporate(t)
	all := caddyfiles(t)
	for name, value := range environment { // what {env.X} names
		t.Setenv(name, value)
	}
	if len(all) < 15 {
		t.Errorf("%d Caddyfiles only", len(all))
	}
	for where, text := range all {
		if err := validate(c, text); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestCaddyfiles_FaultsAreFound(t *testing.T) {
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

// kubernetesCaddyfile is the one in the example's ConfigMap.
func kubernetesCaddyfile(t *testing.T) string {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(read(t, "examples/kubernetes/caddy.yaml"))); ; {
		var m struct {
			Kind string
			Data map[string]string
		}
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "ConfigMap" {
			return m.Data["Caddyfile"]
		}
	}
}

// read reads a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	return caddytest.ReadFile(t, root+"/"+path)
}
