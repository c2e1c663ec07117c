package gss

import (
	"bytes"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// openAuthenticator does what the acceptor does: ticket, session key, authenticator.
func openAuthenticator(tb testing.TB, request []byte, serviceKey enctype.Key) (*messages.APReq, *messages.EncTicketPart, []byte) {
	tb.Helper()
	req := must.OK(messages.ParseAPReq(request))(tb)
	plain := must.OK(serviceKey.Decrypt(enctype.KEY_USAGE_TICKET, req.Ticket.EncPart.Cipher))(tb)
	ticket := must.OK(messages.ParseEncTicketPart(plain))(tb)
	plain = must.OK(ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, req.Authenticator.Cipher))(tb)
	return req, ticket, plain
}

func (c *mitContext) open(tb testing.TB) (*messages.APReq, *messages.EncTicketPart, *messages.Authenticator) {
	tb.Helper()
	token, err := ParseToken(c.initiatorToken(tb))
	if err != nil || token.ID != TOK_AP_REQ {
		tb.Fatalf("%v %+v", err, token)
	}
	serviceKey := keyOf(tb, vectors.Key{EType: c.Expect.APReq.Ticket.EType, Key: c.Expect.APReq.Ticket.ServiceKey})
	req, ticket, plain := openAuthenticator(tb, token.Body, serviceKey)
	authenticator := must.OK(messages.ParseAuthenticator(plain))(tb)
	if again := authenticator.Marshal(); !bytes.Equal(again, plain) {
		tb.Errorf("authenticator encoded again: %x", again)
	}
	return req, ticket, authenticator
}

func TestMIT_Tokens(t *testing.T) {
	for _, c := range mitContexts(t) {
		t.Run(c.Mech+" "+c.Target, func(t *testing.T) {
			req, ticket, authenticator := c.open(t)
			want := c.Expect.APReq.Authenticator
			if authenticator.CUSec != want.CUSec || !authenticator.CTime.Equal(want.CTime.Time) || authenticator.SeqNumber != want.Seq {
				t.Errorf("authenticator: %+v, want %+v", authenticator, want)
			}
			if !authenticator.Subkey.Equal(keyOf(t, want.Subkey)) || !ticket.Key.Equal(keyOf(t, c.Expect.APReq.Ticket.EncPart.Key)) {
				t.Error("keys differ")
			}
			if authenticator.Cksum.Type != CKSUMTYPE_GSS {
				t.Fatalf("checksum of type %d", authenticator.Cksum.Type)
			}
			expect := c.Expect.Checksum
			sum := Checksum{ChannelBindings(expect.Bnd), expect.Flags, expect.KRBCred}
			if encoded := sum.Append(nil); !bytes.Equal(encoded, authenticator.Cksum.Value) {
				t.Errorf("checksum %x, want %x", encoded, authenticator.Cksum.Value)
			}
			parsed := must.OK(ParseChecksum(authenticator.Cksum.Value))(t)
			if again := parsed.Append(nil); !bytes.Equal(again, authenticator.Cksum.Value) || !bytes.Equal(parsed.DelegatedCred, expect.KRBCred) {
				t.Errorf("checksum encoded again: %x", again)
			}
			for n := range authenticator.Cksum.Value {
				if _, err := ParseChecksum(authenticator.Cksum.Value[:n]); err == nil {
					t.Errorf("%d of %d bytes of the checksum pass", n, len(authenticator.Cksum.Value))
				}
			}
			if _, err := ParseChecksum(append(bytes.Clone(authenticator.Cksum.Value), "extension"...)); err != nil {
				t.Errorf("with an extension: %v", err)
			}
			bindings := must.OK(NewChannelBindings(c.CBAppData))(t)
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
	return Context{&replyKey{key: keyOf(tb, c.Expect.APReq.Ticket.EncPart.Key)}, Stamp{a.CTime.Unix(), a.CUSec}}
}

func TestMIT_APReps(t *testing.T) {
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
		rep := must.OK(messages.ParseAPRep(inner.Body))(t)
		plain := must.OK(sent.key.key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher))(t)
		part := must.OK(messages.ParseEncAPRepPart(plain))(t)
		if !bytes.Equal(rep.Marshal(), inner.Body) || !bytes.Equal(part.Marshal(), plain) {
			t.Errorf("encoded again: %x of %x", rep.Marshal(), part.Marshal())
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

func TestMIT_ForeignAPReps(t *testing.T) {
	c := mitContexts(t)[0]
	good, token := c.sent(t), c.acceptorToken()
	other := must.OK(enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, make([]byte, 32)))(t)
	short := must.OK(enctype.NewKey(enctype.AES128_CTS_HMAC_SHA1_96, make([]byte, 16)))(t)
	flipped := bytes.Clone(token)
	flipped[len(flipped)-20] ^= 1
	for _, tc := range []struct {
		name  string
		sent  Context
		token []byte
	}{
		{"another second", Context{good.key, Stamp{good.stamp.Second + 1, good.stamp.Cusec}}, token},
		{"another microsecond", Context{good.key, Stamp{good.stamp.Second, good.stamp.Cusec + 1}}, token},
		{"another key", Context{&replyKey{key: other}, good.stamp}, token},
		{"a key of another type", Context{&replyKey{key: short}, good.stamp}, token},
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
			t.Errorf("cut to %d bytes it verifies", n)
		}
	}
}

func TestVerifyToken_KRBError(t *testing.T) {
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
