package caddynegotiate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const (
	labRealm    = "CORP.EXAMPLE"
	labAccount  = "svc-proxy"
	labPassword = "a secret of the proxy"
	labService  = "HTTP/web.corp.example"
)

// commandLab is a realm with a web server, for the commands to look at.
type commandLab struct {
	t        *testing.T
	folder   string
	realm    *kdctest.Realm
	kdc      *kdctest.KDC
	proxy    *kdctest.Principal
	web      *kdctest.Principal
	acceptor *kdctest.Acceptor
	upstream *kdctest.Upstream
	keytab   string
}

// newCommandLab starts it. change may alter the upstream before it starts.
func newCommandLab(t *testing.T, change func(*kdctest.AcceptorConfig, *kdctest.UpstreamConfig), proxy ...kdctest.Option) *commandLab {
	t.Helper()
	l := &commandLab{t: t, folder: t.TempDir(), realm: kdctest.NewRealm(labRealm)}
	l.proxy = l.realm.AddUser(labAccount, labPassword, proxy...)
	l.web = l.realm.AddService(labService)
	l.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{l.realm}})
	if err := l.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kdc.Stop)
	l.keytab = l.writeKeytab("svc-proxy.keytab", l.proxy)

	acceptor := kdctest.AcceptorConfig{Keytab: l.keysOf(l.web)}
	var upstream kdctest.UpstreamConfig
	if change != nil {
		change(&acceptor, &upstream)
	}
	var err error
	if l.acceptor, err = kdctest.NewAcceptor(acceptor); err != nil {
		t.Fatal(err)
	}
	upstream.Acceptor = l.acceptor
	l.upstream = kdctest.NewUpstream(upstream)
	if err := l.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.upstream.Stop)
	return l
}

func (l *commandLab) keysOf(p ...*kdctest.Principal) []byte {
	l.t.Helper()
	keys, err := l.realm.Keytab(p...)
	if err != nil {
		l.t.Fatal(err)
	}
	return keys
}

func (l *commandLab) write(name string, content []byte) string {
	l.t.Helper()
	path := filepath.Join(l.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func (l *commandLab) writeKeytab(name string, p ...*kdctest.Principal) string {
	return l.write(name, l.keysOf(p...))
}

// usual are the lines that log in by keytab.
func (l *commandLab) usual(more ...string) []string {
	return append([]string{
		"user " + labAccount + "@" + labRealm, "keytab " + l.keytab, "kdc " + l.kdc.Addr(), "spn " + labService, "login_at_start off",
	}, more...)
}

// caddyfile writes a site with transport negotiate of the given lines.
func (l *commandLab) caddyfile(lines ...string) string {
	return l.site(fmt.Sprintf("reverse_proxy %s {\n\t\ttransport negotiate {\n\t\t\t%s\n\t\t}\n\t}", l.upstream.URL(), strings.Join(lines, "\n\t\t\t")))
}

func (l *commandLab) site(body string) string {
	return l.write("Caddyfile", caddyfile.Format([]byte("{\n\tadmin off\n\tauto_https off\n\tstorage file_system "+filepath.Join(l.folder, "storage")+"\n}\nhttp://:0 {\n\t"+body+"\n}\n")))
}

// caddyKerberos runs `caddy kerberos` in this process.
func caddyKerberos(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	cmd := &cobra.Command{Use: "kerberos"}
	addKerberosCommands(cmd)
	var out, notes bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&notes)
	cmd.SetIn(strings.NewReader(""))
	err = cmd.ExecuteContext(t.Context())
	if t.Failed() {
		t.Logf("%s\n%s", &out, &notes)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("colours where there is no terminal: %q", &out)
	}
	assertNoSecret(t, out.String()+notes.String())
	return out.String(), err
}

// assertNoSecret fails if the password is in a text, or what could be a ticket or a token.
func assertNoSecret(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, labPassword) {
		t.Errorf("the password stands in\n%s", text)
	}
	for word := range strings.FieldsSeq(text) {
		word = strings.Trim(word, `",`)
		if len(word) > 200 && !strings.ContainsAny(word, "/-._ ") {
			t.Errorf("%.60s... looks like a ticket or a token", word)
		}
	}
}

// checked is the report of `check`, as programs read it.
type checked struct {
	OK    bool   `json:"ok"`
	Steps []step `json:"steps"`
}

// check runs the command twice: for people, and for programs.
func (l *commandLab) check(file string, args ...string) (string, checked) {
	l.t.Helper()
	args = append([]string{"check", "--config", file, "--patience", "400ms"}, args...)
	text, err := caddyKerberos(l.t, args...)
	var c checked
	raw, errJSON := caddyKerberos(l.t, append(args, "--json")...)
	if decodeErr := json.Unmarshal([]byte(raw), &c); decodeErr != nil {
		l.t.Fatalf("%v in %s", decodeErr, raw)
	}
	for _, e := range []error{err, errJSON} {
		if (e == nil) != c.OK || e != nil && !errors.Is(e, errSaid) {
			l.t.Fatalf("error %v, sound: %v\n%s", e, c.OK, text)
		}
	}
	l.t.Logf("\n%s", text)
	return text, c
}

// wantSound fails unless nothing is amiss, warnings included.
func (l *commandLab) wantSound(text string, c checked) {
	l.t.Helper()
	if !c.OK || strings.Contains(text, "FAIL") || strings.Contains(text, "warn") || !strings.HasSuffix(text, "\nsound\n") {
		l.t.Errorf("not sound:\n%s", text)
	}
}

// wantCauses fails unless exactly one step is at fault, at that step and for those
// causes, and says what to do.
func (l *commandLab) wantCauses(c checked, status, name string, causes ...string) step {
	l.t.Helper()
	var found []step
	for _, s := range c.Steps {
		if s.Status != statusOK {
			found = append(found, s)
		}
	}
	if len(found) != 1 || found[0].Status != status || found[0].Step != name || !slices.Equal(found[0].Causes, causes) {
		l.t.Fatalf("got %+v\nwant one %s at %s with %q", found, status, name, causes)
	}
	return found[0]
}
