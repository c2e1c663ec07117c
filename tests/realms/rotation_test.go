package realms

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// heard counts the events of a type.
func heard[E negotiate.Event](h *holder) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// rotating is an account in a realm of its own whose password changes.
func rotating(t *testing.T) (*lab.MIT, *krb5core.Client, messages.Principal) {
	t.Helper()
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "svc", Password: "first-secret"}}})
	client, _ := newClient(t, nil, m)
	return m, client, messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc"), Realm: "LAB.TEST"}
}

// relogin forgets the held ticket and logs in.
func (h *holder) relogin(t *testing.T) {
	t.Helper()
	h.Flush()
	if _, err := h.Login(t.Context(), h.settings); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in another's place, as ktutil's users and secret mounts do.
func replace(t *testing.T, path, with string) {
	t.Helper()
	content, err := os.ReadFile(with)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestKeytabReplacedAfterThePasswordChanged(t *testing.T) {
	m, client, svc := rotating(t)
	path := filepath.Join(t.TempDir(), "svc.keytab")
	replace(t, path, m.Keytab(t, "svc"))
	h := holderOf(t, client, svc, negotiate.KeytabSecret(path, svc))
	h.relogin(t)
	m.Kadmin(t, "cpw -pw second-secret svc")
	replace(t, path, m.Keytab(t, "svc"))
	h.relogin(t)
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n != 0 {
		t.Errorf("an old key was tried %d times", n)
	}
	if heard[negotiate.SecretChanged](h) != 1 || heard[negotiate.SecretStale](h) != 0 {
		t.Errorf("events %T", h.events)
	}
}

// The file is in place before the KDC knows of the password.
func TestOldKeyServesUntilTheNewOneIsGood(t *testing.T) {
	m, client, svc := rotating(t)
	path := filepath.Join(t.TempDir(), "svc.keytab")
	replace(t, path, m.Keytab(t, "svc"))
	h := holderOf(t, client, svc, negotiate.KeytabSecret(path, svc))
	h.relogin(t)
	content, err := saltedKeytab(t, "svc@LAB.TEST", "second-secret", "LAB.TESTsvc").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	replace(t, path, write(t, "second.keytab", content))
	h.relogin(t)
	if heard[negotiate.SecretStale](h) != 1 {
		t.Errorf("nobody was told that the new key is refused: %T", h.events)
	}
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n > 2 {
		t.Errorf("the new key was proved %d times", n)
	}
	m.Kadmin(t, "cpw -pw second-secret svc")
	h.relogin(t)
}

func TestPasswordFileSwappedByASymbolicLink(t *testing.T) {
	m, client, svc := rotating(t)
	folder := t.TempDir()
	for name, secret := range map[string]string{"one": "first-secret\n", "two": "second-secret\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
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
	h := holderOf(t, client, svc, negotiate.PasswordFileSecret(link))
	h.relogin(t)
	m.Kadmin(t, "cpw -pw second-secret svc")
	point("two") // of the same age
	h.relogin(t)
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n != 0 {
		t.Errorf("the old password was tried %d times", n)
	}
}

// A broken file does not take away what worked.
func TestBrokenKeytabLeavesTheOldKey(t *testing.T) {
	m, client, svc := rotating(t)
	path := filepath.Join(t.TempDir(), "svc.keytab")
	replace(t, path, m.Keytab(t, "svc"))
	h := holderOf(t, client, svc, negotiate.KeytabSecret(path, svc))
	h.relogin(t)
	replace(t, path, write(t, "broken", []byte("no keytab")))
	h.relogin(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h.relogin(t)
	if n := heard[negotiate.SecretBroken](h); n != 2 {
		t.Errorf("%d warnings, want one for each fault", n)
	}
}
