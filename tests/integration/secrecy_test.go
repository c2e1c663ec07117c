package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// hoard collects what must never be logged.
type hoard struct {
	mu      sync.Mutex
	secrets map[string][]byte
}

func (h *hoard) add(name string, secret []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets[fmt.Sprintf("%s %d", name, len(h.secrets))] = bytes.Clone(secret)
}

// wantNone fails for each secret that shows in the text in any usual form.
func (h *hoard) wantNone(t *testing.T, text string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, secret := range h.secrets {
		forms := map[string]string{
			"as it is": string(secret), "in hex": hex.EncodeToString(secret), "in HEX": strings.ToUpper(hex.EncodeToString(secret)),
			"in Go's numbers": strings.Trim(fmt.Sprint(secret), "[]"), "in JSON's numbers": strings.ReplaceAll(strings.Trim(fmt.Sprint(secret), "[]"), " ", ","),
			"quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`),
		}
		for skip := range 3 { // base64 of something it is a part of
			if len(secret) > skip+6 {
				part := secret[skip:]
				forms[fmt.Sprint("in base64 from ", skip)] = base64.RawStdEncoding.EncodeToString(part[:len(part)/3*3])
			}
		}
		for form, s := range forms {
			if strings.Contains(text, s) {
				t.Errorf("%s is logged %s", name, form)
			}
		}
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", password)
	for _, by := range []string{"keytab", "password {env.PROXY_PASSWORD}", "password_file"} {
		t.Run(by, func(t *testing.T) {
			s := newSite(t, setup{})
			h := &hoard{secrets: map[string][]byte{"password": []byte(password)}}
			line := by
			switch by {
			case "keytab":
				line = "keytab " + s.keytab
			case "password_file":
				line = "password_file " + s.write("password", []byte(password))
			}
			keys := func() {
				t.Helper()
				for _, p := range []*kdctest.Principal{s.proxy, s.web, s.realm.Principal("krbtgt/" + realmName)} {
					file, err := keytab.Parse(s.keysOf(p))
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range file.Entries {
						h.add("key of "+p.Name(), e.Key.Bytes())
					}
				}
			}
			keys()
			// Whatever goes over the wire holds tickets, and what a password can be guessed from.
			s.kdc.Use(func(next kdctest.Handler) kdctest.Handler {
				return func(q *kdctest.Question) kdctest.Answer {
					a := next(q)
					for _, m := range append(a.Messages, q.Message) {
						if len(m) > 400 { // not the names at its beginning, nor an error's
							h.add("message of a KDC", m[len(m)-96:len(m)-32])
						}
					}
					return a
				}
			})
			protected := s.acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler))
			s.behind(func(w http.ResponseWriter, r *http.Request) {
				b := token(t, r)
				h.add("ticket", b[200:264])
				h.add("authenticator", b[len(b)-100:len(b)-36])
				h.add("header", []byte(r.Header.Get("Authorization"))[100:200])
				protected.ServeHTTP(w, r)
			})
			s.load(lines("kdc "+s.kdc.Addr(), "user "+principal, "spn "+service, line, "trace"))
			s.get("/").wantOK(t)
			s.changeServiceKey()
			keys()
			s.get("/").wantOK(t)
			s.raw("GET / HTTP/1.1\nHost: app.example\nAuthorization: Basic c2VjcmV0OnNlY3JldA==\n\n").wantOK(t)
			s.load(lines("kdc "+s.kdc.Addr(), "user "+principal, "spn HTTP/nobody.corp.example", line, "trace", "use_tcp"))
			s.get("/").wantError(t, http.StatusBadGateway, "unknown_service", "7")

			text := s.log.String()
			for _, want := range []string{"kdc message", "logged in", "token refused", "upstream roundtrip", "aes256-cts-hmac-sha1-96"} {
				if !strings.Contains(text, want) {
					t.Errorf("nothing is logged of %q: nothing is shown by this test", want)
				}
			}
			if len(h.secrets) < 20 {
				t.Errorf("only %d secrets are looked for", len(h.secrets))
			}
			h.wantNone(t, text)
		})
	}
}

func TestSecretOfAFailedLoginIsNotLogged(t *testing.T) {
	const wrong = "not the right password"
	t.Setenv("WRONG_PASSWORD", wrong)
	s := newSite(t, setup{})
	s.load(lines("kdc "+s.kdc.Addr(), "user "+principal, "password {env.WRONG_PASSWORD}", "spn "+service, "trace"))
	s.get("/").wantError(t, http.StatusBadGateway, "credentials_refused", "24")
	s.log.await(t, "cannot log in")
	h := &hoard{secrets: map[string][]byte{"password": []byte(wrong)}}
	for _, id := range enctype.Strong() {
		key, err := enctype.StringToKey(id, wrong, realmName+account, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.add("key", key.Bytes())
	}
	h.wantNone(t, s.log.String())
}
