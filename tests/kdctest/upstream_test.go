package kdctest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// client returns a client with its own connections.
func client(t *testing.T, roots *x509.CertPool) *http.Client {
	t.Helper()
	transport := &http.Transport{
		MaxConnsPerHost: 1,
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "web.corp.example", MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *site) request(t *testing.T, path string, token []byte, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.upstream.URL()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != nil {
		req.Header.Set("Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(token))
	}
	return req
}

// get returns status and body.
func (s *site) get(t *testing.T, c *http.Client, path string, token []byte) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(s.request(t, path, token, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestChallenge(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	c := client(t, nil)
	res, _ := s.get(t, c, "/", nil)
	if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != "Negotiate" {
		t.Errorf("got %d, %q", res.StatusCode, res.Header.Get("WWW-Authenticate"))
	}
	i := &initiator{cred: s.ticket(t), flags: mutual}
	res, body := s.get(t, c, "/", i.token(t))
	if res.StatusCode != 200 || body != "alice@CORP.EXAMPLE\n" || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Negotiate o") {
		t.Errorf("got %d, %q, %q", res.StatusCode, body, res.Header)
	}
	// Each request needs a token of its own, connection or not.
	if res, _ = s.get(t, c, "/", nil); res.StatusCode != 401 {
		t.Errorf("got %d", res.StatusCode)
	}
	update(t, s, func(c *kdctest.AcceptorConfig) { c.Challenges = []string{"NTLM", "negotiate"} })
	res, _ = s.get(t, c, "/", nil)
	if got := res.Header.Values("WWW-Authenticate"); len(got) != 2 || got[0] != "NTLM" {
		t.Errorf("got %q", got)
	}
	if n := s.acceptor.Counts(); n.Missing != 3 || n.Accepted != 1 {
		t.Errorf("counts %+v", n)
	}
}

func TestPerConnection(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{PerConnection: true}, kdctest.UpstreamConfig{})
	s.realm.AddUser("bob", "other")
	alice := &initiator{cred: s.ticket(t)}
	tgt := login(t, s.kdc, "CORP.EXAMPLE", "bob", "other")
	cred, err := tgsRequest{tgt: tgt, realm: "CORP.EXAMPLE", service: service("HTTP/web.corp.example")}.ask(t, s.kdc)
	if err != nil {
		t.Fatal(err)
	}
	bob := &initiator{cred: cred}
	c, other := client(t, nil), client(t, nil)
	for _, step := range []struct {
		client *http.Client
		token  []byte
		status int
		who    string
	}{
		{c, alice.token(t), 200, "alice@CORP.EXAMPLE\n"},
		{c, nil, 200, "alice@CORP.EXAMPLE\n"},
		{other, nil, 401, ""},
		{c, bob.token(t), 200, "bob@CORP.EXAMPLE\n"},
		{c, nil, 200, "bob@CORP.EXAMPLE\n"},
		{c, []byte("junk"), 401, ""},
		{c, nil, 401, ""},
	} {
		res, body := s.get(t, step.client, "/", step.token)
		if res.StatusCode != step.status || step.who != "" && body != step.who {
			t.Errorf("got %d, %q, want %d, %q", res.StatusCode, body, step.status, step.who)
		}
		if (res.StatusCode == 200 && step.token != nil) != (res.Header.Get("Persistent-Auth") == "true") {
			t.Errorf("Persistent-Auth %q", res.Header.Get("Persistent-Auth"))
		}
	}
}

func TestBindingsAfterRenewal(t *testing.T) {
	first, second := certificate(t), certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(first.Leaf)
	roots.AddCert(second.Leaf)
	s := newSite(t, kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire}, kdctest.UpstreamConfig{Certificate: first})
	i := &initiator{cred: s.ticket(t)}
	try := func(c *http.Client, cert *tls.Certificate) int {
		var ok bool
		if i.bindings, ok = kdctest.EndPointBindings(cert.Leaf); !ok {
			t.Fatal("certificate has no bindings")
		}
		res, _ := s.get(t, c, "/", i.token(t))
		return res.StatusCode
	}
	old := client(t, roots)
	if got := try(old, first); got != 200 {
		t.Errorf("got %d", got)
	}
	s.upstream.SetCertificate(second)
	if got := try(old, first); got != 200 {
		t.Errorf("old connection, old certificate: %d", got)
	}
	if got := try(old, second); got != 401 {
		t.Errorf("old connection, new certificate: %d", got)
	}
	if got := try(client(t, roots), second); got != 200 {
		t.Errorf("new connection, new certificate: %d", got)
	}
}

func TestHeaderLimit(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{HeaderLimit: kdctest.ApacheHeaderLimit})
	s.realm.Principal("alice").Set(kdctest.AuthDataSize(6000))
	i := &initiator{cred: s.ticket(t)}
	if res, _ := s.get(t, client(t, nil), "/", i.token(t)); res.StatusCode != 400 {
		t.Errorf("got %d", res.StatusCode)
	}
	if n := s.upstream.TooLarge.Load(); n != 1 || s.acceptor.Counts().Accepted != 0 {
		t.Errorf("counted %d, %+v", n, s.acceptor.Counts())
	}
}

func TestUpstreamPaths(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	i := &initiator{cred: s.ticket(t)}
	c := client(t, nil)

	t.Run("echo", func(t *testing.T) {
		sent := bytes.Repeat([]byte("0123456789"), 30_000)
		req := s.request(t, "/echo", i.token(t), io.MultiReader(bytes.NewReader(sent))) // chunked
		req.Trailer = http.Header{"X-End": {"reached"}}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(got, sent) || res.Trailer.Get("X-End") != "reached" {
			t.Errorf("%d bytes, %v, trailer %v", len(got), err, res.Trailer)
		}
	})
	t.Run("stream", func(t *testing.T) {
		res, err := c.Do(s.request(t, "/stream", i.token(t), nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		for _, want := range []string{"one", "two"} {
			s.upstream.Push(want) // one after the other
			if got, err := lines.ReadString('\n'); err != nil || got != want+"\n" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		s.upstream.Push("")
		if _, err := lines.ReadString('\n'); err != io.EOF {
			t.Errorf("got %v", err)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		header := s.request(t, "/", i.token(t), nil).Header
		ws, _, err := kdctest.DialWebSocket(t.Context(), c, s.upstream.URL()+"/ws", header)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		for _, want := range []string{"hello", "", strings.Repeat("x", 300), strings.Repeat("y", 70_000)} {
			if err := ws.WriteText(want); err != nil {
				t.Fatal(err)
			}
			if got, err := ws.ReadText(); err != nil || got != want {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
		}
	})
	t.Run("websocket without a token", func(t *testing.T) {
		ws, res, err := kdctest.DialWebSocket(t.Context(), c, s.upstream.URL()+"/ws", nil)
		if err == nil || ws != nil || res.StatusCode != 401 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		res, err := c.Do(s.request(t, "/cut", i.token(t), nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, err := io.ReadAll(res.Body); len(got) != 500 || err == nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		if res, _ := s.get(t, c, "/forbidden", i.token(t)); res.StatusCode != 401 {
			t.Errorf("got %d", res.StatusCode)
		}
	})
}

func TestUpstreamRestart(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	i := &initiator{cred: s.ticket(t)}
	c := client(t, nil)
	url := s.upstream.URL()
	if err := s.upstream.Interrupt(); err != nil {
		t.Fatal(err)
	}
	if res, err := c.Do(s.request(t, "/", i.token(t), nil)); err == nil {
		_ = res.Body.Close()
		t.Error("a stopped upstream answered")
	}
	if err := s.upstream.Start(); err != nil || s.upstream.URL() != url {
		t.Fatalf("%s, was %s: %v", s.upstream.URL(), url, err)
	}
	if res, _ := s.get(t, c, "/", i.token(t)); res.StatusCode != 200 {
		t.Errorf("got %d", res.StatusCode)
	}
}
