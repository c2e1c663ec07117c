package pkinit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// The test vectors of RFC 8636, Section 8 and of MIT's and Heimdal's octetstring2key.
func TestKDF_Vectors(t *testing.T) {
	name := func(components ...string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, components...), Realm: "SU.SE"}
	}
	for want, id := range map[string]*messages.KDFAlgorithmID{
		"77ef4e48c420ae3fec75109d7981697eed5d295c90c62564f7bfd101fa9bc1d5": {KDFID: []byte(oidKDFSHA256)},
		"5ee50d675c809fe59e4a7762c54b65837547eafb159bd8cdc75ffca5911e4c41": nil,
	} {
		k := KDF{
			ID: id, EType: enctype.AES256_CTS_HMAC_SHA1_96, Client: name("lha"), TGS: name("krbtgt", "SU.SE"),
			ASReq: bytes.Repeat([]byte{0xaa}, 10), PASRep: bytes.Repeat([]byte{0xbb}, 9),
		}
		key := must.OK(k.ReplyKey(make([]byte, 256)))(t)
		if got := hex.EncodeToString(key.Bytes()); got != want {
			t.Errorf("%v: %s, want %s", id, got, want)
		}
	}
	k := KDF{ID: &messages.KDFAlgorithmID{KDFID: []byte(oidSHA256)}, EType: enctype.AES256_CTS_HMAC_SHA1_96}
	if _, err := k.ReplyKey(nil); !errors.Is(err, errKDF) {
		t.Errorf("another KDF: %v", err)
	}
}

func TestGroup_SharedSecret(t *testing.T) {
	for _, g := range groups {
		a, b := must.OK(g.Generate(rand.Reader))(t), must.OK(g.Generate(rand.Reader))(t)
		x, y := must.OK(a.Shared(b.Public.SubjectPublicKey))(t), must.OK(b.Shared(a.Public.SubjectPublicKey))(t)
		if !bytes.Equal(x, y) || len(x) < 32 {
			t.Errorf("%s: %x and %x", g, x, y)
		}
		if bytes.Equal(a.Public.SubjectPublicKey, b.Public.SubjectPublicKey) {
			t.Errorf("%s: two keys are one", g)
		}
	}
}

// Values whose secret everyone knows are refused: 0, 1, p-1, p, and what is no value.
func TestGroup_BadPublicValue(t *testing.T) {
	for _, g := range groups {
		key := must.OK(g.Generate(rand.Reader))(t)
		bad := [][]byte{nil, {2, 1, 0}, {2, 1, 1}, {2, 1, 0xff}, {4, 1, 2}, {2, 1, 2, 0}, {4, 0, 0}}
		var parameters [2][]byte
		if readPG(g.id.Parameters, &parameters) {
			p := bytes.Clone(parameters[0])
			minusOne := bytes.Clone(p)
			minusOne[len(p)-1]--
			bad = append(bad, p, minusOne)
		}
		for _, value := range bad {
			if secret, err := key.Shared(value); err == nil {
				t.Errorf("%s: %x is taken, %x", g, value, secret)
			}
		}
	}
}

func TestGroup_Demanded(t *testing.T) {
	withoutQ := groups[0].ID()
	var pg [2][]byte
	readPG(withoutQ.Parameters, &pg)
	withoutQ.Parameters = append([]byte{0x30, 0x82, 0x01, 0x08}, append(pg[0], pg[1]...)...)
	unknown := algorithm(oidSHA1)
	for name, c := range map[string]struct {
		list messages.TDDHParameters
		weak bool
		want string
		err  error
	}{
		"the KDC's order":       {messages.TDDHParameters{unknown, groups[3].ID(), groups[0].ID()}, false, "P-384", nil},
		"group 16":              {messages.TDDHParameters{groups[1].ID()}, false, "MODP group 16", nil},
		"without q":             {messages.TDDHParameters{withoutQ}, false, "MODP group 14", nil},
		"weak after good":       {messages.TDDHParameters{groups[4].ID(), groups[0].ID()}, false, "MODP group 14", nil},
		"weak alone":            {messages.TDDHParameters{groups[4].ID()}, false, "", ErrWeakGroup},
		"weak alone, allowed":   {messages.TDDHParameters{groups[4].ID()}, true, "MODP group 2", nil},
		"nothing that is known": {messages.TDDHParameters{unknown, {Algorithm: []byte(oidDHPublicNumber)}}, true, "", errNoGroup},
	} {
		g, err := Demanded(c.list, c.weak)
		if !errors.Is(err, c.err) || err == nil && g.String() != c.want {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}
