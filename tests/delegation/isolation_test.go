package delegation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// The upstream takes a connection for authenticated as who came first on it. With
// one pool of connections for all users this test fails on nearly every request.
func TestIsolation_Connections(t *testing.T) {
	e := newEnv(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	e.run()
	// The last two are one person by other names.
	names := map[string]string{"alice": "alice", "bob": "bob", "carol": "carol", "Carol": "carol", "bob@corp.example": "bob"}
	e.Realm.Principal("bob").Set(kdctest.Alias("bob@corp.example"))
	order := []string{"alice", "bob", "carol", "Carol", "bob@corp.example"}
	client := e.Client()
	var mu sync.Mutex
	rides := make(map[int64]map[string]bool)
	caddytest.All(t, 2000, 32, func(i int) error {
		name := order[i%len(order)]
		a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/json", asUser(name)))
		if err != nil {
			return err
		}
		var who kdctest.Peer
		if err := json.Unmarshal([]byte(a.Body), &who); err != nil {
			return fmt.Errorf("%v: %w", a, err)
		}
		if want := names[name] + "@" + corpRealm; who.Principal != want || who.Persisted {
			return fmt.Errorf("%s came as %s (by the connection: %v)", name, who.Principal, who.Persisted)
		}
		mu.Lock()
		defer mu.Unlock()
		if rides[who.Connection] == nil {
			rides[who.Connection] = make(map[string]bool)
		}
		rides[who.Connection][who.Principal] = true
		return nil
	})
	for id, riders := range rides {
		if len(riders) > 1 {
			t.Errorf("connection %d carried %v", id, riders)
		}
	}
	if len(rides) > 500 {
		t.Errorf("%d connections for 2000 requests: they are not kept", len(rides))
	}
	wantExchanges(t, e.KDC, 1, 5, 5)
}

// A refusal that makes us fetch another ticket must not make the repeat go out over
// another's connection, or without the rules.
func TestIsolation_Repeat(t *testing.T) {
	e := newEnv(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	e.run()
	for _, name := range []string{"alice", "bob"} {
		e.getAs(name).WantUser(t, name+"@"+corpRealm)
	}
	e.ChangeServiceKey()
	for range 2 {
		for _, name := range []string{"bob", "alice"} {
			e.getAs(name).WantUser(t, name+"@"+corpRealm)
		}
	}
	wantExchanges(t, e.KDC, 1, 2, 4)
}

func TestIsolation_ClientHeaders(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run()
	for name, change := range map[string]func(*http.Request){
		"authorization":            func(r *http.Request) { r.Header.Set("Authorization", "Negotiate YII=") },
		"connection":               func(r *http.Request) { r.Header.Set("Connection", "Authorization") },
		"connection, lower case":   func(r *http.Request) { r.Header.Set("Connection", "close, authorization") },
		"connection of the header": func(r *http.Request) { r.Header.Set("Connection", "X-User") },
		"proxy authorization":      func(r *http.Request) { r.Header.Set("Proxy-Authorization", "Negotiate YII=") },
	} {
		a := e.Get("/", asUser("alice"), change)
		if a.Status != http.StatusOK || strings.TrimSpace(a.Body) != "alice@"+corpRealm {
			t.Errorf("%s: %v", name, a)
		}
	}
	if n := e.Acceptor.Counts(); n.Missing > 0 || len(n.Refused) > 0 {
		t.Errorf("%+v", n)
	}
}

func TestIsolation_HealthChecks(t *testing.T) {
	seen := make(chan string, 1000)
	e := newEnv(t, caddytest.Options{Upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := kdctest.PeerFrom(r.Context())
		if r.URL.Path == "/health" {
			select {
			case seen <- who.Principal:
			default:
			}
		}
		fmt.Fprintln(w, who.Principal)
	})}})
	load(&e.Caddy, "", caddytest.Block("reverse_proxy "+e.Upstream.Addr(), "health_uri /health", "health_interval 20ms", e.transport("spn "+webSPN, byHeader)))
	for range 3 {
		if got := must.Receive(t, "a health check", seen); got != proxyName {
			t.Errorf("a check came as %s", got)
		}
		caddytest.WaitFor(t, "the upstream is healthy", func() bool { return e.getAs("alice").Status == http.StatusOK })
		e.getAs("bob").WantUser(t, "bob@"+corpRealm)
	}
}

func TestIsolation_WebSocketsAndStreams(t *testing.T) {
	e := newEnv(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	e.run()
	for _, name := range []string{"alice", "bob"} {
		ws, res, err := kdctest.DialWebSocket(t.Context(), e.Client(), e.URL("/ws"), http.Header{"X-User": {name}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res.Status)
		}
		for _, message := range []string{"hello from " + name, "again"} {
			if err := ws.WriteText(message); err != nil {
				t.Fatal(err)
			}
			if got, err := ws.ReadText(); err != nil || got != message {
				t.Fatalf("%q, %v", got, err)
			}
		}
		// The socket holds its connection; other connections are unaffected.
		e.getAs("bob").WantUser(t, "bob@"+corpRealm)
	}
	res, err := e.Client().Do(e.Request(http.MethodGet, "/stream", asUser("alice")))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	line := make([]byte, 64)
	for _, text := range []string{"one", "two"} {
		e.Upstream.Push(text)
		if n, err := res.Body.Read(line); err != nil || string(line[:n]) != text+"\n" {
			t.Fatalf("%q, %v", line[:n], err)
		}
		e.getAs("carol").WantUser(t, "carol@"+corpRealm)
	}
	e.Upstream.Push("")
}
