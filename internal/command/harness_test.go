package command_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

const (
	labRealm    = caddytest.RealmName
	labAccount  = caddytest.Account
	labPassword = caddytest.Password
	labService  = caddytest.Service
)

// commandLab is a realm with a web server; Caddy does not run.
type commandLab struct{ caddytest.Env }

func newCommandLab(t *testing.T, with caddytest.Options) *commandLab {
	t.Helper()
	return &commandLab{caddytest.NewEnv(t, with)}
}

// addKeytab makes a keytab of the account's password by `keytab add`, and uses it.
func (l *commandLab) addKeytab(args ...string) {
	l.T.Helper()
	l.Keytab = filepath.Join(l.Dir, "added.keytab")
	args = append([]string{"keytab", "add", l.Keytab, "--principal", labAccount + "@" + labRealm, "--password-file", l.Write("password", []byte(labPassword+"\n"))}, args...)
	if _, err := caddyKerberos(l.T, args...); err != nil {
		l.T.Fatal(err)
	}
}

// usual returns the lines of a block that logs in with the keytab.
func (l *commandLab) usual(more ...string) []string {
	return l.Login(append([]string{"spn " + labService, "login_at_start off"}, more...)...)
}

// caddyfile writes a site with transport negotiate of the given lines.
func (l *commandLab) caddyfile(lines ...string) string { return l.proxy(l.Upstream.URL(), lines...) }

func (l *commandLab) proxy(upstream string, lines ...string) string {
	return l.site(caddytest.Block("reverse_proxy "+upstream, caddytest.Block("transport negotiate", lines...)))
}

// site writes a site of the given lines.
func (l *commandLab) site(lines ...string) string {
	text := caddytest.Block("", "admin off", "auto_https off", "storage file_system "+filepath.Join(l.Dir, "storage")) + "\n" + caddytest.Block("http://:0", lines...) + "\n"
	return l.Write("Caddyfile", caddyfile.Format([]byte(text)))
}

// kerberosCommand returns `caddy kerberos` with what it prints.
func kerberosCommand(stdin string, args ...string) (cmd *cobra.Command, stdout, stderr *bytes.Buffer) {
	cmd, stdout, stderr = &cobra.Command{Use: "kerberos"}, new(bytes.Buffer), new(bytes.Buffer)
	caddycmd.Commands()["kerberos"].CobraFunc(cmd)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetIn(strings.NewReader(stdin))
	return cmd, stdout, stderr
}

// caddyKerberos runs `caddy kerberos` in this process.
func caddyKerberos(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd, stdout, stderr := kerberosCommand("", args...)
	err := cmd.ExecuteContext(t.Context())
	if t.Failed() {
		t.Logf("%s\n%s", stdout, stderr)
	}
	assertNoSecret(t, stdout.String()+stderr.String())
	return stdout.String(), err
}

// assertNoSecret fails if a text contains the password, or what could be a ticket or a token.
func assertNoSecret(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, labPassword) {
		t.Errorf("the password is in\n%s", text)
	}
	for word := range strings.FieldsSeq(text) {
		word = strings.Trim(word, `",`)
		if len(word) > 200 && !strings.ContainsAny(word, "/-._ ") {
			t.Errorf("%.60s... looks like a ticket or a token", word)
		}
	}
}

// step is one step of the report, as programs read it.
type step struct {
	Step, Status, Text, Remedy string
	Causes                     []diagnosis.Cause
}

// mentions fails unless the step's text or remedy has all words.
func (s step) mentions(t *testing.T, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(s.Text+"\n"+s.Remedy, word) {
			t.Errorf("no %q in %+v", word, s)
		}
	}
}

// checked is the report of `check`, as programs read it.
type checked struct {
	OK    bool
	Steps []step
}

// check runs the command twice: for people, and for programs.
func (l *commandLab) check(file string, args ...string) (string, checked) {
	l.T.Helper()
	args = append([]string{"check", "--config", file, "--patience", "400ms"}, args...)
	text, err := caddyKerberos(l.T, args...)
	raw, errJSON := caddyKerberos(l.T, append(args, "--json")...)
	var c checked
	if decodeErr := json.Unmarshal([]byte(raw), &c); decodeErr != nil {
		l.T.Fatalf("%v in %s", decodeErr, raw)
	}
	validate(l.T, raw)
	if (err == nil) != c.OK || (errJSON == nil) != c.OK {
		l.T.Fatalf("errors %v and %v, ok: %v\n%s", err, errJSON, c.OK, text)
	}
	l.T.Logf("\n%s", text)
	return text, c
}

// wantOK fails if there is an error or a warning.
func (l *commandLab) wantOK(text string, c checked) {
	l.T.Helper()
	if !c.OK || !strings.HasSuffix(text, "\nOK\n") {
		l.T.Errorf("not OK:\n%s", text)
	}
}

// wantCauses fails unless exactly one step is not ok, with this status, name and causes.
func (l *commandLab) wantCauses(c checked, status, name string, causes ...diagnosis.Cause) step {
	l.T.Helper()
	var found []step
	for _, s := range c.Steps {
		if s.Status != "ok" {
			found = append(found, s)
		}
	}
	if len(found) != 1 || found[0].Status != status || found[0].Step != name || !slices.Equal(found[0].Causes, causes) {
		l.T.Fatalf("got %+v\nwant one %s at %s with %q", found, status, name, causes)
	}
	return found[0]
}
