package kdctest_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const mutual = 2

// verifyAPRep checks that an AP-REP answers the authenticator.
func verifyAPRep(t *testing.T, cred *messages.Credential, message []byte, cusec int32) {
	t.Helper()
	rep, err := messages.ParseAPRep(message)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := cred.Key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	part, err := messages.ParseEncAPRepPart(plain)
	if err != nil || part.CUSec != cusec || part.Subkey.IsZero() {
		t.Errorf("got %+v, %v", part, err)
	}
}

func TestMutualAuthentication(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	i := &initiator{cred: s.ticket(t), flags: mutual}
	for _, quirk := range []bool{false, true} {
		if err := s.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.MicrosoftMech = quirk }); err != nil {
			t.Fatal(err)
		}
		peer, reply, err := s.acceptor.Accept(i.token(t), nil)
		if err != nil || peer.Principal != "alice@CORP.EXAMPLE" || !peer.SPNEGO {
			t.Fatalf("got %+v, %v", peer, err)
		}
		resp, m := message(t, reply)
		if resp.State != spnego.AcceptCompleted || (resp.SupportedMech == spnego.MSKRB5) != quirk {
			t.Errorf("answer %+v", resp)
		}
		verifyAPRep(t, i.cred, m, i.cusec)
	}
	peer, reply, err := s.acceptor.Accept(i.raw(t), nil)
	if err != nil || peer.SPNEGO || reply[0] != 0x60 {
		t.Fatalf("raw: %+v, %x, %v", peer, reply, err)
	}
	i.flags = 0
	if _, reply, err = s.acceptor.Accept(i.token(t), nil); err != nil {
		t.Fatal(err)
	}
	if resp, m := message(t, reply); resp.State != spnego.AcceptCompleted || m != nil {
		t.Errorf("unrequested answer %+v", resp)
	}
}

func TestRefusalHasKRBError(t *testing.T) {
	randomKey, err := enctype.GenerateKey(enctype.AES256_CTS_HMAC_SHA1_96, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		wrong func(t *testing.T, s *site, i *initiator)
		code  messages.ErrorCode
	}{
		{"replay", func(t *testing.T, s *site, i *initiator) {
			if _, _, err := s.acceptor.Accept(i.token(t), nil); err != nil {
				t.Fatal(err)
			}
			i.cusec--
		}, messages.KRB_AP_ERR_REPEAT},
		{
			"clock of the client", func(_ *testing.T, _ *site, i *initiator) { i.now = time.Now().Add(-6 * time.Minute) },
			messages.KRB_AP_ERR_SKEW,
		},
		{"ticket expired", func(t *testing.T, s *site, i *initiator) {
			i.now = time.Now().Add(11 * time.Hour)
			update(t, s, func(c *kdctest.AcceptorConfig) { c.Now = func() time.Time { return i.now } })
		}, messages.KRB_AP_ERR_TKT_EXPIRED},
		{"another version of the key", func(t *testing.T, s *site, _ *initiator) {
			s.web.ChangeKey(false)
			newKeytab(t, s, s.web)
		}, messages.KRB_AP_ERR_BADKEYVER},
		{"another key of that version", func(t *testing.T, s *site, _ *initiator) {
			s.web.Set(kdctest.KVNO(1))
			s.web.ChangeKey(false)
			newKeytab(t, s, s.web)
		}, messages.KRB_AP_ERR_MODIFIED},
		{"no key for the service", func(t *testing.T, s *site, _ *initiator) {
			newKeytab(t, s, s.realm.AddService("HTTP/other.corp.example"))
		}, messages.KRB_AP_ERR_NOT_US},
		{"another client's authenticator", func(_ *testing.T, _ *site, i *initiator) {
			i.change = func(a *messages.Authenticator) {
				a.CName = messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "bob")
			}
		}, messages.KRB_AP_ERR_BADMATCH},
		{
			"another session key", func(_ *testing.T, _ *site, i *initiator) { i.cred.Key = randomKey },
			messages.KRB_AP_ERR_MODIFIED,
		},
		{"another checksum", func(_ *testing.T, _ *site, i *initiator) {
			i.change = func(a *messages.Authenticator) { a.Cksum = nil }
		}, messages.KRB_AP_ERR_INAPP_CKSUM},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
			i := &initiator{cred: s.ticket(t), flags: mutual}
			c.wrong(t, s, i)
			_, reply, err := s.acceptor.Accept(i.token(t), nil)
			var refusal *kdctest.AcceptError
			if !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			resp, m := message(t, reply)
			e, err := messages.ParseKRBError(m)
			if resp.State != spnego.Reject || err != nil || e.ErrorCode != c.code || e.STime.IsZero() {
				t.Errorf("answer %+v with %v, %v", resp, e, err)
			}
			if n := s.acceptor.Counts().Refused[c.code.String()]; n != 1 {
				t.Errorf("counted %d", n)
			}
			update(t, s, func(c *kdctest.AcceptorConfig) { c.BareRefusals = true })
			i.cusec--
			if _, reply, err = s.acceptor.Accept(i.token(t), nil); err == nil || reply != nil {
				t.Errorf("bare: %x, %v", reply, err)
			}
		})
	}
}

func update(t *testing.T, s *site, change func(*kdctest.AcceptorConfig)) {
	t.Helper()
	if err := s.acceptor.Update(change); err != nil {
		t.Fatal(err)
	}
}

func newKeytab(t *testing.T, s *site, p *kdctest.Principal) {
	t.Helper()
	keys, err := s.realm.Keytab(p)
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(c *kdctest.AcceptorConfig) { c.Keytab = keys })
}

func TestChannelBindings(t *testing.T) {
	right, wrong := [16]byte{1}, [16]byte{2}
	for _, c := range []struct {
		name    string
		mode    kdctest.BindingsMode
		channel *[16]byte
		sent    [16]byte
		claims  bool
		ok      bool
	}{
		{"off, wrong", kdctest.BindingsOff, &right, wrong, true, true},
		{"allow, right", kdctest.BindingsAllow, &right, right, true, true},
		{"allow, wrong", kdctest.BindingsAllow, &right, wrong, false, false},
		{"allow, absent", kdctest.BindingsAllow, &right, [16]byte{}, false, true},
		{"allow, absent and claimed", kdctest.BindingsAllow, &right, [16]byte{}, true, false},
		{"allow, no TLS", kdctest.BindingsAllow, nil, wrong, false, true},
		{"require, right", kdctest.BindingsRequire, &right, right, false, true},
		{"require, absent", kdctest.BindingsRequire, &right, [16]byte{}, false, false},
		{"require, wrong", kdctest.BindingsRequire, &right, wrong, false, false},
		{"require, no TLS", kdctest.BindingsRequire, nil, [16]byte{}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, kdctest.AcceptorConfig{Bindings: c.mode}, kdctest.UpstreamConfig{})
			i := &initiator{cred: s.ticket(t), bindings: c.sent, claimsCBT: c.claims}
			peer, _, err := s.acceptor.Accept(i.token(t), c.channel)
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
			if err == nil && peer.ClaimsCBT != c.claims {
				t.Errorf("claim %v", peer.ClaimsCBT)
			}
		})
	}
}

func TestRefuseValidToken(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{Refuse: kdctest.RefuseGood}, kdctest.UpstreamConfig{})
	i := &initiator{cred: s.ticket(t), flags: mutual}
	if _, reply, err := s.acceptor.Accept(i.token(t), nil); err == nil || reply != nil {
		t.Errorf("got %x, %v", reply, err)
	}
	update(t, s, func(c *kdctest.AcceptorConfig) { c.Refuse = kdctest.RefuseGoodWithAPRep })
	_, reply, err := s.acceptor.Accept(i.token(t), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	_, m := message(t, reply)
	verifyAPRep(t, i.cred, m, i.cusec)
	if n := s.acceptor.Counts().Refused["policy"]; n != 2 {
		t.Errorf("counted %d", n)
	}
	refuse := false
	update(t, s, func(c *kdctest.AcceptorConfig) { c.RefuseWhen = func() bool { return refuse } })
	if _, _, err := s.acceptor.Accept(i.token(t), nil); err != nil {
		t.Errorf("after RefuseWhen returned false: %v", err)
	}
	refuse = true
	if _, _, err := s.acceptor.Accept(i.token(t), nil); err == nil {
		t.Error("accepted")
	}
}

func TestTruncatedToken(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	token := (&initiator{cred: s.ticket(t)}).token(t)
	for n := range token {
		if _, _, err := s.acceptor.Accept(token[:n], nil); err == nil {
			t.Fatalf("accepted with %d of %d bytes", n, len(token))
		}
	}
	ntlm := []byte("NTLMSSP\x00\x01\x00\x00\x00")
	if _, reply, err := s.acceptor.Accept(ntlm, nil); err == nil || reply != nil {
		t.Errorf("ntlm: %x, %v", reply, err)
	}
	if _, _, err := s.acceptor.Accept(token, nil); err != nil {
		t.Errorf("the whole token: %v", err)
	}
}

func FuzzAccept(f *testing.F) {
	realm := kdctest.NewRealm("R")
	keys, err := realm.Keytab(realm.AddService("HTTP/web"))
	if err != nil {
		f.Fatal(err)
	}
	a, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0x60, 0x00})
	f.Add(append(spnego.AppendInitPrefix(nil, 3), 1, 0, 0x6e))
	f.Fuzz(func(t *testing.T, token []byte) {
		if _, reply, err := a.Accept(token, nil); err == nil || bytes.Equal(reply, token) && len(token) > 0 {
			t.Errorf("accepted %x", token)
		}
	})
}
