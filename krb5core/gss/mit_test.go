package gss

import (
	"bytes"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// openAuthenticator does what the acceptor does: ticket, session key, authenticator.
func openAuthenticator(tb testing.TB, request []byte, serviceKey enctype.Key) (*messages.APReq, *messages.EncTicketPart, []byte) {
	tb.Helper()
	req, err := messages.ParseAPReq(request)
	if err != nil {
		tb.Fatal(err)
	}
	plain, err := serviceKey.Decrypt(enctype.KEY_USAGE_TICKET, req.Ticket.EncPart.Cipher)
	if err != nil {
		tb.Fatal(err)
	}
	ticket, err := messages.ParseEncTicketPart(plain)
	if err != nil {
		tb.Fatal(err)
	}
	plain, err = ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, req.Authenticator.Cipher)
	if err != nil {
		tb.Fatal(err)
	}
	return req, ticket, plain
}

func (c *mitContext) open(tb testing.TB) (*messages.APReq, *messages.EncTicketPart, *messages.Authenticator) {
	tb.Helper()
	token, err := ParseToken(c.initiatorToken(tb))
	if err != nil || token.ID != TOK_AP_REQ {
		tb.Fatalf("%v %+v", err, token)
	}
	serviceKey := vectorKey{c.Expect.APReq.Ticket.EType, c.Expect.APReq.Ticket.ServiceKey}.key(tb)
	req, ticket, plain := openAuthenticator(tb, token.Body, serviceKey)
	authenticator, err := messages.ParseAuthenticator(plain)
	if err != nil {
		tb.Fatal(err)
	}
	return req, ticket, authenticator
}

func TestTokensOfMITSayWhatTheyShould(t *testing.T) {
	for _, c := range mitContexts(t) {
		t.Run(c.Mech+" "+c.Target, func(t *testing.T) {
			req, ticket, authenticator := c.open(t)
			want := c.Expect.APReq.Authenticator
			if authenticator.CUSec != want.CUSec || !authenticator.CTime.Equal(want.CTime.Time) || authenticator.SeqNumber != want.Seq {
				t.Errorf("authenticator: %+v, want %+v", authenticator, want)
			}
			if !authenticator.Subkey.Equal(want.Subkey.key(t)) || !ticket.Key.Equal(c.Expect.APReq.Ticket.EncPart.Key.key(t)) {
				t.Error("keys differ")
			}
			if authenticator.Cksum.Type != CKSUMTYPE_GSS {
				t.Fatalf("checksum of type %d", authenticator.Cksum.Type)
			}
			sum, err := ParseChecksum(authenticator.Cksum.Value)
			if err != nil {
				t.Fatal(err)
			}
			expect := c.Expect.Checksum
			if !bytes.Equal(sum.Bindings[:], expect.Bnd) || sum.Flags != expect.Flags || !bytes.Equal(sum.DelegatedCred, expect.KRBCred) {
				t.Errorf("checksum: %+v, want %+v", sum, expect)
			}
			if again := sum.Append(nil); !bytes.Equal(again, authenticator.Cksum.Value) {
				t.Errorf("checksum encoded again: %x", again)
			}
			bindings, err := NewChannelBindings(c.CBAppData)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.CBAppData) > 0 && bindings != sum.Bindings {
				t.Errorf("bindings %x, want %x", bindings, sum.Bindings)
			}
			if again := AppendToken(nil, TOK_AP_REQ, req.Marshal()); !bytes.Equal(again, c.initiatorToken(t)) {
				t.Errorf("token encoded again: %x", again)
			}
		})
	}
}

// sent is the Context that we would have, had we sent MIT's token.
func (c *mitContext) sent(tb testing.TB) Context {
	tb.Helper()
	a := c.Expect.APReq.Authenticator
	return Context{&Template{key: c.Expect.APReq.Ticket.EncPart.Key.key(tb)}, Stamp{a.CTime.Unix(), a.CUSec}}
}

func TestAPRepsOfMITVerify(t *testing.T) {
	verified := 0
	for _, c := range mitContexts(t) {
		token := c.acceptorToken()
		if token == nil {
			continue
		}
		verified++
		sent := c.sent(t)
		if err := sent.VerifyToken(token); err != nil {
			t.Errorf("%s %s: %v", c.Mech, c.Target, err)
		}
		inner, err := ParseToken(token)
		if err != nil || inner.ID != TOK_AP_REP {
			t.Fatalf("%v %+v", err, inner)
		}
		if err := sent.VerifyToken(inner.Body); err != nil {
			t.Errorf("without frame: %v", err)
		}
		ms := bytes.Replace(token, []byte(mechKRB5), []byte(mechMSKRB5), 1)
		if err := sent.VerifyToken(ms); err != nil {
			t.Errorf("framed as Windows might: %v", err)
		}
	}
	if verified < 14 {
		t.Errorf("only %d AP-REPs among the vectors", verified)
	}
}

func TestAPRepsForOthersAreRefused(t *testing.T) {
	c := mitContexts(t)[0]
	good, token := c.sent(t), c.acceptorToken()
	other, err := enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	short, err := enctype.NewKey(enctype.AES128_CTS_HMAC_SHA1_96, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(token)
	flipped[len(flipped)-20] ^= 1
	for _, tc := range []struct {
		name  string
		sent  Context
		token []byte
	}{
		{"another second", Context{good.template, Stamp{good.stamp.Second + 1, good.stamp.Cusec}}, token},
		{"another microsecond", Context{good.template, Stamp{good.stamp.Second, good.stamp.Cusec + 1}}, token},
		{"another key", Context{&Template{key: other}, good.stamp}, token},
		{"a key of another type", Context{&Template{key: short}, good.stamp}, token},
		{"a bit flipped", good, flipped},
		{"nothing sent", Context{}, token},
		{"our own token", good, c.initiatorToken(t)},
		{"nothing", good, nil},
		{"a KRB-ERROR that is none", good, AppendToken(nil, TOK_KRB_ERROR, []byte{0x7e, 0})},
		{"an AP-REP that is none", good, AppendToken(nil, TOK_AP_REP, []byte{0x6f, 0})},
	} {
		if err := tc.sent.VerifyToken(tc.token); !errors.Is(err, ErrNotAuthenticated) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for n := range token {
		if good.VerifyToken(token[:n]) == nil {
			t.Errorf("cut to %d octets it verifies", n)
		}
	}
}

func TestKRBErrorsComeOutOfAcceptorsTokens(t *testing.T) {
	c := mitContexts(t)[0]
	want := messages.KRBError{
		STime: c.sent(t).stamp.CTime(), ErrorCode: messages.KRB_AP_ERR_SKEW, Realm: "KRB5.TEST",
		SName: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "web.krb5.test"),
	}
	for _, token := range [][]byte{AppendToken(nil, TOK_KRB_ERROR, want.Marshal()), want.Marshal()} {
		err := c.sent(t).VerifyToken(token)
		var got *messages.KRBError
		if !errors.As(err, &got) || got.Code() != messages.KRB_AP_ERR_SKEW || errors.Is(err, ErrNotAuthenticated) {
			t.Errorf("%v", err)
		}
	}
}
