package krb5core_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// passwordWorld is a world in which alice changes her password.
type passwordWorld struct {
	*world
	server *kdctest.PasswordServer
	ticket *messages.Credential
}

func newPasswordWorld(t *testing.T, cfg kdctest.PasswordServerConfig, scheme string) *passwordWorld {
	t.Helper()
	realm, _ := newRealm()
	cfg.Realm = realm
	w := &passwordWorld{server: must.OK(kdctest.StartPasswordServer(cfg))(t)}
	t.Cleanup(w.server.Stop)
	finder := kdc.Static{realmName: {must.OK(kdc.ParseServer(scheme + w.server.Addr()))(t)}}
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute}))(t)
	w.world = newWorld(t, "right", func(c *krb5core.Config) { c.Passwords, c.Timeout = sender, 3*time.Second }, realm)
	w.ticket = must.OK(w.client.PasswordTicket(t.Context(), w.account, nil))(t)
	return w
}

func (w *passwordWorld) change() error {
	return w.client.ChangePassword(w.t.Context(), w.account, w.ticket, "the new one")
}

// logsIn reports whether the password is alice's.
func (w *passwordWorld) logsIn(password string) bool {
	account := w.as(krb5core.PasswordKeys(func() (string, error) { return password, nil }))
	_, err := w.client.Login(w.t.Context(), account, exchange.NewBudget(1))
	return err == nil
}

func TestChangePassword(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    kdctest.PasswordServerConfig
		scheme string
		faults []kdctest.Fault
	}{
		"TCP":                        {},
		"reply with the subkey":      {cfg: kdctest.PasswordServerConfig{SubkeyReplies: true}},
		"UDP only":                   {scheme: "udp/"},
		"a datagram lost on the way": {scheme: "udp/", faults: []kdctest.Fault{kdctest.Times(1, kdctest.Lose())}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPasswordWorld(t, c.cfg, c.scheme)
			w.server.Use(c.faults...)
			must.Do(t, w.change())
			if !w.logsIn("the new one") || w.logsIn("right") || w.server.Changes() != 1 {
				t.Errorf("%d changes; the new password logs in: %t", w.server.Changes(), w.logsIn("the new one"))
			}
		})
	}
}

// The ticket of another login says what the new key is.
func TestLastKey_OfTheLogin(t *testing.T) {
	w := newPasswordWorld(t, kdctest.PasswordServerConfig{}, "")
	must.Do(t, w.change())
	account := w.as(krb5core.PasswordKeys(func() (string, error) { return "the new one", nil }))
	if _, ok := account.LastKey(); ok {
		t.Error("a key before the login")
	}
	must.OK(w.client.Login(t.Context(), account, nil))(t)
	if info, ok := account.LastKey(); !ok || info.KVNO != 2 || info.Salt != realmName+"alice" {
		t.Errorf("%+v, %t", info, ok)
	}
}

func TestChangePassword_Refused(t *testing.T) {
	w := newPasswordWorld(t, kdctest.PasswordServerConfig{
		Policy: func(client, password string) (uint16, []byte) {
			if client != "alice" || password != "the new one" {
				return 2, []byte("another client or password")
			}
			return 4, []byte("too soon")
		},
	}, "")
	err := w.change()
	var refused *kpasswd.RefusedError
	if !errors.As(err, &refused) || refused.Code != kpasswd.KRB5_KPASSWD_SOFTERROR || refused.Text != "too soon" {
		t.Fatalf("%v", err)
	}
	if errors.Is(err, krb5core.ErrPasswordUnknown) || w.server.Requests() != 1 {
		t.Errorf("%d requests, %v", w.server.Requests(), err)
	}
	if e, ok := errors.AsType[*krb5core.Error](err); !ok || e.Op != krb5core.OpPassword || e.KDC != w.server.Addr() {
		t.Errorf("%+v", e)
	}
}

// A reply that does not come leaves it open whether the password was changed.
func TestChangePassword_LostReply(t *testing.T) {
	lost := func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			next(q)
			return kdctest.Answer{}
		}
	}
	for name, c := range map[string]struct {
		fault   kdctest.Fault
		changed bool
	}{
		"the request is read":     {lost, true},
		"the request is not read": {kdctest.Silent(), false},
		"the stream is cut":       {kdctest.Cut(20), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPasswordWorld(t, kdctest.PasswordServerConfig{}, "tcp/")
			w.server.Use(c.fault)
			if err := w.change(); !errors.Is(err, krb5core.ErrPasswordUnknown) {
				t.Fatalf("%v", err)
			}
			if w.logsIn("the new one") != c.changed {
				t.Errorf("the new password logs in: %t", !c.changed)
			}
		})
	}
}

// The server takes a datagram that is sent again for a replay: it has read it before.
func TestChangePassword_ReplayAfterALostReply(t *testing.T) {
	w := newPasswordWorld(t, kdctest.PasswordServerConfig{}, "udp/")
	w.server.Use(kdctest.Times(1, kdctest.LoseReply()))
	if err := w.change(); !errors.Is(err, krb5core.ErrPasswordUnknown) {
		t.Errorf("%v", err)
	}
	if !w.logsIn("the new one") {
		t.Error("the first request was not read")
	}
}

func TestChangePassword_NoServer(t *testing.T) {
	for scheme, unknown := range map[string]bool{"tcp/": false, "": true} { // what refuses a datagram may be forged
		w := newPasswordWorld(t, kdctest.PasswordServerConfig{}, scheme)
		w.server.Stop()
		err := w.change()
		var unreachable *kdc.UnreachableError
		if !errors.As(err, &unreachable) || errors.Is(err, krb5core.ErrPasswordUnknown) != unknown {
			t.Errorf("%q: %v", scheme, err)
		}
	}
}

// The server's clock is neither ours nor the KDC's: it says so, and is asked again with its time.
func TestChangePassword_WrongClock(t *testing.T) {
	ahead := func() time.Time { return time.Now().Add(20 * time.Minute) }
	w := newPasswordWorld(t, kdctest.PasswordServerConfig{Now: ahead}, "")
	must.Do(t, w.change())
	if w.server.Requests() != 2 || w.server.Changes() != 1 {
		t.Errorf("%d requests, %d changes", w.server.Requests(), w.server.Changes())
	}
}

// Windows replies with its policy in place of a text.
func TestChangePassword_WindowsPolicy(t *testing.T) {
	policy := make([]byte, 2, 30)
	for _, n := range []uint32{12, 24, 1} {
		policy = binary.BigEndian.AppendUint32(policy, n)
	}
	policy = binary.BigEndian.AppendUint64(policy, 42*864_000_000_000)
	policy = binary.BigEndian.AppendUint64(policy, 864_000_000_000)
	w := newPasswordWorld(t, kdctest.PasswordServerConfig{Policy: func(string, string) (uint16, []byte) { return 4, policy }}, "")
	var refused *kpasswd.RefusedError
	if err := w.change(); !errors.As(err, &refused) || refused.Policy == nil ||
		*refused.Policy != (kpasswd.Policy{MinLength: 12, History: 24, Complex: true, MinDays: 1, MaxDays: 42}) {
		t.Fatalf("%v", err)
	}
}
