package gss

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func TestParseToken_Invalid(t *testing.T) {
	good := AppendToken(nil, TOK_AP_REP, []byte{0x6f, 0})
	if token, err := ParseToken(good); err != nil || token.ID != TOK_AP_REP || !bytes.Equal(token.Body, []byte{0x6f, 0}) {
		t.Fatalf("%+v %v", token, err)
	}
	for name, b := range map[string][]byte{
		"empty":                  {},
		"text":                   []byte("garbage"),
		"NTLM":                   []byte("NTLMSSP\x00\x02\x00\x00\x00"),
		"cut":                    good[:len(good)-1],
		"more behind":            append(bytes.Clone(good), 0),
		"SPNEGO":                 {0x60, 0x08, 0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02},
		"no token ID":            append([]byte{0x60, 0x0b, 0x06, 0x09}, mechKRB5...),
		"MIC in a frame":         AppendToken(nil, 0x0404, []byte{0x6f, 0}),
		"another message inside": AppendToken(nil, TOK_AP_REP, []byte{0x7e, 0}),
		"no message inside":      AppendToken(nil, TOK_AP_REP, nil),
		"indefinite length":      {0x60, 0x80, 0x06, 0x09},
	} {
		if token, err := ParseToken(b); err == nil {
			t.Errorf("%s: taken for %+v", name, token)
		}
	}
}

// longFrame gives the frame of a token, its mechanism and its message lengths of five bytes.
func longFrame(t testing.TB, framed []byte) []byte {
	token := must.OK(ParseToken(framed))(t)
	mech := vectors.LongLengths(der.AppendOID(nil, []byte(mechKRB5)))
	body := append([]byte{byte(token.ID >> 8), byte(token.ID)}, vectors.LongLengths(token.Body)...)
	n := len(mech) + len(body)
	frame := []byte{0x60, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return slices.Concat(frame, mech, body)
}

func TestVerifyToken_LongLengths(t *testing.T) {
	for _, c := range mitContexts(t) {
		token := c.acceptorToken()
		if token == nil {
			continue
		}
		if err := c.sent(t).VerifyToken(longFrame(t, token)); err != nil {
			t.Errorf("%x: %v", token, err)
		}
	}
	e := messages.KRBError{ErrorCode: messages.KRB_AP_ERR_SKEW, STime: time.Unix(1e9, 0), Realm: "R", SName: messages.TGSName("R")}
	var got *messages.KRBError
	if err := (Context{}).VerifyToken(longFrame(t, AppendToken(nil, TOK_KRB_ERROR, e.Marshal()))); !errors.As(err, &got) || got.ErrorCode != e.ErrorCode {
		t.Errorf("KRB-ERROR: %v", err)
	}
}

func TestParseToken_OtherMechanism(t *testing.T) {
	token := AppendToken(nil, TOK_AP_REQ, []byte{0x6e, 0})
	other := bytes.Replace(token, []byte(mechKRB5), []byte("\x2a\x86\x48\x86\xf7\x12\x01\x02\x03"), 1)
	if _, err := ParseToken(other); !errors.Is(err, ErrOtherMechanism) {
		t.Error(err)
	}
	if _, err := ParseToken(token[:4]); errors.Is(err, ErrOtherMechanism) {
		t.Error(err)
	}
}

func FuzzParseToken(f *testing.F) {
	for _, c := range mitContexts(f) {
		for _, t := range c.Tokens {
			f.Add([]byte(t.Token))
		}
	}
	f.Add(AppendToken(nil, TOK_KRB_ERROR, []byte{0x7e, 0}))
	f.Add(longFrame(f, mitContexts(f)[0].acceptorToken()))
	sent := mitContexts(f)[0].sent(f)
	genuine := mitContexts(f)[0].acceptorToken()
	f.Fuzz(func(t *testing.T, b []byte) {
		if sent.VerifyToken(b) == nil && !bytes.HasSuffix(genuine, b[len(b)-100:]) {
			t.Fatalf("%x verifies", b)
		}
		token, err := ParseToken(b)
		if err != nil || len(token.Body) == len(b) {
			return
		}
		again, err := ParseToken(AppendToken(nil, token.ID, token.Body))
		if err != nil || again.ID != token.ID || !bytes.Equal(again.Body, token.Body) || !bytes.HasSuffix(b, token.Body) {
			t.Fatalf("%x is %+v, encoded again %+v (%v)", b, token, again, err)
		}
	})
}
