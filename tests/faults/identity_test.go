package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// identityEnv is a realm for identities without Caddy.
type identityEnv struct{ *identitytest.Domain }

func newIdentityEnv(t *testing.T) *identityEnv {
	t.Helper()
	caddytest.LeakCheck(t)
	return &identityEnv{identitytest.New(t, identitytest.Config{Password: password})}
}

// settings are such as ask the KDC.
func (e *identityEnv) settings() *negotiate.Settings {
	e.T.Helper()
	return e.Settings(kdc.Config{}, 5*time.Second)
}

func (e *identityEnv) grant(id *negotiate.Identity, s *negotiate.Settings, service string) (negotiate.Grant, error) {
	e.T.Helper()
	return id.Initiator(s).Grant(e.T.Context(), identitytest.Target(e.T, service), negotiate.DelegateNever)
}

// keytab is the path of a keytab of the proxy's account.
func (e *identityEnv) keytab() string {
	e.T.Helper()
	return caddytest.WriteFile(e.T, filepath.Join(e.T.TempDir(), "svc-proxy.keytab"), caddytest.KeysOf(e.T, e.Realm, e.Proxy))
}

// wantNewGrant gets a ticket after every ticket so far has ended.
func (e *identityEnv) wantNewGrant(id *negotiate.Identity, s *negotiate.Settings) {
	e.T.Helper()
	e.Clock.Advance(11 * time.Hour)
	if _, err := e.grant(id, s, service); err != nil {
		e.T.Fatal(err)
	}
}

// acceptor is that of the web service, whose clock is right.
func (e *identityEnv) acceptor() *kdctest.Acceptor {
	e.T.Helper()
	keys := caddytest.KeysOf(e.T, e.Realm, e.Web)
	return must.OK(kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: e.Clock.True}))(e.T)
}

// present presents a token and judges the answer.
func (e *identityEnv) present(a *kdctest.Acceptor, token negotiate.Token) negotiate.Verdict {
	e.T.Helper()
	r := httptest.NewRequestWithContext(e.T.Context(), http.MethodGet, "http://"+service[len("HTTP/"):]+"/", nil)
	r.Header.Set("Authorization", token.Header)
	w := httptest.NewRecorder()
	a.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP(w, r)
	return token.Judge(w.Code, w.Header())
}

// authenticate authenticates to the acceptor as Caddy does, with one repeat.
func (e *identityEnv) authenticate(acceptor *kdctest.Acceptor, id *negotiate.Identity, s *negotiate.Settings) error {
	e.T.Helper()
	target := identitytest.Target(e.T, service)
	g, err := id.Initiator(s).Grant(e.T.Context(), target, negotiate.DelegateNever)
	if err != nil {
		return err
	}
	token, err := g.Mint(e.T.Context(), negotiate.Features{Mutual: true})
	if err != nil {
		return err
	}
	v := e.present(acceptor, token)
	if !v.Refused {
		return nil
	}
	g, ahead, ok := id.Initiator(s).Retry(e.T.Context(), target, negotiate.DelegateNever, g, v)
	if !ok {
		return fmt.Errorf("refused, and not worth a repeat: %v", v.Error)
	}
	if token, err = g.Mint(e.T.Context(), negotiate.Features{Mutual: true, ClockOffset: ahead}); err != nil {
		return err
	}
	if v = e.present(acceptor, token); v.Refused {
		return fmt.Errorf("the repeat is refused: %v", v.Error)
	}
	return nil
}
