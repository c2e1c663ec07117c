package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// exchange sends a request as it is over a new connection and reads the responses up to
// the final one, with their bodies.
func (s *site) exchange(t *testing.T, request string) (statuses []int, final caddytest.Answer) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	request = strings.ReplaceAll(strings.ReplaceAll(request, "HOST", s.Addr), "\n", "\r\n")
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	reader := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("after %d: %v", statuses, err)
		}
		if res.StatusCode == http.StatusContinue {
			continue // Caddy's and Apache's own, depending on when the body comes
		}
		statuses = append(statuses, res.StatusCode)
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			final, err = caddytest.Read(res)
			if err != nil {
				t.Fatal(err)
			}
			return statuses, final
		}
	}
}

// bodyShower is a handler that tells the client whether a request has a body to read.
type bodyShower struct{}

func init() { caddy.RegisterModule(new(bodyShower)) }

func (*bodyShower) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_body", New: func() caddy.Module { return new(bodyShower) }}
}

func (*bodyShower) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	w.Header().Set("X-Body", strconv.FormatBool(r.Body != http.NoBody))
	return next.ServeHTTP(w, r)
}

// Most requests have no body. Caddy wraps it all the same, and nothing is kept of it for a
// repeat.
func TestHandler_EmptyBody(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	adapted, _, err := caddytest.Adapt(s.caddyfile(s.usual()))
	if err != nil {
		t.Fatal(err)
	}
	text := replaceOnce(t, string(adapted), `{"handler":"reverse_proxy"`, `{"handler":"test_body"},{"handler":"reverse_proxy"`)
	if err := caddytest.TryLoadJSON(t, []byte(text)); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"GET / HTTP/1.1\nHost: HOST\n\n":                                          "false",
		"POST / HTTP/1.1\nHost: HOST\nContent-Length: 0\n\n":                      "false",
		"POST / HTTP/1.1\nHost: HOST\nContent-Length: 2\n\nok":                    "true",
		"POST / HTTP/1.1\nHost: HOST\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n": "true",
	} {
		_, a := s.exchange(t, request)
		a.WantUser(t, principal)
		if got := a.Header.Get("X-Body"); got != want {
			t.Errorf("%q: a body %s, want %s", request, got, want)
		}
	}
}

// What becomes of requests that are not plain ones, in front of a real Apache that
// answers TRACE and takes upgrades to h2c. The client sees neither token nor challenge, and
// each request that reaches Apache has a token of its own.
func TestApache_UnusualRequests(t *testing.T) {
	l := newApacheSite(t)
	apache, at := l.apache("a.lab.test", lab.ApacheOptions{Extra: []string{"TraceEnable On", "Protocols h2c http/1.1"}})
	const user = " " + account + "@" + labRealm
	reached := 0
	tokens := make(map[string]bool)
	for form, config := range map[string]string{
		"transport": l.config("", proxying(at, l.negotiating(l.resolvers()))),
		"directive": l.config("", caddytest.Block("negotiate", append(l.account(account, l.Keytab), "spn HTTP/a.lab.test")...),
			proxying(at, caddytest.Block("transport http", l.resolvers()))),
	} {
		caddytest.Load(t, config)
		for _, row := range []struct {
			name, request string
			statuses      string // that the client gets
			seen          string // what Apache logs; empty if nothing reaches it
		}{
			{"TRACE", "TRACE / HTTP/1.1\nHost: HOST\n\n", "[405]", ""},
			{"TRACE of a protected path by absolute form", "TRACE http://HOST/echo HTTP/1.1\nHost: HOST\n\n", "[405]", ""},
			{"TRACK", "TRACK / HTTP/1.1\nHost: HOST\n\n", "[405]", ""},
			{"CONNECT", "CONNECT other.example:443 HTTP/1.1\nHost: other.example:443\n\n", "[405]", "405 CONNECT other.example:443" + user},
			{"CONNECT with a path", "CONNECT /echo HTTP/1.1\nHost: HOST\n\n", "[400]", "400 CONNECT /echo "},
			{"OPTIONS *", "OPTIONS * HTTP/1.1\nHost: HOST\n\n", "[200]", ""}, // Caddy's server answers
			{"OPTIONS", "OPTIONS /echo HTTP/1.1\nHost: HOST\n\n", "[200]", "200 OPTIONS /echo" + user},
			{"absolute form", "GET http://HOST/echo HTTP/1.1\nHost: HOST\n\n", "[200]", "200 GET /echo" + user},
			{"absolute form of another host", "GET http://other.example/echo HTTP/1.1\nHost: HOST\n\n", "[200]", "200 GET /echo" + user},
			{"Expect", "POST /echo HTTP/1.1\nHost: HOST\nExpect: 100-continue\nContent-Length: 5\n\nhello", "[200]", "200 POST /echo" + user},
			{"Expect of something unknown", "POST /echo HTTP/1.1\nHost: HOST\nExpect: 200-ok\nContent-Length: 5\n\nhello", "[417]", ""},
			// Caddy drops HTTP2-Settings, without which Apache does not upgrade.
			{"upgrade to h2c", "GET /echo HTTP/1.1\nHost: HOST\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n", "[200]", "200 GET /echo" + user},
			{"upgrade to h2c, settings kept", "GET /echo HTTP/1.1\nHost: HOST\nConnection: Upgrade\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n", "[200]", "200 GET /echo" + user},
			{"upgrade to something unknown", "GET /echo HTTP/1.1\nHost: HOST\nConnection: Upgrade\nUpgrade: irc\n\n", "[200]", "200 GET /echo" + user},
			{"upgrade to TLS", "OPTIONS /echo HTTP/1.1\nHost: HOST\nConnection: Upgrade\nUpgrade: TLS/1.2\n\n", "[200]", "200 OPTIONS /echo" + user},
		} {
			t.Run(form+"/"+row.name, func(t *testing.T) {
				statuses, a := l.exchange(t, row.request)
				if got := fmt.Sprint(statuses); got != row.statuses || strings.Contains(a.Body, "Negotiate Y") {
					t.Errorf("got %s %.1000q, want %s", got, a.Body, row.statuses)
				}
				wantNoChallenge(t, a)
				if row.seen == "" {
					return // another row finds what Apache logs nevertheless
				}
				reached++
				r := apache.Accesses(t, reached)[reached-1]
				if got := fmt.Sprint(r.Status, " ", r.Method, " ", r.URI, " ", r.User); got != row.seen {
					t.Errorf("Apache saw %s, want %s", got, row.seen)
				}
				if r.User != "" && tokens[r.Authorization] {
					t.Error("the token was there before")
				}
				tokens[r.Authorization] = true
			})
		}
	}
	if n := len(apache.Accesses(t, reached)); n != reached {
		t.Errorf("%d requests reached Apache, want %d", n, reached)
	}
}
