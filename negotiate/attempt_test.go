package negotiate_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// attempts is a protected service, and the attempts at it of one block.
type attempts struct {
	*world
	acceptor *kdctest.Acceptor
	config   negotiate.AttemptConfig
	body     io.ReadCloser
	limit    int64
	sent     int
}

func newAttempts(t *testing.T) *attempts {
	t.Helper()
	w := newWorld(t, byPassword("right"))
	keys := must.OK(w.Realm.Keytab(w.Web))(t)
	x := &attempts{world: w, limit: 1 << 10}
	x.acceptor = must.OK(kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: w.Clock.Now}))(t)
	x.config.Initiator = w.id.Initiator(w.settings)
	return x
}

func (x *attempts) update(change func(*kdctest.AcceptorConfig)) {
	x.T.Helper()
	must.Do(x.T, x.acceptor.Update(change))
}

// send sends the attempt's request to the service, which reads the body first.
func (x *attempts) send(token string, body io.Reader) *http.Response {
	x.T.Helper()
	x.sent++
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	if body != nil {
		if _, err := io.Copy(io.Discard, body); err != nil {
			x.T.Error(err)
		}
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	x.acceptor.Protect(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Result()
}

// run runs one attempt to its end.
func (x *attempts) run(withoutToken bool) (*negotiate.Attempt, int, negotiate.Judgement) {
	x.T.Helper()
	x.sent = 0
	a := &negotiate.Attempt{Config: &x.config, Target: x.target, Body: httpauth.NewReplay(x.body, -1, x.limit)}
	defer a.Body.Settle()
	must.Do(x.T, a.Acquire(x.T.Context()))
	body, err := a.Body.Next(x.T.Context())
	if err != nil {
		x.T.Fatal(err)
	}
	for {
		var token string
		if withoutToken && !a.Repeated() {
			a.WithoutToken()
		} else if token, err = a.Mint(x.T.Context(), nil); err != nil {
			x.T.Fatal(err)
		}
		response := x.send(token, body)
		j := a.Judge(x.T.Context(), response.StatusCode, response.Header)
		if j.Decision != negotiate.Repeat {
			return a, response.StatusCode, j
		}
		body = j.Body
	}
}

func TestAttempt_Accepted(t *testing.T) {
	for _, mutual := range []negotiate.MutualAuth{negotiate.MutualAuthOff, negotiate.MutualAuthOn, negotiate.MutualAuthRequired} {
		x := newAttempts(t)
		x.config.MutualAuth = mutual
		a, status, j := x.run(false)
		if status != http.StatusNotFound || j.Decision != negotiate.Deliver || j.NotAuthenticated() || a.Repeated() || x.sent != 1 {
			t.Errorf("mutual %d: %d %+v, sent %d times", mutual, status, j, x.sent)
		}
		if j.Proven != (mutual != negotiate.MutualAuthOff) {
			t.Errorf("mutual %d: proven %t", mutual, j.Proven)
		}
	}
}

func TestAttempt_RepeatsOnce(t *testing.T) {
	for _, row := range []struct {
		name       string
		body       io.ReadCloser
		limit      int64
		refuse     kdctest.Refusal
		times      int
		mutual     negotiate.MutualAuth
		sent       int
		refused    bool
		newTickets int
	}{
		{"then accepted", nil, 0, kdctest.RefuseGood, 1, negotiate.MutualAuthOff, 2, false, 1},
		{"body is kept", io.NopCloser(strings.NewReader("hello")), 5, kdctest.RefuseGood, 1, negotiate.MutualAuthOff, 2, false, 1},
		{"refused again", nil, 0, kdctest.RefuseGood, 2, negotiate.MutualAuthOn, 2, true, 1},
		{"body is too long", io.NopCloser(strings.NewReader("hello")), 4, kdctest.RefuseGood, 1, negotiate.MutualAuthOff, 1, true, 0},
		{"authenticated but not authorized", nil, 0, kdctest.RefuseGoodWithAPRep, 1, negotiate.MutualAuthOn, 1, false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := newAttempts(t)
			x.body, x.limit, x.config.MutualAuth = row.body, row.limit, row.mutual
			left := row.times
			x.update(func(c *kdctest.AcceptorConfig) {
				c.Refuse = row.refuse
				c.RefuseWhen = func() bool { left--; return left >= 0 }
			})
			a, _, j := x.run(false)
			if x.sent != row.sent || j.Decision != negotiate.Deliver || j.NotAuthenticated() != row.refused || a.Retried() != (row.sent == 2) {
				t.Errorf("sent %d times, %+v", x.sent, j)
			}
			if n := x.KDC.Counts().TGSRep - 1; n != row.newTickets {
				t.Errorf("%d new tickets", n)
			}
		})
	}
}

// A connection that is no longer authenticated is no reason for a new ticket.
func TestAttempt_WithoutToken(t *testing.T) {
	x := newAttempts(t)
	x.config.MutualAuth = negotiate.MutualAuthOn
	a, status, j := x.run(true)
	if status != http.StatusNotFound || !a.HasToken() || a.Retried() || !j.Proven || x.sent != 2 || x.KDC.Counts().TGSRep != 1 {
		t.Errorf("%d %+v, sent %d times", status, j, x.sent)
	}
	a.WithoutToken()
	if j := a.Judge(t.Context(), http.StatusOK, nil); j.Decision != negotiate.Deliver || a.HasToken() || a.Token() != "" {
		t.Errorf("a response without a token needs no proof: %+v", j)
	}
}

func TestAttempt_MutualAuth(t *testing.T) {
	const off, on, required = negotiate.MutualAuthOff, negotiate.MutualAuthOn, negotiate.MutualAuthRequired
	wrong, refusal := []string{"Negotiate AAAA"}, []string{"Negotiate"}
	for _, row := range []struct {
		name   string
		mutual negotiate.MutualAuth
		status int
		header []string
		reject bool
	}{
		{"off, wrong proof", off, 200, wrong, false},
		{"on, no proof", on, 200, nil, false},
		{"on, wrong proof", on, 200, wrong, true},
		{"required, no proof", required, 200, nil, true},
		{"required, no proof, error", required, 500, nil, true},
		{"required, no proof, switching protocols", required, 101, nil, true},
		{"required, refusal", required, 401, refusal, false},
		{"required, 401 of another scheme", required, 401, []string{"Basic"}, false},
		{"on, 401 with a wrong proof", on, 401, wrong, false}, // a refusal, whatever it says
	} {
		t.Run(row.name, func(t *testing.T) {
			x := newAttempts(t)
			x.config.MutualAuth = row.mutual
			a := &negotiate.Attempt{Config: &x.config, Target: x.target, Body: httpauth.NewReplay(io.NopCloser(strings.NewReader("x")), 1, 0)}
			must.Do(t, a.Acquire(t.Context()))
			must.OK(a.Mint(t.Context(), nil))(t)
			body, _ := a.Body.Next(t.Context())
			_, _ = io.Copy(io.Discard, body) // no repeat
			j := a.Judge(t.Context(), row.status, http.Header{"Www-Authenticate": row.header})
			if rejected := j.Decision == negotiate.Reject; rejected != row.reject || rejected != errors.Is(j.Err, negotiate.ErrMutualAuth) {
				t.Errorf("%+v", j)
			}
		})
	}
}

func TestAttempt_UserDenied(t *testing.T) {
	x := newAttempts(t)
	x.Proxy.Set(kdctest.SPN("svc-proxy"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/web.corp.example"))
	x.Realm.AddUser("alice", "x")
	alice := must.OK(negotiate.ParseUser("alice", krb5core.UserForm{Default: realmName}))(t)
	denied := errors.New("denied")
	for _, answers := range [][]error{{fmt.Errorf("%w: %w", negotiate.ErrUserDenied, denied)}, {nil, denied}, {nil, nil}} {
		var asked []string
		x.config.Admit = func(cred *messages.Credential) error {
			asked = append(asked, cred.Client.String())
			return answers[len(asked)-1]
		}
		a := &negotiate.Attempt{Config: &x.config, Target: negotiate.Target{SPN: x.target.SPN, User: alice}}
		if err, want := a.Acquire(t.Context()), answers[len(asked)-1]; !errors.Is(err, want) || len(asked) != len(answers) || asked[0] != "alice@"+realmName {
			t.Errorf("asked for %q, got %v, want %v", asked, err, want)
		}
		if err := x.id.Flush(); err == 0 {
			t.Error("no ticket")
		}
	}
}

func TestAttempt_AllocatesNothing(t *testing.T) {
	x := newAttempts(t)
	var a negotiate.Attempt
	header := http.Header{"Content-Type": {"text/html"}}
	if n := testing.AllocsPerRun(100, func() {
		a = negotiate.Attempt{Config: &x.config, Target: x.target, Body: httpauth.NewReplay(nil, 0, 0)}
		must.Do(t, a.Acquire(t.Context()))
		if j := a.Judge(t.Context(), http.StatusOK, header); j.Decision != negotiate.Deliver {
			t.Fatal(j)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
