package gss

import (
	"bytes"
	"testing"
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

func FuzzParseToken(f *testing.F) {
	for _, c := range mitContexts(f) {
		for _, t := range c.Tokens {
			f.Add([]byte(t.Token))
		}
	}
	f.Add(AppendToken(nil, TOK_KRB_ERROR, []byte{0x7e, 0}))
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
		again := AppendToken(nil, token.ID, token.Body)
		if want := bytes.Replace(b, []byte(mechMSKRB5), []byte(mechKRB5), 1); !bytes.Equal(again, want) && !bytes.Equal(again, b) {
			t.Fatalf("%x encoded again is %x", b, again)
		}
	})
}
