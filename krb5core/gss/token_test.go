package gss

import (
	"bytes"
	"strings"
	"testing"
)

func TestTokensOfOtherKindsAreRefused(t *testing.T) {
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

func TestChecksumsCutShortAreRefused(t *testing.T) {
	good := (&Checksum{Flags: GSS_C_DELEG_FLAG, DelegatedCred: []byte("cred")}).Append(nil)
	for n := range good {
		if _, err := ParseChecksum(good[:n]); err == nil {
			t.Errorf("checksum cut to %d octets was accepted", n)
		}
	}
	sum, err := ParseChecksum(append(good, "extension"...))
	if err != nil || string(sum.DelegatedCred) != "cred" {
		t.Errorf("with an extension: %+v %v", sum, err)
	}
	good[0] = 17 // length of Bnd
	if _, err := ParseChecksum(good); err == nil {
		t.Error("Bnd of 17 octets was accepted")
	}
}

func TestFlagsHaveNames(t *testing.T) {
	all := GSS_C_DELEG_FLAG | GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_CONF_FLAG | GSS_C_INTEG_FLAG |
		GSS_C_DCE_STYLE | GSS_C_IDENTIFY_FLAG | GSS_C_EXTENDED_ERROR_FLAG | 1<<31
	want := "deleg,mutual,replay,sequence,conf,integ,dce-style,identify,extended-error,0x80000000"
	if got := all.String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Flags(0).String(); strings.Contains(got, "0") {
		t.Error(got)
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

func FuzzParseChecksum(f *testing.F) {
	f.Add((&Checksum{Flags: GSS_C_MUTUAL_FLAG}).Append(nil))
	f.Add((&Checksum{Flags: GSS_C_DELEG_FLAG, DelegatedCred: []byte("cred")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sum, err := ParseChecksum(b); err == nil && !bytes.HasPrefix(b, sum.Append(nil)) {
			t.Fatalf("%x encoded again is %x", b, sum.Append(nil))
		}
	})
}
