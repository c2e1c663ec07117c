package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// newSite starts a realm with two users and an acceptor with two hosts.
func newSite(t *testing.T, opts lab.ApacheOptions) (*lab.MIT, *lab.Apache) {
	t.Helper()
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "alice", Password: "alice-secret"},
		{Name: "bob", Password: "bob-secret"},
		{Name: "HTTP/app.lab.test"},
		{Name: "HTTP/app2.lab.test"},
	}})
	opts.Realm = m
	opts.Hosts = []string{"app.lab.test", "app2.lab.test"}
	return m, lab.StartApache(t, opts)
}

func TestApacheNamesUser(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	for _, host := range []string{"app.lab.test", "app2.lab.test"} {
		head, body := x.Negotiate(a, host, "/")
		if !strings.HasPrefix(head, "HTTP/1.1 200") || !strings.Contains(head, "X-Remote-User: alice@LAB.TEST") {
			t.Errorf("%s: %s", host, head)
		}
		if body != "hello from the acceptor\n" {
			t.Errorf("%s: %q", host, body)
		}
	}
	if n := m.Tickets(t, "HTTP/app2.lab.test@LAB.TEST"); n != 1 {
		t.Errorf("%d tickets for the second host, want 1", n)
	}
	for path, status := range map[string]string{"/denied/": "401", "/forbidden/": "403", "/basic/": "200", "/close/": "200", "/bound/": "200"} {
		if head, _ := x.Negotiate(a, "", path); !strings.HasPrefix(head, "HTTP/1.1 "+status) {
			t.Errorf("%s: %s", path, head)
		}
	}
	var paths []string
	for _, r := range a.Accesses(t, 7) {
		if r.User == "alice@LAB.TEST" && r.Status == http.StatusOK {
			paths = append(paths, r.URI)
		}
	}
	slices.Sort(paths)
	if want := []string{"/", "/", "/basic/", "/bound/", "/close/"}; !slices.Equal(paths, want) {
		t.Errorf("paths of alice in the log: %q, want %q", paths, want)
	}
}

func TestApacheEcho(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{})
	x := lab.NewTools(t, m)
	x.Kinit("bob", "bob-secret")
	_, body := x.Negotiate(a, "", "/bound/echo", "-d", "abc", "-H", "X-Seen: it is")
	got := lab.ParseEcho([]byte(body))
	for k, want := range map[string]string{
		"METHOD": "POST", "REMOTE_USER": "bob@LAB.TEST", "HTTP_X_SEEN": "it is", "CONTENT_LENGTH": "3",
		"BODY_SHA256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	} {
		if got[k] != want {
			t.Errorf("%s=%q, want %q", k, got[k], want)
		}
	}
	if n := got["AUTHORIZATION_LENGTH"]; len(n) < 3 {
		t.Errorf("a token of %s bytes arrived", n)
	}
}

func TestApacheReplays(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	x.Negotiate(a, "", "/")
	if n := a.Replays(t); n != 0 {
		t.Errorf("%d replays before one", n)
	}
	log := a.Accesses(t, 1)
	r := request(t, http.DefaultClient, "http://"+a.Addr()+"/", log[len(log)-1].Authorization)
	if r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a replayed token: %s", r.Status)
	}
	if n := a.Replays(t); n != 1 {
		t.Errorf("%d replays, want 1", n)
	}
}

func TestApacheHeaderLimit(t *testing.T) {
	_, a := newSite(t, lab.ApacheOptions{})
	large := "Negotiate " + strings.Repeat("A", 9000)
	if r := request(t, http.DefaultClient, "http://"+a.SmallAddr()+"/open/", large); r.StatusCode != http.StatusBadRequest {
		t.Errorf("small port: %s", r.Status)
	}
	if r := request(t, http.DefaultClient, "http://"+a.Addr()+"/open/", large); r.StatusCode != http.StatusOK {
		t.Errorf("other port: %s", r.Status)
	}
}

func TestApacheTLS(t *testing.T) {
	_, a := newSite(t, lab.ApacheOptions{})
	pem, err := os.ReadFile(a.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	r := request(t, client, "https://"+a.TLSAddr()+"/", "")
	if r.StatusCode != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") != "Negotiate" {
		t.Errorf("TLS: %s, %q", r.Status, r.Header)
	}
}

func TestApacheDelegatedTicket(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	head, _ := x.Negotiate(a, "", "/deleg/", "--delegation", "always")
	if !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Fatal(head)
	}
	if _, err := os.Stat(a.DelegatedCCache("alice@LAB.TEST")); err != nil {
		t.Error(err)
	}
}

func TestApacheReloadsKeytab(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	x.Kvno("HTTP/app.lab.test")
	m.Kadmin(t, "cpw -randkey HTTP/app.lab.test")
	a.ReloadKeytab(t)
	if head, _ := x.Negotiate(a, "", "/"); !strings.HasPrefix(head, "HTTP/1.1 401") {
		t.Errorf("a ticket under the old key: %s", head)
	}
	x.Kinit("alice", "alice-secret")
	if head, _ := x.Negotiate(a, "", "/"); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Errorf("a ticket under the new key: %s", head)
	}
}

func TestApacheSkew(t *testing.T) {
	m, a := newSite(t, lab.ApacheOptions{Skew: -10 * time.Minute})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	if head, _ := x.Negotiate(a, "", "/"); !strings.HasPrefix(head, "HTTP/1.1 401") {
		t.Errorf("a clock ten minutes off: %s", head)
	}
}

func TestApacheBackend(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Remote-User")+" "+r.Header.Get("Authorization"))
	}))
	t.Cleanup(backend.Close)
	m, a := newSite(t, lab.ApacheOptions{Backend: backend.Listener.Addr().String(), KeepAlive: 100 * time.Millisecond})
	x := lab.NewTools(t, m)
	x.Kinit("bob", "bob-secret")
	if head, body := x.Negotiate(a, "", "/app/"); body != "bob@LAB.TEST " {
		t.Errorf("%s\n%q", head, body)
	}
}

func TestApacheRestart(t *testing.T) {
	_, a := newSite(t, lab.ApacheOptions{})
	a.Stop()
	if r, err := http.Get("http://" + a.Addr() + "/open/"); err == nil {
		r.Body.Close()
		t.Errorf("stopped Apache: %s", r.Status)
	}
	a.Start(t)
	request(t, http.DefaultClient, "http://"+a.Addr()+"/open/", "")
}

func request(t *testing.T, client *http.Client, url, authorization string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	r.Close = true
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	return answer
}
