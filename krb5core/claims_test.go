package krb5core_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// configured are the realms that a configuration names.
type configured []string

func (c configured) RealmOf(string) string          { return "" }
func (c configured) CAPath(string, string) []string { return nil }
func (c configured) Configured(realm string) bool   { return slices.Contains(c, realm) }

// wire counts what a client sends, and keeps the ports that datagrams come from.
type wire struct {
	mu       sync.Mutex
	udp, tcp int
	ports    []string
}

func (w *wire) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case m.Direction != kdc.Sent:
	case m.Protocol == kdc.TCP:
		w.tcp++
	default:
		w.udp++
		w.ports = append(w.ports, m.Local)
	}
}

func (w *wire) ObserveDecision(context.Context, kdc.Decision) {}

// watched returns the client's configuration with the KDC as this scheme names it, and what is sent.
func (w *world) watched(scheme string, timeout time.Duration) (*krb5core.Client, *wire) {
	w.t.Helper()
	seen := new(wire)
	finder := kdc.Static{realmName: {must.OK(kdc.ParseServer(scheme + w.kdcs[0].Addr()))(w.t)}}
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder, Observer: seen, HedgeDelay: time.Minute}))(w.t)
	return must.OK(krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: timeout}))(w.t), seen
}

// The confirmation of a salt is the first exchange over TCP; the default salt needs none, nor does FAST.
func TestLogin_SaltConfirmed(t *testing.T) {
	for name, c := range map[string]struct {
		salt     []kdctest.Option
		scheme   string
		udp, tcp int
	}{
		"default salt":           {nil, "", 2, 0},
		"default salt, UDP only": {nil, "udp/", 2, 0},
		"another salt":           {[]kdctest.Option{kdctest.Salt("ANOTHER")}, "", 1, 2},
		"another salt, TCP only": {[]kdctest.Option{kdctest.Salt("ANOTHER")}, "tcp/", 0, 2},
		"another salt, UDP only": {[]kdctest.Option{kdctest.Salt("ANOTHER")}, "udp/", 3, 0},
		"more iterations":        {[]kdctest.Option{kdctest.Iterations(40_000)}, "", 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			realm := kdctest.NewRealm(realmName)
			realm.AddUser("alice", "right", c.salt...)
			w := newWorld(t, "right", nil, realm)
			client, seen := w.watched(c.scheme, 0)
			must.OK(client.Login(t.Context(), w.account, nil))(t)
			if seen.udp != c.udp || seen.tcp != c.tcp {
				t.Errorf("%d requests over UDP and %d over TCP, want %d and %d", seen.udp, seen.tcp, c.udp, c.tcp)
			}
			if ports := slices.Compact(slices.Sorted(slices.Values(seen.ports))); len(ports) != seen.udp {
				t.Errorf("datagrams come from %v, want another port for each", ports)
			}
			// It is the salt of the last login now.
			first := seen.udp + seen.tcp
			must.OK(client.Login(t.Context(), w.account, nil))(t)
			if n := seen.udp + seen.tcp - first; n != 1 {
				t.Errorf("the second login takes %d requests", n)
			}
			if n, _ := w.preAuths(); n != 2 {
				t.Errorf("%d proofs", n)
			}
		})
	}
	w := newProxyWorld(t, machineArmor)
	w.realm.Principal("proxy").Set(kdctest.Salt("ANOTHER"))
	w.realm.Principal("proxy").ChangePassword("proxy-secret", false)
	before := w.kdcs[0].Counts()
	w.login()
	if after := w.kdcs[0].Counts(); after.TCP != before.TCP {
		t.Errorf("%d requests over TCP with armor", after.TCP-before.TCP)
	}
}

// A failed login does not make the KDC's salt unknown, and the next login proves nothing before a KDC has answered.
func TestLogin_AsksFirstAfterFailure(t *testing.T) {
	realm := kdctest.NewRealm(realmName)
	realm.AddUser("alice", "right", kdctest.Salt("ANOTHER"))
	w := newWorld(t, "right", func(c *krb5core.Config) { c.Timeout = 200 * time.Millisecond }, realm)
	w.kdcs[0].Use(kdctest.UDP(kdctest.PreAuthenticated(kdctest.Silent())))
	client, seen := w.watched("udp/", 300*time.Millisecond)
	if _, err := client.Login(t.Context(), w.account, nil); err == nil {
		t.Fatal("logged in")
	}
	w.kdcs[0].ClearFaults()
	w.login()
	w.kdcs[0].Use(kdctest.Silent())
	budget := exchange.NewBudget(exchange.MaxProofs)
	for n := range 3 {
		if _, err := w.client.Login(t.Context(), w.account, budget); err == nil {
			t.Fatal("logged in")
		}
		if budget.Sent() != 1 {
			t.Fatalf("%d proofs after %d logins that no KDC answers, want 1", budget.Sent(), n+1)
		}
	}
	w.kdcs[0].ClearFaults()
	seen.udp, seen.tcp = 0, 0
	must.OK(client.Login(t.Context(), w.account, nil))(t)
	if seen.udp != 2 {
		t.Errorf("%d requests with the salt of the last login, want 2", seen.udp)
	}
}

// saltOf is a forged demand for pre-authentication with this salt, and iterations unless 0.
func saltOf(salt string, iterations uint32) []byte {
	entry := messages.ETypeInfo2Entry{EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: salt, HasSalt: true}
	if iterations > 0 {
		entry.S2KParams = binary.BigEndian.AppendUint32(nil, iterations)
	}
	methods := messages.MethodData{{Type: messages.PA_ENC_TIMESTAMP}, {Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry}.Marshal()}}
	return (&messages.KRBError{
		STime: time.Now().UTC().Truncate(time.Second), ErrorCode: messages.KDC_ERR_PREAUTH_REQUIRED,
		Realm: realmName, SName: messages.TGSName(realmName), EData: methods.Marshal(),
	}).Marshal()
}

// flood sends so many forged datagrams before each true one.
func flood(n int, forge func(i int) []byte) kdctest.Fault {
	forged := make([][]byte, n)
	for i := range forged {
		forged[i] = forge(i)
	}
	return kdctest.UDP(func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			a.Messages = slices.Concat(forged, a.Messages)
			return a
		}
	})
}

// countedKeys counts the keys that are made, and their iterations.
type countedKeys struct {
	exchange.KeySource
	made       map[string]bool
	iterations int
}

func (c *countedKeys) Key(i exchange.KeyInfo) (enctype.Key, error) {
	id := fmt.Sprint(i.EType, i.Salt, i.Params)
	if n, err := enctype.Iterations(i.EType, i.Params); err == nil && !c.made[id] {
		c.made[id] = true
		c.iterations += n
	}
	return c.KeySource.Key(i)
}

func TestForged_TenThousandDatagrams(t *testing.T) {
	const defaultSalt = realmName + "alice"
	for name, c := range map[string]struct {
		forge      func(i int) []byte
		iterations int // of all keys together
	}{
		"another salt each":                  {func(i int) []byte { return saltOf(fmt.Sprint("forged ", i), 0) }, 4096},
		"another salt, a million iterations": {func(i int) []byte { return saltOf(fmt.Sprint("forged ", i), 1_000_000) }, 4096},
		"the same salt":                      {func(int) []byte { return saltOf("forged", 1_000_000) }, 4096},
		"the default salt":                   {func(i int) []byte { return saltOf(defaultSalt, 4096) }, 2 * 4096},
	} {
		// Over UDP alone the KDC's replies are to find room in the socket's buffer beside the forged ones.
		for scheme, datagrams := range map[string]int{"": 10_000, "udp/": 100} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				w := newWorld(t, "", nil)
				keys := &countedKeys{password("right"), make(map[string]bool), 0}
				w.account = w.as(keys)
				w.kdcs[0].Use(flood(datagrams, c.forge))
				client, seen := w.watched(scheme, 0)
				began := cpuTime()
				_, err := client.Login(t.Context(), w.account, nil)
				took := cpuTime() - began
				if scheme == "" && err != nil {
					t.Error(err)
				}
				if n, _ := w.preAuths(); n > exchange.MaxProofs {
					t.Errorf("%d proofs reach the KDC", n)
				}
				if scheme == "" && keys.iterations > c.iterations || keys.iterations > 1<<17+c.iterations {
					t.Errorf("%d keys are made, with %d iterations", len(keys.made), keys.iterations)
				}
				n, _ := w.preAuths()
				t.Logf("%s of processor time (with the KDC's and the attacker's), %d keys, %d iterations, %d proofs, %d+%d requests: %v",
					took, len(keys.made), keys.iterations, n, seen.udp, seen.tcp, err)
				if os.Getenv("CADDY_NEGOTIATE_LONG") != "" && scheme == "" && took > time.Second {
					t.Errorf("%s of processor time", took)
				}
			})
		}
	}
}

// A forged referral gets no request to the attacker's KDC, and an unconfigured realm no proof of a password.
func TestForged_WrongRealm(t *testing.T) {
	const attackers = "ATTACKER.EXAMPLE"
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@corp.example"), Realm: realmName}
	corp, _ := newRealm()
	corp.MapSuffix("corp.example", realmName)
	refer := func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			next(q)
			return kdctest.Answer{Messages: [][]byte{(&messages.KRBError{
				STime: time.Now().UTC().Truncate(time.Second), ErrorCode: messages.KDC_ERR_WRONG_REALM, CRealm: attackers,
				Realm: realmName, SName: messages.TGSName(realmName),
			}).Marshal()}}
		}
	}
	asConfigured := func(c *krb5core.Config) { c.Realms = configured{attackers} }
	w := newWorld(t, "right", asConfigured, corp, kdctest.NewRealm(attackers)).apart(realmName, attackers)
	w.kdcs[0].Use(kdctest.UDP(kdctest.AS(refer)))
	account := krb5core.NewAccount(upn, password("right"), w.clock)
	must.OK(w.client.Login(t.Context(), account, nil))(t)
	if n := w.kdcs[1].Counts().ASReq; n != 0 {
		t.Errorf("%d requests to the KDC that a datagram named", n)
	}

	w = newWorld(t, "right", func(c *krb5core.Config) { c.Realms = configured{realmName} }, corp, kdctest.NewRealm(attackers)).apart(realmName, attackers)
	w.kdcs[0].Use(kdctest.AS(refer)) // over TCP too
	_, err := w.client.Login(t.Context(), account, nil)
	e := refusalOf(t, err, messages.KDC_ERR_WRONG_REALM)
	var unconfigured *exchange.UnconfiguredRealmError
	if !errors.As(err, &unconfigured) || unconfigured.Realm != attackers || !e.Confirmed || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("got %v", err)
	}
	if n := w.kdcs[1].Counts().ASReq; n != 0 {
		t.Errorf("%d requests to a realm that is not configured", n)
	}
}
