package delegation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The upstream takes a connection for authenticated as who came first on it. With
// one pool of connections for all users this test fails on nearly every request.
func TestUsersNeverShareAConnection(t *testing.T) {
	c := newCorp(t, setup{acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	c.run()
	// The last two are one person by other names.
	names := map[string]string{"alice": "alice", "bob": "bob", "carol": "carol", "Carol": "carol", "bob@corp.example": "bob"}
	c.realm.Principal("bob").Set(kdctest.Alias("bob@corp.example"))
	order := []string{"alice", "bob", "carol", "Carol", "bob@corp.example"}
	var mu sync.Mutex
	rides := make(map[int64]map[string]bool)
	errs := traffic(2000, 32, func(i int) error {
		name := order[i%len(order)]
		a, err := c.ask(c.request("/json", as(name)))
		if err != nil {
			return err
		}
		var who kdctest.Peer
		if err := json.Unmarshal([]byte(a.body), &who); err != nil {
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
	if len(errs) > 0 {
		t.Errorf("%d of 2000 went wrong, first: %v", len(errs), errs[0])
	}
	for id, riders := range rides {
		if len(riders) > 1 {
			t.Errorf("connection %d carried %v", id, riders)
		}
	}
	if len(rides) > 500 {
		t.Errorf("%d connections for 2000 requests: they are not kept", len(rides))
	}
	c.wantExchanges(1, 5, 5)
}

// A refusal that makes us fetch another ticket must not make the repeat go out over
// another's connection, or without the rules.
func TestRepeatAfterARefusalIsTheSameUsers(t *testing.T) {
	c := newCorp(t, setup{acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	c.run()
	for _, name := range []string{"alice", "bob"} {
		c.as(name).wantUser(t, name+"@"+corpRealm)
	}
	c.web.ChangeKey(false)
	if err := c.acceptor.Update(func(cfg *kdctest.AcceptorConfig) { cfg.Keytab = keysOf(t, c.realm, c.web) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, name := range []string{"bob", "alice"} {
			c.as(name).wantUser(t, name+"@"+corpRealm)
		}
	}
	c.wantExchanges(1, 2, 4)
}

func TestWhatClientsSayOfThemselvesChangesNothing(t *testing.T) {
	c := newCorp(t, setup{})
	c.run()
	for name, change := range map[string]func(*http.Request){
		"authorization":            func(r *http.Request) { r.Header.Set("Authorization", "Negotiate YII=") },
		"connection":               func(r *http.Request) { r.Header.Set("Connection", "Authorization") },
		"connection, lower case":   func(r *http.Request) { r.Header.Set("Connection", "close, authorization") },
		"connection of the header": func(r *http.Request) { r.Header.Set("Connection", "X-User") },
		"proxy authorization":      func(r *http.Request) { r.Header.Set("Proxy-Authorization", "Negotiate YII=") },
	} {
		a := c.get("/", as("alice"), change)
		if a.status != http.StatusOK || strings.TrimSpace(a.body) != "alice@"+corpRealm {
			t.Errorf("%s: %v", name, a)
		}
	}
	if n := c.acceptor.Counts(); n.Missing > 0 || len(n.Refused) > 0 {
		t.Errorf("%+v", n)
	}
}

func TestHealthChecksGoOutAsOurselves(t *testing.T) {
	seen := make(chan string, 1000)
	c := newCorp(t, setup{upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := kdctest.PeerFrom(r.Context())
		if r.URL.Path == "/health" {
			select {
			case seen <- who.Principal:
			default:
			}
		}
		fmt.Fprintln(w, who.Principal)
	})}})
	c.load("", block("reverse_proxy "+c.upstream.Addr(), "health_uri /health", "health_interval 20ms", c.transport("spn "+webSPN, byHeader)))
	for range 3 {
		if got := <-seen; got != proxyName {
			t.Errorf("a check came as %s", got)
		}
		within(t, func() bool { return c.as("alice").status == http.StatusOK })
		c.as("bob").wantUser(t, "bob@"+corpRealm)
	}
}

func TestWebSocketsAndStreamsAreTheUsers(t *testing.T) {
	c := newCorp(t, setup{acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	c.run()
	for _, name := range []string{"alice", "bob"} {
		ws, res, err := kdctest.DialWebSocket(t.Context(), c.client, "http://"+c.address+"/ws", http.Header{"X-User": {name}})
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
		// The socket holds its connection; others of the user and of others go on.
		c.as("bob").wantUser(t, "bob@"+corpRealm)
	}
	res, err := c.client.Do(c.request("/stream", as("alice")))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	line := make([]byte, 64)
	for _, text := range []string{"one", "two"} {
		c.upstream.Push(text)
		if n, err := res.Body.Read(line); err != nil || string(line[:n]) != text+"\n" {
			t.Fatalf("%q, %v", line[:n], err)
		}
		c.as("carol").wantUser(t, "carol@"+corpRealm)
	}
	c.upstream.Push("")
}
