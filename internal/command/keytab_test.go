package command_test

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func TestKeytabAdd_ReplacesKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	for _, password := range []string{"one", "from a pipe\r"} {
		cmd, stdout, stderr := kerberosCommand(password+"\n", "keytab", "add", path, "--principal", "a@B", "--kvno", "1", "--etype", "aes256-cts")
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stdout.String()+stderr.String(), password) {
			t.Errorf("printed %q %q", stdout, stderr)
		}
	}
	file, err := negotiate.ReadKeytab(path)
	if err != nil || len(file.Entries) != 1 {
		t.Fatalf("%v %v", file, err)
	}
	want, err := enctype.StringToKey(enctype.AES256_CTS_HMAC_SHA1_96, "from a pipe", "Ba", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Entries[0]; got.KVNO != 1 || !got.Key.Equal(want) {
		t.Errorf("got %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".keytab-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestToken(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	cmd, stdout, _ := kerberosCommand("", "token", "--config", l.caddyfile(l.usual()...), "--spn", labService)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(stdout.String(), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	peer, _, err := l.Acceptor.Accept(token, nil)
	if err != nil || peer.Principal != "svc-proxy@CORP.EXAMPLE" {
		t.Errorf("%+v %v", peer, err)
	}
	_, err = caddyKerberos(t, "token", "--config", l.caddyfile(l.usual()...), "--spn", "HTTP/nowhere.corp.example")
	if err == nil || !strings.Contains(err.Error(), "setspn") {
		t.Errorf("unknown service: %v", err)
	}
}
