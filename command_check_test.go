package caddynegotiate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestCheckSaysThatASoundSetupIsSound(t *testing.T) {
	l := newCommandLab(t, nil)
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantSound(text, c)
	for _, name := range []string{stepConfig, stepFiles, stepDiscovery, stepReach, stepClock, stepLogin, stepTicket, stepUpstream} {
		if !strings.Contains(text, "ok    "+name) {
			t.Errorf("no step %s in\n%s", name, text)
		}
	}
	for _, fact := range []string{"udp in", "tcp in", `salt "CORP.EXAMPLEsvc-proxy"`, "aes256-cts-hmac-sha1-96", "the upstream proved itself"} {
		if !strings.Contains(text, fact) {
			t.Errorf("%q is not told in\n%s", fact, text)
		}
	}
	if n := l.kdc.Counts().Clients["svc-proxy@CORP.EXAMPLE"].ASReqPreAuth; n != 2 {
		t.Errorf("%d proofs of the password for two runs, want one each", n)
	}
}

func TestCheckFindsSoundNamedIdentitiesAndHandlers(t *testing.T) {
	l := newCommandLab(t, nil)
	file := l.write("Caddyfile", caddyfile.Format(fmt.Appendf(nil, `{
	admin off
	auto_https off
	kerberos {
		realm CORP.EXAMPLE {
			kdc %s
		}
		identity intranet {
			user svc-proxy@CORP.EXAMPLE
			password_file %s
		}
	}
}
http://:0 {
	negotiate intranet {
		spn %s
		mutual_auth on
	}
	reverse_proxy %s
}
`, l.kdc.Addr(), l.write("password", []byte(labPassword+"\n")), labService, l.upstream.Addr())))
	text, c := l.check(file, "--identity", "intranet")
	l.wantSound(text, c)
	if !strings.Contains(text, "identity intranet") || !strings.Contains(text, "by the realm block") {
		t.Errorf("got\n%s", text)
	}
	if _, err := caddyKerberos(t, "check", "--config", file, "--identity", "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("unknown identity: %v", err)
	}
}

// The twelve broken set-ups.

func TestCheckNamesAWrongPassword(t *testing.T) {
	l := newCommandLab(t, nil)
	t.Setenv("LAB_PASSWORD", "wrong")
	_, c := l.check(l.caddyfile("user svc-proxy@CORP.EXAMPLE", "password {env.LAB_PASSWORD}", "kdc "+l.kdc.Addr(), "spn "+labService))
	s := l.wantCauses(c, statusFail, stepLogin, causeWrongPassword)
	if !strings.Contains(s.Remedy, "Set-ADAccountPassword") || !strings.Contains(s.Remedy, "kadmin") {
		t.Errorf("remedy %q", s.Remedy)
	}
}

func TestCheckNamesAKeytabWithAnOldKey(t *testing.T) {
	l := newCommandLab(t, nil)
	l.proxy.ChangePassword("another", false)
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepLogin, causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
	for _, want := range []string{"msDS-KeyVersionNumber", "version 1", "ktpass", "kadmin ktadd", "--salt"} {
		if !strings.Contains(s.Remedy, want) {
			t.Errorf("remedy without %q: %s", want, s.Remedy)
		}
	}
}

func TestCheckNamesAKeytabWithAWrongVersion(t *testing.T) {
	l := newCommandLab(t, nil)
	path := l.folder + "/mislabelled.keytab"
	if _, err := caddyKerberos(t, "keytab", "add", path, "--principal", "svc-proxy@CORP.EXAMPLE", "--kvno", "7",
		"--password-file", l.write("password", []byte(labPassword))); err != nil {
		t.Fatal(err)
	}
	l.keytab = path
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusWarn, stepLogin, causeKeytabVersion)
	if !strings.Contains(s.Text, "version 1") || !strings.Contains(s.Text, "version 7") {
		t.Errorf("text %q", s.Text)
	}
}

func TestCheckNamesAKeytabWithAWrongSalt(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.Salt("CORP.EXAMPLEoldname"))
	path := l.folder + "/unsalted.keytab"
	add := []string{"keytab", "add", path, "--principal", "svc-proxy@CORP.EXAMPLE", "--kvno", "1", "--password-file", l.write("password", []byte(labPassword))}
	if _, err := caddyKerberos(t, add...); err != nil {
		t.Fatal(err)
	}
	l.keytab = path
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepLogin, causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
	if !strings.Contains(s.Remedy, `--salt "CORP.EXAMPLEoldname"`) {
		t.Errorf("the remedy does not name the salt: %s", s.Remedy)
	}
	// The remedy mends it.
	if _, err := caddyKerberos(t, append(add, "--salt", "CORP.EXAMPLEoldname")...); err != nil {
		t.Fatal(err)
	}
	text, c := l.check(l.caddyfile(l.usual()...))
	l.wantSound(text, c)
}

func TestCheckNamesAKeytabWithRC4Only(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.ETypes(enctype.RC4_HMAC))
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepFiles, causeWeakKeys)
	if !strings.Contains(s.Text, "KB5073381") {
		t.Errorf("text %q", s.Text)
	}
}

func TestCheckNamesRC4WhereTheKDCRefusesIt(t *testing.T) {
	l := newCommandLab(t, nil)
	old := l.realm.AddUser("svc-old", labPassword, kdctest.ETypes(enctype.RC4_HMAC))
	l.keytab = l.writeKeytab("rc4.keytab", old)
	old.Set(kdctest.ETypes(enctype.AES256_CTS_HMAC_SHA1_96))
	old.ChangePassword(labPassword, false)
	_, c := l.check(l.caddyfile("user svc-old@CORP.EXAMPLE", "keytab "+l.keytab, "kdc "+l.kdc.Addr(), "spn "+labService, "encryption_types rc4-hmac", "allow_weak_crypto"))
	l.wantCauses(c, statusFail, stepLogin, causeWeakKeys)
}

func TestCheckNamesAnUnknownSPN(t *testing.T) {
	l := newCommandLab(t, nil)
	_, c := l.check(l.caddyfile(l.usual()...), "--spn", "HTTP/elsewhere.corp.example")
	s := l.wantCauses(c, statusFail, stepTicket, causeUnknownSPN)
	if !strings.Contains(s.Remedy, "setspn -Q HTTP/elsewhere.corp.example") || !strings.Contains(s.Remedy, "kadmin addprinc") {
		t.Errorf("remedy %q", s.Remedy)
	}
}

func TestCheckNamesAnSPNOnAnotherAccount(t *testing.T) {
	l := newCommandLab(t, nil)
	// The SPN has gone to another account; the upstream runs as the one before.
	l.realm.Remove(l.web)
	l.realm.AddUser("svc-other", "secret of the other", kdctest.SPN(labService))
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepUpstream, causeOtherAccount, causeServiceKey)
	for _, want := range []string{"setspn -Q HTTP/web.corp.example", "useAppPoolCredentials", "klist -k"} {
		if !strings.Contains(s.Remedy, want) {
			t.Errorf("remedy without %q: %s", want, s.Remedy)
		}
	}
}

func TestCheckNamesADeadKDC(t *testing.T) {
	l := newCommandLab(t, nil)
	file := l.caddyfile(l.usual()...)
	l.kdc.Stop()
	_, c := l.check(file)
	s := l.wantCauses(c, statusFail, stepReach, causeKDCDead)
	if !strings.Contains(s.Text, l.kdc.Addr()) || !strings.Contains(s.Text, "udp:") || !strings.Contains(s.Text, "tcp:") {
		t.Errorf("text %q", s.Text)
	}
}

func TestCheckWarnsOfOneDeadKDCOfTwo(t *testing.T) {
	l := newCommandLab(t, nil)
	dead := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{l.realm}})
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	dead.Stop()
	_, c := l.check(l.caddyfile(append(l.usual()[:2], "kdc "+dead.Addr()+" "+l.kdc.Addr(), "spn "+labService)...))
	l.wantCauses(c, statusWarn, stepReach, causeKDCDead)
}

func TestCheckWarnsOfAKDCWithoutUDP(t *testing.T) {
	l := newCommandLab(t, nil)
	l.kdc.Use(kdctest.StreamOnly())
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusWarn, stepReach)
	if !strings.Contains(s.Remedy, "use_tcp") {
		t.Errorf("remedy %q", s.Remedy)
	}
	text, c := l.check(l.caddyfile(l.usual("use_tcp")...))
	l.wantSound(text, c)
}

func TestCheckNamesAClockThatIsOff(t *testing.T) {
	l := newCommandLab(t, nil)
	t.Run("the KDC's and the upstream's", func(t *testing.T) {
		l.t = t
		l.kdc.JumpClock(time.Hour)
		ahead := func(cfg *kdctest.AcceptorConfig) { cfg.Now = func() time.Time { return time.Now().Add(time.Hour) } }
		if err := l.acceptor.Update(ahead); err != nil {
			t.Fatal(err)
		}
		_, c := l.check(l.caddyfile(l.usual()...))
		s := l.wantCauses(c, statusWarn, stepClock, causeClock)
		if !strings.Contains(s.Text, "1h0m0s ahead of ours") || !strings.Contains(s.Remedy, "w32tm") {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("the upstream's", func(t *testing.T) {
		l.t = t
		l.kdc.JumpClock(0)
		behind := func(cfg *kdctest.AcceptorConfig) {
			cfg.Now = func() time.Time { return time.Now().Add(-20 * time.Minute) }
		}
		if err := l.acceptor.Update(behind); err != nil {
			t.Fatal(err)
		}
		_, c := l.check(l.caddyfile(l.usual()...))
		s := l.wantCauses(c, statusFail, stepUpstream, causeClock)
		if !strings.Contains(s.Text, "20m0s behind ours") {
			t.Errorf("got %+v", s)
		}
	})
}

func TestCheckNamesAnUpstreamWhoseKeyHasChanged(t *testing.T) {
	l := newCommandLab(t, nil)
	l.web.ChangeKey(false) // the upstream has the keytab from before
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepUpstream, causeOtherAccount, causeServiceKey)
	if !strings.Contains(s.Text, "of version 2") {
		t.Errorf("the version to compare with is not told: %q", s.Text)
	}
	t.Run("and which gives no reason", func(t *testing.T) {
		l.t = t
		if err := l.acceptor.Update(func(cfg *kdctest.AcceptorConfig) { cfg.BareRefusals = true }); err != nil {
			t.Fatal(err)
		}
		_, c := l.check(l.caddyfile(l.usual()...))
		l.wantCauses(c, statusFail, stepUpstream, causeOtherAccount, causeServiceKey, causeNotAllowed)
	})
}

func TestCheckNamesChannelBindingThatIsDemandedAndOff(t *testing.T) {
	cert, ca := labCertificate(t)
	for name, bare := range map[string]bool{"with a reason": false, "with a bare 401": true} {
		t.Run(name, func(t *testing.T) {
			l := newCommandLab(t, func(a *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) {
				a.Bindings, a.BareRefusals, u.Certificate = kdctest.BindingsRequire, bare, &cert
			})
			trust := "tls_trust_pool file " + l.write("ca.pem", ca)
			_, c := l.check(l.caddyfile(l.usual(trust, "channel_binding off")...))
			s := l.wantCauses(c, statusFail, stepUpstream, causeBinding)
			if !strings.Contains(s.Text, "Extended Protection") || !strings.Contains(s.Remedy, "channel_binding") {
				t.Errorf("got %+v", s)
			}
			text, c := l.check(l.caddyfile(l.usual(trust)...))
			l.wantSound(text, c)
		})
	}
}

func TestCheckNamesAUserWhoMayNotBeDelegated(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService))
	l.realm.AddUser("alice", "x")
	l.realm.AddUser("boss", "x", kdctest.With(kdctest.NotDelegable))
	file := l.site(fmt.Sprintf("basic_auth {\n\t\talice $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n\t}\n\treverse_proxy %s {\n\t\ttransport negotiate {\n\t\t\t%s\n\t\t}\n\t}",
		l.upstream.URL(), strings.Join(l.usual("impersonate {http.auth.user.id}"), "\n\t\t\t")))

	text, c := l.check(file, "--user", "alice")
	l.wantSound(text, c)
	if !strings.Contains(text, "as alice@CORP.EXAMPLE: 200") {
		t.Errorf("the upstream did not see alice:\n%s", text)
	}
	_, c = l.check(file, "--user", "boss")
	s := l.wantCauses(c, statusFail, stepDelegation, causeUserFlag)
	if !strings.Contains(s.Remedy, "Protected Users") {
		t.Errorf("remedy %q", s.Remedy)
	}
	_, c = l.check(file, "--user", "nobody")
	l.wantCauses(c, statusFail, stepDelegation, causeUserUnknown)

	l.proxy.Set(kdctest.Without(kdctest.TrustedToAuth))
	_, c = l.check(file, "--user", "alice")
	s = l.wantCauses(c, statusFail, stepDelegation, causeOurFlag, causeUserFlag)
	if !strings.Contains(s.Remedy, "TrustedToAuthForDelegation") {
		t.Errorf("remedy %q", s.Remedy)
	}
	l.proxy.Set(kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/else.corp.example"))
	_, c = l.check(file, "--user", "alice")
	s = l.wantCauses(c, statusFail, stepDelegation, causeTarget)
	if !strings.Contains(s.Remedy, "msDS-AllowedToDelegateTo") {
		t.Errorf("remedy %q", s.Remedy)
	}
}

func TestCheckNamesATokenThatIsTooLong(t *testing.T) {
	l := newCommandLab(t, func(_ *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) {
		u.HeaderLimit = kdctest.ApacheHeaderLimit
	}, kdctest.AuthDataSize(12000))
	_, c := l.check(l.caddyfile(l.usual()...))
	s := l.wantCauses(c, statusFail, stepUpstream, causeTokenSize)
	if !strings.Contains(s.Remedy, "LimitRequestFieldSize") || !strings.Contains(s.Remedy, "MaxFieldLength") {
		t.Errorf("remedy %q", s.Remedy)
	}
}

func TestCheckWarnsOfTokensNearTheLimits(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.AuthDataSize(6000))
	_, c := l.check(l.caddyfile(l.usual()...))
	if s := l.wantCauses(c, statusWarn, stepUpstream); !strings.Contains(s.Text, "8190") {
		t.Errorf("got %+v", s)
	}
}

func TestCheckNamesATLSTerminatorBeforeTheUpstream(t *testing.T) {
	cert, ca := labCertificate(t)
	_, another := labCertificate(t)
	l := newCommandLab(t, func(a *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) {
		a.Bindings, u.Certificate = kdctest.BindingsAllow, &cert
	})
	// Bound to another certificate than the upstream sees.
	_, c := l.check(l.caddyfile(l.usual("tls_trust_pool file "+l.write("ca.pem", ca), "channel_binding cert "+l.write("another.pem", another))...))
	if s := l.wantCauses(c, statusFail, stepUpstream, causeBinding); !strings.Contains(s.Text, "terminates TLS") {
		t.Errorf("got %+v", s)
	}
}

// Configurations that load and cannot work.

func TestCheckFindsANegotiateThatReachesNoProxy(t *testing.T) {
	l := newCommandLab(t, nil)
	block := "negotiate {\n\t\t\t" + strings.Join(l.usual(), "\n\t\t\t") + "\n\t\t}"
	proxy := "reverse_proxy " + l.upstream.Addr()
	for name, body := range map[string]string{
		"beside a handle":   block + "\n\thandle {\n\t\t" + proxy + "\n\t}",
		"beside a route":    block + "\n\troute {\n\t\t" + proxy + "\n\t}",
		"in another":        "handle /a* {\n\t\t" + block + "\n\t\trespond ok\n\t}\n\thandle {\n\t\t" + proxy + "\n\t}",
		"after, in a route": "route {\n\t\t" + proxy + "\n\t\t" + block + "\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			_, c := l.check(l.site(body))
			var found []step
			for _, s := range c.Steps {
				if s.Status == statusFail {
					found = append(found, s)
				}
			}
			if len(found) != 1 || found[0].Step != stepConfig || len(found[0].Causes) != 1 || found[0].Causes[0] != causeRoute || !strings.Contains(found[0].Text, "Caddyfile:") {
				t.Errorf("got %+v", found)
			}
		})
	}
	for name, body := range map[string]string{
		"in the same site":          block + "\n\t" + proxy,
		"in the same handle":        "handle /a* {\n\t\t" + block + "\n\t\t" + proxy + "\n\t}",
		"before a route in a route": "route {\n\t\t" + block + "\n\t\troute {\n\t\t\t" + proxy + "\n\t\t}\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			text, c := l.check(l.site(body))
			l.wantSound(text, c)
		})
	}
}

func TestCheckFindsWhatTheHandlerCannotDo(t *testing.T) {
	l := newCommandLab(t, nil)
	block := "negotiate {\n\t\t\t" + strings.Join(l.usual(), "\n\t\t\t") + "\n\t\t}\n\t"
	for name, tc := range map[string]struct{ proxy, want, status string }{
		"two upstreams":  {"reverse_proxy " + l.upstream.Addr() + " 127.0.0.1:1", "replay", statusWarn},
		"retries":        {"reverse_proxy " + l.upstream.Addr() + " {\n\t\tlb_retries 2\n\t}", "replay", statusWarn},
		"health checks":  {"reverse_proxy " + l.upstream.Addr() + " {\n\t\thealth_uri /\n\t}", "health checks", statusWarn},
		"dropped header": {"reverse_proxy " + l.upstream.Addr() + " {\n\t\theader_up -Authorization\n\t}", "header_up", statusFail},
		"a second time":  {"reverse_proxy " + l.upstream.Addr() + " {\n\t\ttransport negotiate {\n\t\t\t" + strings.Join(l.usual(), "\n\t\t\t") + "\n\t\t}\n\t}", "transport negotiate", statusWarn},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			_, c := l.check(l.site(block + tc.proxy))
			found := false
			for _, s := range c.Steps {
				found = found || s.Step == stepConfig && s.Status == tc.status && strings.Contains(s.Text, tc.want)
			}
			if !found {
				t.Errorf("no %s about %q: %+v", tc.status, tc.want, c.Steps)
			}
		})
	}
}

func TestCheckFindsHTTP2TowardsIIS(t *testing.T) {
	cert, ca := labCertificate(t)
	l := newCommandLab(t, func(_ *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) { u.Certificate = &cert })
	trust := "tls_trust_pool file " + l.write("ca.pem", ca)
	_, c := l.check(l.caddyfile(l.usual(trust, "versions 1.1 2")...))
	l.wantCauses(c, statusWarn, stepConfig, causeHTTP2)
}

func TestCheckNamesAnUpstreamThatRefusesHTTP2(t *testing.T) {
	cert, ca := labCertificate(t)
	l := newCommandLab(t, func(_ *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) { u.Certificate = &cert })
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
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
	_, c := l.check(l.caddyfile(l.usual("tls_trust_pool file "+l.write("ca.pem", ca), "versions 1.1 2")...), "--url", "https://"+listener.Addr().String()+"/")
	s := c.Steps[len(c.Steps)-1]
	if s.Status != statusFail || s.Step != stepUpstream || len(s.Causes) != 1 || s.Causes[0] != causeHTTP2 || !strings.Contains(s.Remedy, "versions 1.1") {
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

func TestCheckFindsAnUpstreamWithoutAName(t *testing.T) {
	l := newCommandLab(t, nil)
	_, c := l.check(l.caddyfile("user svc-proxy@CORP.EXAMPLE", "keytab "+l.keytab, "kdc "+l.kdc.Addr()))
	if s := c.Steps[0]; s.Status != statusFail || s.Step != stepConfig || !strings.Contains(s.Remedy, "spn HTTP/") {
		t.Errorf("got %+v", s)
	}
}

func TestCheckTellsWhatDoesNotLoad(t *testing.T) {
	l := newCommandLab(t, nil)
	_, c := l.check(l.caddyfile(l.usual("keytab " + l.keytab)...))
	if s := l.wantCauses(c, statusFail, stepConfig, causeConfiguration); !strings.Contains(s.Text, "given twice") {
		t.Errorf("got %+v", s)
	}
	_, c = l.check(l.caddyfile(append(l.usual()[:1], "keytab /nowhere", "kdc "+l.kdc.Addr(), "spn "+labService)...))
	if s := l.wantCauses(c, statusFail, stepFiles, causeConfiguration); !strings.Contains(s.Text, "no such file") {
		t.Errorf("got %+v", s)
	}
	if _, err := caddyKerberos(t, "check", "--config", l.folder+"/nothing"); err == nil {
		t.Error("no error for a missing configuration")
	}
}

// What upstreams say.

func TestCheckTellsOfUpstreamsThatDoNotAuthenticate(t *testing.T) {
	l := newCommandLab(t, nil)
	for name, tc := range map[string]struct {
		handler       http.HandlerFunc
		status, cause string
	}{
		"anonymous": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, statusWarn, ""},
		"NTLM only": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "NTLM")
			w.WriteHeader(http.StatusUnauthorized)
		}, statusFail, causeNoNegotiate},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: tc.handler}
			go server.Serve(listener)
			defer server.Close()
			_, c := l.check(l.caddyfile(l.usual()...), "--url", "http://"+listener.Addr().String()+"/x")
			var causes []string
			if tc.cause != "" {
				causes = []string{tc.cause}
			}
			l.wantCauses(c, tc.status, stepUpstream, causes...)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		l.t = t
		file := l.caddyfile(l.usual()...)
		l.upstream.Stop()
		_, c := l.check(file)
		l.wantCauses(c, statusFail, stepUpstream, causeUnreachable)
	})
}

func TestCheckTellsOfUsersWhomTheUpstreamKnowsAndRefuses(t *testing.T) {
	l := newCommandLab(t, func(a *kdctest.AcceptorConfig, _ *kdctest.UpstreamConfig) { a.Refuse = kdctest.RefuseGoodWithAPRep })
	_, c := l.check(l.caddyfile(l.usual()...))
	l.wantCauses(c, statusWarn, stepUpstream, causeNotAllowed)
}

func TestCheckTellsOfUntrustedCertificates(t *testing.T) {
	cert, _ := labCertificate(t)
	l := newCommandLab(t, func(_ *kdctest.AcceptorConfig, u *kdctest.UpstreamConfig) { u.Certificate = &cert })
	_, c := l.check(l.caddyfile(l.usual()...))
	l.wantCauses(c, statusFail, stepUpstream, causeTLS)
}

// labCertificate is one for 127.0.0.1, that vouches for itself.
func labCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
