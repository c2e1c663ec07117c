package command_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestCheck_OK(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantOK(text, c)
	for _, name := range []string{"configuration", "files", "discovery", "reachability", "clock", "login", "ticket", "upstream"} {
		if !strings.Contains(text, "ok    "+name) {
			t.Errorf("no step %s in\n%s", name, text)
		}
	}
	for _, fact := range []string{"udp in", "tcp in", `salt "CORP.EXAMPLEsvc-proxy"`, "aes256-cts-hmac-sha1-96", "the upstream proved its identity"} {
		if !strings.Contains(text, fact) {
			t.Errorf("%q is not told in\n%s", fact, text)
		}
	}
	if n := l.KDC.Counts().Clients["svc-proxy@CORP.EXAMPLE"].ASReqPreAuth; n != 2 {
		t.Errorf("%d proofs of the password for two runs, want one each", n)
	}
}

func TestCheck_NamedIdentity(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	file := l.Write("Caddyfile", caddyfile.Format([]byte(
		caddytest.Block("", "admin off", "auto_https off", caddytest.Block("kerberos",
			caddytest.Block("realm "+labRealm, "kdc "+l.KDC.Addr()),
			caddytest.Block("identity intranet", "user "+caddytest.Principal, "password_file "+l.Write("password", []byte(labPassword+"\n")))))+"\n"+
			caddytest.Block("http://:0", caddytest.Block("negotiate intranet", "spn "+labService, "mutual_auth on"), "reverse_proxy "+l.Upstream.Addr())+"\n")))
	text, c := l.check(file, "--identity", "intranet")
	l.wantOK(text, c)
	if !strings.Contains(text, "identity intranet") || !strings.Contains(text, "by the realm block") {
		t.Errorf("got\n%s", text)
	}
	if _, err := caddyKerberos(t, "check", "--config", file, "--identity", "missing"); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("unknown identity: %v", err)
	}
}

// mistake is a lab in which one step is not ok.
type mistake struct {
	with    caddytest.Options
	prepare func(l *commandLab) []string // returns the lines of the block; nil for the usual ones
	args    []string
	status  string
	step    string
	causes  []diagnosis.Cause
	words   []string
}

var oneOfThree = []diagnosis.Cause{diagnosis.CauseKeytabVersion, diagnosis.CauseKeytabSalt, diagnosis.CauseWrongPassword}

func mistakes(t *testing.T) map[string]mistake {
	t.Helper()
	cert, ca := labCertificate(t)
	_, another := labCertificate(t)
	useTLS := caddytest.Options{Acceptor: kdctest.AcceptorConfig{Bindings: kdctest.BindingsAllow}, Upstream: kdctest.UpstreamConfig{Certificate: cert}}
	ofProxy := func(o kdctest.Option) caddytest.Options { return caddytest.Options{Proxy: []kdctest.Option{o}} }
	return map[string]mistake{
		"wrong password": {
			status: "FAIL", step: "login", causes: []diagnosis.Cause{diagnosis.CauseWrongPassword}, words: []string{"Set-ADAccountPassword", "kadmin"},
			prepare: func(l *commandLab) []string {
				l.T.Setenv("LAB_PASSWORD", "wrong")
				return []string{"user svc-proxy@CORP.EXAMPLE", "password {env.LAB_PASSWORD}", "kdc " + l.KDC.Addr(), "spn " + labService}
			},
		},
		"old keytab": {
			status: "FAIL", step: "login", causes: oneOfThree, words: []string{"msDS-KeyVersionNumber", "version 1", "ktpass", "kadmin ktadd", "--salt"},
			prepare: func(l *commandLab) []string { l.Proxy.ChangePassword("another", false); return l.usual() },
		},
		"weak keytab": {
			with:   ofProxy(kdctest.ETypes(enctype.RC4_HMAC)),
			status: "FAIL", step: "files", causes: []diagnosis.Cause{diagnosis.CauseWeakKeys}, words: []string{"KB5073381"},
		},
		"weak keys refused": {
			status: "FAIL", step: "login", causes: []diagnosis.Cause{diagnosis.CauseWeakKeys},
			prepare: func(l *commandLab) []string {
				old := l.Realm.AddUser("svc-old", labPassword, kdctest.ETypes(enctype.RC4_HMAC))
				l.Keytab = l.Write("rc4.keytab", l.KeysOf(old))
				old.Set(kdctest.ETypes(enctype.AES256_CTS_HMAC_SHA1_96))
				old.ChangePassword(labPassword, false)
				return []string{"user svc-old@CORP.EXAMPLE", "keytab " + l.Keytab, "kdc " + l.KDC.Addr(), "spn " + labService, "encryption_types rc4-hmac", "allow_weak_crypto"}
			},
		},
		"unknown service": {
			args:   []string{"--spn", "HTTP/elsewhere.corp.example"},
			status: "FAIL", step: "ticket", causes: []diagnosis.Cause{diagnosis.CauseUnknownSPN}, words: []string{"setspn -Q HTTP/elsewhere.corp.example", "kadmin addprinc"},
			prepare: func(l *commandLab) []string { return l.usual("resolvers " + caddytest.StartDNS(l.T, nil)) },
		},
		"misspelt host": {
			args:   []string{"--spn", "HTTP/wbe.corp.example"},
			status: "FAIL", step: "ticket", causes: []diagnosis.Cause{diagnosis.CauseUnknownSPN}, words: []string{"wbe.corp.example is not in the DNS: a typo?"},
			prepare: func(l *commandLab) []string {
				return l.usual("resolvers " + caddytest.StartDNS(l.T, map[string]string{"web.corp.example": "127.0.0.1"}))
			},
		},
		"upstream's name misspelt": {
			args:   []string{"--url", "http://wbe.corp.example/"},
			status: "FAIL", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseUpstreamUnreachable}, words: []string{"wbe.corp.example is not in the DNS"},
			prepare: func(l *commandLab) []string {
				return l.usual("resolvers " + caddytest.StartDNS(l.T, map[string]string{"web.corp.example": "127.0.0.1"}))
			},
		},
		"alias of a host that has the service": {
			args:   []string{"--spn", "HTTP/www.corp.example"},
			status: "FAIL", step: "ticket", causes: []diagnosis.Cause{diagnosis.CauseUnknownSPN},
			words: []string{"www.corp.example is an alias (CNAME) of web.corp.example", "set spn HTTP/web.corp.example"},
			prepare: func(l *commandLab) []string {
				return l.usual("resolvers " + startAlias(l.T, "www.corp.example.", "web.corp.example."))
			},
		},
		"KDC's name misspelt": {
			status: "FAIL", step: "reachability", causes: []diagnosis.Cause{diagnosis.CauseKDCDead}, words: []string{"dc1.invalid is not in the DNS: is kdc right"},
			prepare: func(l *commandLab) []string { return append(l.usual()[1:], "kdc dc1.invalid") },
		},
		"service on another account": {
			status: "FAIL", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged},
			words: []string{"setspn -Q HTTP/web.corp.example", "useAppPoolCredentials", "klist -k"},
			prepare: func(l *commandLab) []string { // the upstream runs as the account before
				l.Realm.Remove(l.Web)
				l.Realm.AddUser("svc-other", "secret of the other", kdctest.SPN(labService))
				return l.usual()
			},
		},
		"dead KDC": {
			status: "FAIL", step: "reachability", causes: []diagnosis.Cause{diagnosis.CauseKDCDead}, words: []string{"127.0.0.1:", "udp:", "tcp:"},
			prepare: func(l *commandLab) []string { l.KDC.Stop(); return l.usual() },
		},
		"one of two KDCs dead": {
			status: "warn", step: "reachability", causes: []diagnosis.Cause{diagnosis.CauseKDCDead},
			prepare: func(l *commandLab) []string {
				return append(l.usual()[1:], "kdc "+caddytest.FreeAddress(l.T)+" "+l.KDC.Addr())
			},
		},
		"token too long": {
			with:   caddytest.Options{Proxy: []kdctest.Option{kdctest.AuthDataSize(12000)}, Upstream: kdctest.UpstreamConfig{HeaderLimit: kdctest.ApacheHeaderLimit}},
			status: "FAIL", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseTokenTooLong},
			words: []string{"LimitRequestFieldSize", "MaxFieldLength"},
		},
		"token near the limit": {with: ofProxy(kdctest.AuthDataSize(6000)), status: "warn", step: "upstream", words: []string{"8190"}},
		"bound to another certificate than the upstream's": {
			with: useTLS, status: "FAIL", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseChannelBinding}, words: []string{"terminates TLS"},
			prepare: func(l *commandLab) []string {
				return l.usual("tls_trust_pool file "+l.Write("ca.pem", ca), "channel_binding cert "+l.Write("another.pem", another))
			},
		},
		"untrusted certificate": {with: useTLS, status: "FAIL", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseUpstreamCertificate}},
		"user may not enter": {
			with:   caddytest.Options{Acceptor: kdctest.AcceptorConfig{Refuse: kdctest.RefuseGoodWithAPRep}},
			status: "warn", step: "upstream", causes: []diagnosis.Cause{diagnosis.CauseUserMayNotEnter},
		},
	}
}

// A keytab that was made without the KDC's version, as `keytab add` does, logs in all the same.
func TestCheck_KeytabVersion(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	l.addKeytab("--kvno", "7")
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantOK(text, c)
	if !strings.Contains(text, "version 1; the keytab calls it version 7") {
		t.Errorf("nothing is said of the versions:\n%s", text)
	}
}

// PowerShell's > writes UTF-16, which the adapter reads as UTF-8: its error is of a directive.
func TestCheck_UTF16(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	units := utf16.Encode([]rune("\ufeff" + ":80 {\n\trespond hello\n}\n"))
	file := l.Write("Caddyfile", must.OK(binary.Append(nil, binary.LittleEndian, units))(t))
	_, c := l.check(file)
	l.wantCauses(c, "FAIL", "configuration", diagnosis.CauseConfiguration).mentions(t, "Caddyfile: is UTF-16", "Set-Content -Encoding utf8")
}

func TestCheck_PlatformWithoutConfiguration(t *testing.T) {
	if _, err := caddyKerberos(t, "check", "--platform", "--config", "Caddyfile"); err == nil || !strings.Contains(err.Error(), "leave out --config") {
		t.Error(err)
	}
}

func TestCheck_Mistakes(t *testing.T) {
	for name, m := range mistakes(t) {
		t.Run(name, func(t *testing.T) {
			l := newCommandLab(t, m.with)
			lines := l.usual()
			if m.prepare != nil {
				lines = m.prepare(l)
			}
			_, c := l.check(l.caddyfile(lines...), m.args...)
			l.wantCauses(c, m.status, m.step, m.causes...).mentions(t, m.words...)
		})
	}
}

func TestCheck_WrongSalt(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.Salt("CORP.EXAMPLEoldname")}})
	l.addKeytab("--kvno", "1")
	_, c := l.check(l.caddyfile(l.usual()...))
	l.wantCauses(c, "FAIL", "login", oneOfThree...).mentions(t, `--salt "CORP.EXAMPLEoldname"`)
	// The remedy fixes it.
	l.addKeytab("--kvno", "1", "--salt", "CORP.EXAMPLEoldname")
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantOK(text, c)
}

func TestCheck_KDCWithoutUDP(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	l.KDC.Use(kdctest.StreamOnly())
	_, c := l.check(l.caddyfile(l.usual()...))
	l.wantCauses(c, "warn", "reachability").mentions(t, "use_tcp")
	text, c := l.check(l.caddyfile(l.usual("use_tcp")...))
	l.wantOK(text, c)
}

func TestCheck_Clock(t *testing.T) {
	for name, row := range map[string]struct {
		kdc, upstream      time.Duration
		status, step, text string
	}{
		"the KDC's and the upstream's":      {time.Hour, time.Hour, "warn", "clock", "1h0m0s ahead of ours"},
		"the upstream's":                    {0, 20 * time.Minute, "warn", "upstream", "20m0s ahead of ours"}, // Caddy adjusts
		"the upstream's, days off":          {0, -50 * time.Hour, "FAIL", "upstream", "behind ours"},
		"the upstream's, before the ticket": {0, -20 * time.Minute, "FAIL", "upstream", "20m0s behind ours"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newCommandLab(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Now: func() time.Time { return time.Now().Add(row.upstream) }}})
			l.KDC.JumpClock(row.kdc)
			_, c := l.check(l.caddyfile(l.usual()...))
			l.wantCauses(c, row.status, row.step, diagnosis.CauseClock).mentions(t, row.text, "w32tm")
		})
	}
}

func TestCheck_ServiceKeyChanged(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	l.Web.ChangeKey(false) // the upstream has the keytab from before
	_, c := l.check(l.caddyfile(l.usual()...))
	l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged).mentions(t, "of version 2")
	t.Run("and which gives no reason", func(t *testing.T) {
		l.T = t
		l.UpdateAcceptor(func(cfg *kdctest.AcceptorConfig) { cfg.BareRefusals = true })
		_, c := l.check(l.caddyfile(l.usual()...))
		l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged, diagnosis.CauseUserMayNotEnter)
	})
}

func TestCheck_ChannelBindingRequired(t *testing.T) {
	cert, ca := labCertificate(t)
	for name, bare := range map[string]bool{"with a reason": false, "with a bare 401": true} {
		t.Run(name, func(t *testing.T) {
			l := newCommandLab(t, caddytest.Options{
				Acceptor: kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire, BareRefusals: bare},
				Upstream: kdctest.UpstreamConfig{Certificate: cert},
			})
			trust := "tls_trust_pool file " + l.Write("ca.pem", ca)
			_, c := l.check(l.caddyfile(l.usual(trust, "channel_binding off")...))
			l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseChannelBinding).mentions(t, "Extended Protection", "channel_binding")
			text, c := l.check(l.caddyfile(l.usual(trust)...))
			l.wantOK(text, c)
		})
	}
}

func TestCheck_Impersonation(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService)}})
	l.Realm.AddUser("alice", "x")
	l.Realm.AddUser("boss", "x", kdctest.With(kdctest.NotDelegable))
	file := l.site(
		caddytest.Block("basic_auth", "alice $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"),
		caddytest.Block("reverse_proxy "+l.Upstream.URL(), caddytest.Block("transport negotiate", l.usual("impersonate {http.auth.user.id}")...)))

	text, c := l.check(file, "--user", "alice")
	l.wantOK(text, c)
	if !strings.Contains(text, "as alice@CORP.EXAMPLE: 200") {
		t.Errorf("the upstream did not see alice:\n%s", text)
	}
	_, c = l.check(file, "--user", "boss")
	l.wantCauses(c, "FAIL", "delegation", diagnosis.CauseUserNotDelegable).mentions(t, "Protected Users")
	_, c = l.check(file, "--user", "unknown")
	l.wantCauses(c, "FAIL", "delegation", diagnosis.CauseUserUnknown)

	l.Proxy.Set(kdctest.Without(kdctest.TrustedToAuth))
	_, c = l.check(file, "--user", "alice")
	l.wantCauses(c, "FAIL", "delegation", diagnosis.CauseAccountNotTrusted, diagnosis.CauseUserNotDelegable).mentions(t, "TrustedToAuthForDelegation")
	l.Proxy.Set(kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/else.corp.example"))
	_, c = l.check(file, "--user", "alice")
	l.wantCauses(c, "FAIL", "delegation", diagnosis.CauseNotInDelegationList).mentions(t, "msDS-AllowedToDelegateTo")
}

func TestCheck_HTTP2Refused(t *testing.T) {
	cert, ca := labCertificate(t)
	l := newCommandLab(t, caddytest.Options{Upstream: kdctest.UpstreamConfig{Certificate: cert}})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go resetLikeIIS(conn)
		}
	}()
	_, c := l.check(l.caddyfile(l.usual("tls_trust_pool file "+l.Write("ca.pem", ca), "versions 1.1 2")...), "--url", "https://"+listener.Addr().String()+"/")
	s := c.Steps[len(c.Steps)-1]
	if s.Status != "FAIL" || s.Step != "upstream" || len(s.Causes) != 1 || s.Causes[0] != diagnosis.CauseHTTP2 || !strings.Contains(s.Remedy, "versions 1.1") {
		t.Errorf("got %+v", s)
	}
}

// resetLikeIIS answers every request over HTTP/2 with HTTP_1_1_REQUIRED.
func resetLikeIIS(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			err = framer.WriteRSTStream(frame.StreamID, http2.ErrCodeHTTP11Required)
		}
		if err != nil {
			return
		}
	}
}

func TestCheck_UpstreamWithoutNegotiate(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		status  string
		causes  []diagnosis.Cause
	}{
		"anonymous": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, "warn", nil},
		"NTLM only": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "NTLM")
			w.WriteHeader(http.StatusUnauthorized)
		}, "FAIL", []diagnosis.Cause{diagnosis.CauseNoNegotiate}},
	} {
		t.Run(name, func(t *testing.T) {
			l.T = t
			address := caddytest.Serve(t, &http.Server{Handler: tc.handler})
			_, c := l.check(l.caddyfile(l.usual()...), "--url", "http://"+address+"/x")
			l.wantCauses(c, tc.status, "upstream", tc.causes...)
		})
	}
	t.Run("nothing listens", func(t *testing.T) {
		l.T = t
		file := l.caddyfile(l.usual()...)
		l.Upstream.Stop()
		_, c := l.check(file)
		l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseUpstreamUnreachable)
	})
}

// An active health check that no token reaches makes Caddy answer 503: check fails as well.
func TestCheck_HealthCheck(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	handler := caddytest.Block("negotiate", append(l.usual(), "mutual_auth on")...)
	proxy := func(uri string) string { return caddytest.Block("reverse_proxy "+l.Upstream.Addr(), "health_uri "+uri) }
	_, c := l.check(l.site(handler, proxy("/health")))
	l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseConfiguration).mentions(t, "health check GET", "without a token", "401", "503", "transport negotiate")
	text, c := l.check(l.site(caddytest.Block("reverse_proxy "+l.Upstream.Addr(), "health_uri /health", caddytest.Block("transport negotiate", l.usual()...))))
	l.wantOK(text, c)
	if !strings.Contains(text, "/health with a token: 200") {
		t.Errorf("the health check is not reported:\n%s", text)
	}
}

// startAlias runs a name server with one host, which has an alias, and returns its address.
func startAlias(t *testing.T, alias, host string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if query.Unpack(buffer[:n]) != nil || len(query.Questions) != 1 {
				continue
			}
			q := query.Questions[0]
			name := dnsmessage.MustNewName(host)
			head := func(of dnsmessage.Name, kind dnsmessage.Type) dnsmessage.ResourceHeader {
				return dnsmessage.ResourceHeader{Name: of, Type: kind, Class: dnsmessage.ClassINET, TTL: 60}
			}
			answer := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true}, Questions: query.Questions}
			if q.Name.String() == alias {
				answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: head(q.Name, dnsmessage.TypeCNAME), Body: &dnsmessage.CNAMEResource{CNAME: name}})
			}
			if q.Type == dnsmessage.TypeA {
				answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: head(name, dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}})
			}
			if packed, err := answer.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// labCertificate is one for 127.0.0.1, and that of its authority.
func labCertificate(t *testing.T) (*tls.Certificate, []byte) {
	t.Helper()
	a := caddytest.NewAuthority(t)
	return a.Server(), a.PEM()
}
