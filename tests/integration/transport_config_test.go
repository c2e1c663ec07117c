package integration

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestTransport_SPNFromUpstream(t *testing.T) {
	t.Setenv("WEB_HOST", "web.corp.example")
	s := newSite(t, caddytest.Options{})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	dns := "resolvers " + caddytest.StartDNS(t, map[string]string{"web.corp.example": "127.0.0.1"})
	chosen := "{http.request.header.X-Host}:" + caddytest.Port(p.Addr())
	for _, row := range []struct {
		name, upstream, lines, header string
		status                        int
		error                         string
	}{
		{"its name", "web.corp.example:" + caddytest.Port(p.Addr()), "", "", 200, ""},
		{"its name in capitals", "WEB.corp.example:" + caddytest.Port(p.Addr()), "", "", 200, ""},
		{"its placeholder", "web.corp.example:" + caddytest.Port(p.Addr()), "spn HTTP/{rp.upstream.host}", "", 200, ""},
		{"its placeholder with the port", "web.corp.example:" + caddytest.Port(p.Addr()), "spn HTTP/{rp.upstream.hostport}", "", 200, ""},
		{"an address", p.Addr(), "", "", 502, "bad_spn"},
		{"an address, by its placeholder", p.Addr(), "spn HTTP/{rp.upstream.host}", "", 502, "bad_spn"},
		{"a socket", "unix//run/web.sock", "", "", 502, "bad_spn"},
		{"an address, set", p.Addr(), "spn " + service, "", 200, ""},
		{"the operator's variable", "{env.WEB_HOST}:" + caddytest.Port(p.Addr()), "", "", 200, ""},
		{"the client's choice", chosen, "", "web.corp.example", 403, "spn_not_allowed"},
		{"the client's choice, by its placeholder", chosen, "spn HTTP/{rp.upstream.host}", "web.corp.example", 403, "spn_not_allowed"},
		{"the client's choice of who gets a token that is set", chosen, "spn " + service, "web.corp.example", 403, "spn_not_allowed"},
		{"the client's choice, allowed", chosen, "allow_spns HTTP/*.corp.example", "web.corp.example", 200, ""},
		{"the client's choice, allowed by its placeholder", chosen, "spn HTTP/{rp.upstream.host}\nallow_spns HTTP/web.*", "web.corp.example", 200, ""},
		{"the client's choice, others allowed", chosen, "allow_spns HTTP/x.*", "web.corp.example", 403, "spn_not_allowed"},
		{"the client's choice, malformed", chosen, "allow_spns *", "web@corp", 400, "bad_spn"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.run(row.upstream, dns, row.lines)
			before := p.Requests.Load()
			r := s.Request(http.MethodGet, "/")
			if row.header != "" {
				r.Header.Set("X-Host", row.header)
			}
			a := caddytest.Do(s.T, r)
			if row.error != "" {
				a.WantError(t, row.status, row.error)
				if n := p.Requests.Load() - before; n > 0 {
					t.Errorf("%d requests went out", n)
				}
				return
			}
			a.WantUser(t, principal)
			if got := a.Header.Get("X-SPN"); got != service {
				t.Errorf("{http.negotiate.spn} is %q", got)
			}
		})
	}
	p.wantClean(t)
}

func TestTransport_HandleResponse(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.KDC.Stop()
	caddytest.Load(s.T, s.config("", proxying(s.Upstream.Addr(),
		"@down status 503",
		caddytest.Block("handle_response @down",
			`header X-Retry "{rp.header.Retry-After}"`,
			`respond "later: {http.negotiate.error} {http.negotiate.identity}" 418`),
		s.negotiating("spn "+service, "timeout 300ms", "use_tcp", "login_at_start off"))))
	a := s.Get("/")
	if a.Status != http.StatusTeapot || a.Body != "later: kdc_unreachable "+principal || a.Header.Get("X-Retry") == "" {
		t.Fatalf("%d %q, Retry-After %q", a.Status, a.Body, a.Header.Get("X-Retry"))
	}
	for _, secret := range []string{s.KDC.Addr(), "krbtgt"} {
		if strings.Contains(a.Body, secret) {
			t.Errorf("the answer tells %s", secret)
		}
	}
}

func TestTransport_LongTokenWarning(t *testing.T) {
	s := newSite(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.AuthDataSize(9000)}})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{HeaderLimit: kdctest.ApacheHeaderLimit})
	s.run(s.Upstream.Addr()+" "+p.Addr(), "spn "+service)
	for range 20 {
		s.Get("/")
	}
	for _, warning := range []string{"the token is near or beyond what servers take", "the upstream answers 400 to a long Authorization header"} {
		if n := s.Log.Count(warning); n != 1 {
			t.Errorf("warned %d times, want once: %s", n, warning)
		}
	}
	if p.TooLarge.Load() == 0 {
		t.Error("nothing was too long")
	}
}

func TestTransport_HTTP2(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	cert := ecdsaCertificate(t, x509.ECDSAWithSHA256)
	server := httptest.NewUnstartedServer(s.Acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			http.Error(w, r.Proto, http.StatusHTTPVersionNotSupported)
			return
		}
		kdctest.WhoHandler(w, r)
	})))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.runTLS(server.Listener.Addr().String(), []*tls.Certificate{cert}, "versions 2")
	s.GetMany(300, 16, "/", func(a caddytest.Answer) bool { return a.IsUser(principal) })
	if c := s.Acceptor.Counts(); c.Accepted != 300 || c.Missing > 0 || len(c.Refused) > 0 {
		t.Errorf("%d accepted, %d without a token, refused %v", c.Accepted, c.Missing, c.Refused)
	}
}

func TestTransport_HTTP11Required(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	cert := ecdsaCertificate(t, x509.ECDSAWithSHA256)
	s.runTLS(newHTTP11Only(t, cert), []*tls.Certificate{cert}, "versions 1.1 2")
	for range 3 {
		if a := s.Get("/"); a.Status != http.StatusBadGateway {
			t.Fatalf("%d %q", a.Status, a.Body)
		}
	}
	if n := s.Log.Count("HTTP_1_1_REQUIRED); remove versions, or set versions 1.1"); n != 1 {
		t.Errorf("explained %d times, want once", n)
	}
}

// newHTTP11Only speaks HTTP/2 so far as to say that it does not, as IIS does where
// Windows authentication is wanted.
func newHTTP11Only(t *testing.T, cert *tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go resetStreams(conn)
		}
	}()
	return l.Addr().String()
}

func resetStreams(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			err = f.WriteRSTStream(frame.StreamID, http2.ErrCodeHTTP11Required)
		}
		if err != nil {
			log.Print(err)
			return
		}
	}
}

func TestTransport_RejectedAtLoad(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	for lines, want := range map[string]string{
		"versions 3":                             "use versions 1.1",
		"versions 2\nper_connection":             "per_connection needs HTTP/1.1",
		"versions 1.1 2\nper_connection":         "per_connection needs HTTP/1.1",
		"per_connection\nmutual_auth required":   "remove one of them",
		"dial_timeout":                           "wrong argument count",
		"no_such_line":                           "unrecognized subdirective",
		"mutual_auth maybe":                      "off, on, required",
		"keytab /a\nkeytab /b":                   "keytab is set twice",
		"spn HTTP/{http.request.host}":           "allow_spns",
		"spn {http.reverse_proxy.upstream.host}": "placeholders are allowed in the host only",
	} {
		err := caddytest.TryLoad(s.T, s.config("", proxying(s.Upstream.Addr(), s.negotiating(lines))))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", lines, err, want)
		}
	}
	// h2c is HTTP/2, too.
	err := caddytest.TryLoad(s.T, s.config("", proxying("h2c://"+s.Upstream.Addr(), s.negotiating("spn "+service, "per_connection"))))
	if err == nil || !strings.Contains(err.Error(), "per_connection needs HTTP/1.1") {
		t.Errorf("h2c: %v", err)
	}
}
