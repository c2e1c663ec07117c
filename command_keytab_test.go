package caddynegotiate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func TestKeytabAddWritesKeysThatTheKDCTakes(t *testing.T) {
	l := newCommandLab(t, nil)
	path := filepath.Join(l.folder, "new.keytab")
	out, err := caddyKerberos(t, "keytab", "add", path, "--principal", "svc-proxy@CORP.EXAMPLE", "--kvno", "1",
		"--password-file", l.write("password", []byte(labPassword+"\n")))
	if err != nil || !strings.Contains(out, `salt "CORP.EXAMPLEsvc-proxy"`) {
		t.Fatalf("%v %s", err, out)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	l.keytab = path
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantSound(text, c)
}

func TestKeytabAddKeepsWhatIsThereAndReplacesTheSame(t *testing.T) {
	folder := t.TempDir()
	path, password := filepath.Join(folder, "k"), filepath.Join(folder, "p")
	add := func(word string, args ...string) {
		t.Helper()
		if err := os.WriteFile(password, []byte(word), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := caddyKerberos(t, append([]string{"keytab", "add", path, "--principal", "a@B", "--password-file", password}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	add("one", "--kvno", "1", "--etype", "aes256-cts")
	add("two", "--kvno", "2", "--etype", "aes256-cts", "--etype", "rc4-hmac")
	add("three", "--kvno", "2", "--etype", "aes256-cts")
	file, err := negotiate.ReadKeytab(path)
	if err != nil || len(file.Entries) != 3 {
		t.Fatalf("%v %v", file, err)
	}
	want, err := enctype.StringToKey(enctype.AES256_CTS_HMAC_SHA1_96, "three", "Ba", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last := file.Entries[2]; last.KVNO != 2 || !last.Key.Equal(want) {
		t.Errorf("got %v", last)
	}
	out, err := caddyKerberos(t, "keytab", "list", path)
	if err != nil || !strings.Contains(out, "rc4-hmac") || !strings.Contains(out, "weak") || strings.Count(out, "\n") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, ".keytab-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeytabAddRefusesWhatCannotBeMeant(t *testing.T) {
	folder := t.TempDir()
	password := filepath.Join(folder, "p")
	broken := filepath.Join(folder, "broken")
	for path, content := range map[string]string{password: "x", broken: "no keytab"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(folder, "good")
	for name, args := range map[string][]string{
		"no realm":         {good, "--principal", "a", "--kvno", "1", "--password-file", password},
		"version 0":        {good, "--principal", "a@B", "--kvno", "0", "--password-file", password},
		"no version":       {good, "--principal", "a@B", "--password-file", password},
		"unknown type":     {good, "--principal", "a@B", "--kvno", "1", "--etype", "aes512", "--password-file", password},
		"no password file": {good, "--principal", "a@B", "--kvno", "1", "--password-file", good},
		"no password":      {good, "--principal", "a@B", "--kvno", "1"},
		"no keytab":        {broken, "--principal", "a@B", "--kvno", "1", "--password-file", password},
	} {
		if _, err := caddyKerberos(t, append([]string{"keytab", "add"}, args...)...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := os.Stat(good); err == nil {
		t.Error("a keytab was written all the same")
	}
	if content, _ := os.ReadFile(broken); string(content) != "no keytab" {
		t.Error("what is no keytab was overwritten")
	}
}

func TestKeytabAddTakesThePasswordFromAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	cmd := &cobra.Command{Use: "kerberos"}
	addKerberosCommands(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetIn(strings.NewReader("from a pipe\r\n"))
	cmd.SetArgs([]string{"keytab", "add", path, "--principal", "a@B", "--kvno", "1"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	file, err := negotiate.ReadKeytab(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := enctype.StringToKey(enctype.AES256_CTS_HMAC_SHA1_96, "from a pipe", "Ba", nil)
	if !file.Entries[0].Key.Equal(want) || strings.Contains(out.String(), "pipe") {
		t.Errorf("got %v, printed %q", file.Entries[0], &out)
	}
}

func TestTokenIsOneThatTheServiceTakes(t *testing.T) {
	l := newCommandLab(t, nil)
	cmd := &cobra.Command{Use: "kerberos"}
	addKerberosCommands(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"token", "--config", l.caddyfile(l.usual()...), "--spn", labService})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(out.String(), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	peer, _, err := l.acceptor.Accept(token, nil)
	if err != nil || peer.Principal != "svc-proxy@CORP.EXAMPLE" {
		t.Errorf("%+v %v", peer, err)
	}
	_, err = caddyKerberos(t, "token", "--config", l.caddyfile(l.usual()...), "--spn", "HTTP/nowhere.corp.example")
	if err == nil || !strings.Contains(err.Error(), "setspn") {
		t.Errorf("unknown service: %v", err)
	}
	if _, err := caddyKerberos(t, "token", "--config", l.caddyfile(l.usual()...)); err == nil || errors.Is(err, errSaid) {
		t.Errorf("no service: %v", err)
	}
}

func TestEnvironmentFilesAreRead(t *testing.T) {
	l := newCommandLab(t, nil)
	t.Setenv("LAB_SET", "stays")
	for _, name := range []string{"LAB_FILE_PASSWORD", "LAB_QUOTED"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	env := l.write("env", []byte("# a comment\n\nexport LAB_FILE_PASSWORD=\""+labPassword+"\"\nLAB_SET=changed\nLAB_QUOTED='a # b'\n"))
	text, c := l.check(l.caddyfile("user svc-proxy@CORP.EXAMPLE", "password {env.LAB_FILE_PASSWORD}", "kdc "+l.kdc.Addr(), "spn "+labService), "--envfile", env)
	l.wantSound(text, c)
	if os.Getenv("LAB_SET") != "stays" || os.Getenv("LAB_QUOTED") != "a # b" {
		t.Errorf("%q %q", os.Getenv("LAB_SET"), os.Getenv("LAB_QUOTED"))
	}
	if _, err := caddyKerberos(t, "check", "--config", "x", "--envfile", l.write("bad", []byte("nonsense\n"))); err == nil || !strings.Contains(err.Error(), "bad:1") {
		t.Errorf("got %v", err)
	}
}

func TestColoursAreForTerminalsAndNotWhereNobodyWantsThem(t *testing.T) {
	var out bytes.Buffer
	r := &report{console: &console{out: &out, colours: true}}
	r.about("x")
	r.fail(stepLogin, "text", "remedy")
	if !strings.Contains(out.String(), "\x1b[31;1mFAIL\x1b[0m") {
		t.Errorf("got %q", &out)
	}
	cmd := new(cobra.Command)
	cmd.SetOut(&out)
	if c := consoleOf(cmd); c.colours || c.notes != nil {
		t.Error("a buffer is no terminal")
	}
}
