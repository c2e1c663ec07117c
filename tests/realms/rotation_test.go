package realms

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// count counts the events of a type.
func count[E negotiate.Event](h *identity) int { return len(identitytest.Seen[E](h.events)) }

// rotating is an account in a realm of its own whose password changes.
func rotating(t *testing.T) (*lab.MIT, *krb5core.Client, messages.Principal) {
	t.Helper()
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "svc", Password: "first-secret"}}})
	client, _ := newClient(t, nil, m)
	return m, client, messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc"), Realm: "LAB.TEST"}
}

// relogin forgets the held ticket and logs in.
func (h *identity) relogin(t *testing.T) {
	t.Helper()
	h.Flush()
	if _, err := h.Initiator(h.settings).Login(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// replace replaces a file with the content of another one.
func replace(t *testing.T, path, with string) {
	t.Helper()
	caddytest.ReplaceFile(t, path, []byte(caddytest.ReadFile(t, with)))
}

// The file is in place before the KDC knows of the password.
func TestRotation_KDCLags(t *testing.T) {
	m, client, svc := rotating(t)
	path := filepath.Join(t.TempDir(), "svc.keytab")
	replace(t, path, m.Keytab(t, "svc"))
	h := newIdentity(t, client, svc, negotiate.KeytabSecret(path, svc))
	h.relogin(t)
	content, err := saltedKeytab(t, "svc@LAB.TEST", "second-secret", "LAB.TESTsvc").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	replace(t, path, write(t, "second.keytab", content))
	h.relogin(t)
	if count[negotiate.SecretStale](h) != 1 {
		t.Errorf("no event reports that the new key is refused: %T", h.events.All())
	}
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n > 2 {
		t.Errorf("the new key was proved %d times", n)
	}
	m.Kadmin(t, "cpw -pw second-secret svc")
	h.relogin(t)
}

func TestRotation_PasswordFileSymlink(t *testing.T) {
	m, client, svc := rotating(t)
	folder := t.TempDir()
	for name, secret := range map[string]string{"one": "first-secret\n", "two": "second-secret\n"} {
		caddytest.WriteFile(t, filepath.Join(folder, name), []byte(secret))
		same := time.Unix(1_700_000_000, 0)
		if err := os.Chtimes(filepath.Join(folder, name), same, same); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(folder, "password")
	point := func(name string) {
		t.Helper()
		if err := os.Symlink(name, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	point("one")
	h := newIdentity(t, client, svc, negotiate.PasswordFileSecret(link))
	h.relogin(t)
	m.Kadmin(t, "cpw -pw second-secret svc")
	point("two") // of the same age
	h.relogin(t)
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n != 0 {
		t.Errorf("the old password was tried %d times", n)
	}
}
