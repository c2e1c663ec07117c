package spake

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"filippo.io/edwards25519"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

type vector struct {
	EType                    enctype.ID
	Group                    messages.SPAKEGroup
	Key, W, X, Y, T, S, K    vectors.Hex
	Support, Challenge, Body vectors.Hex
	Transcript               vectors.Hex
	Keys                     []vectors.Hex
}

func rfc9588(t *testing.T) []vector {
	t.Helper()
	var file struct{ Vectors []vector }
	vectors.Load(t, "rfc9588.json", &file)
	return file.Vectors
}

// privateOf is a private value of the vectors in the form that the group has.
func privateOf(id messages.SPAKEGroup, x []byte) []byte {
	if id != messages.SPAKE_GROUP_EDWARDS25519 {
		return x
	}
	be := slices.Clone(x)
	slices.Reverse(be)
	n := new(big.Int).SetBytes(be)
	out := n.Rsh(n, 3).FillBytes(make([]byte, len(x))) // before the cofactor
	slices.Reverse(out)
	return out
}

func TestRFC9588Vectors(t *testing.T) {
	checked := make(map[messages.SPAKEGroup]int)
	for i, v := range rfc9588(t) {
		t.Run(fmt.Sprint(i, " ", v.EType, " group ", v.Group), func(t *testing.T) {
			key := must.OK(enctype.NewKey(v.EType, v.Key))(t)
			kdc := must.OK(newParty(KDC, v.Group, key, privateOf(v.Group, v.X)))(t)
			client := must.OK(newParty(Client, v.Group, key, privateOf(v.Group, v.Y)))(t)
			want := func(what string, got, want []byte) {
				t.Helper()
				if !bytes.Equal(got, want) {
					t.Errorf("%s is %x, want %x", what, got, want)
				}
			}
			want("w", client.w, v.W)
			want("T", kdc.Public(), v.T)
			want("S", client.Public(), v.S)
			for _, side := range []struct {
				*Party
				peer []byte
			}{{client, v.T}, {kdc, v.S}} {
				keys := must.OK(side.Keys(v.Support, v.Challenge, side.peer))(t)
				want("K", keys.result, v.K)
				want("transcript", keys.transcript, v.Transcript)
				for n, k := range v.Keys {
					got := must.OK(keys.Derive(uint32(n), v.Body))(t)
					want(fmt.Sprintf("K'[%d]", n), got.Bytes(), k)
				}
			}
		})
		checked[v.Group]++
	}
	for _, g := range Groups() {
		if checked[g] == 0 {
			t.Errorf("no vector of group %d", g)
		}
	}
}

func TestParty_SameKeyOnly(t *testing.T) {
	for _, id := range Groups() {
		for _, other := range []string{"secret", "wrong"} {
			right, _ := enctype.StringToKey(enctype.AES128_CTS_HMAC_SHA1_96, "secret", "salt", nil)
			maybe, _ := enctype.StringToKey(enctype.AES128_CTS_HMAC_SHA1_96, other, "salt", nil)
			kdc := must.OK(New(KDC, id, right, rand.Reader))(t)
			client := must.OK(New(Client, id, maybe, rand.Reader))(t)
			a := must.OK(kdc.Keys([]byte("s"), []byte("c"), client.Public()))(t)
			b := must.OK(client.Keys([]byte("s"), []byte("c"), kdc.Public()))(t)
			ka, _ := a.Derive(0, []byte("body"))
			kb, _ := b.Derive(0, []byte("body"))
			if ka.Equal(kb) != (other == "secret") {
				t.Errorf("group %d, %s password: the keys are the same: %v", id, other, ka.Equal(kb))
			}
			if k, _ := a.Derive(1, []byte("body")); k.Equal(ka) {
				t.Error("K'[1] is K'[0]")
			}
			if k, _ := a.Derive(0, []byte("another body")); k.Equal(ka) {
				t.Error("the body does not matter")
			}
			if c, _ := kdc.Keys([]byte("s"), []byte("another"), client.Public()); bytes.Equal(c.transcript, a.transcript) {
				t.Error("the challenge does not matter")
			}
		}
	}
}

// A public value for which the result is known beforehand would give the exchange away.
func TestParty_BadElements(t *testing.T) {
	key, _ := enctype.StringToKey(enctype.AES128_CTS_HMAC_SHA1_96, "secret", "salt", nil)
	notOnCurve := map[messages.SPAKEGroup][]byte{
		messages.SPAKE_GROUP_EDWARDS25519: append([]byte{2}, make([]byte, 31)...), // y = 2
		messages.SPAKE_GROUP_P256:         append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...),
	}
	for _, id := range Groups() {
		client := must.OK(New(Client, id, key, rand.Reader))(t)
		// w*M alone: what remains is the neutral element.
		neutral := must.OK(client.group.public(make([]byte, 32), client.w, constantM))(t)
		for name, peer := range map[string][]byte{
			"nothing": nil, "short": neutral[:31], "no point": notOnCurve[id],
			"infinity": {0}, "blinded neutral": neutral,
		} {
			if _, err := client.Keys(nil, nil, peer); !errors.Is(err, ErrElement) {
				t.Errorf("group %d, %s: %v", id, name, err)
			}
		}
	}
	edwardsClient, _ := New(Client, messages.SPAKE_GROUP_EDWARDS25519, key, rand.Reader)
	blind := newEdwards().blind(edwardsClient.w, constantM)
	// (0, -1), of order 2
	minusOne := append([]byte{0xec}, bytes.Repeat([]byte{0xff}, 31)...)
	minusOne[31] = 0x7f
	small := must.OK(new(edwards25519.Point).SetBytes(minusOne))(t)
	if _, err := edwardsClient.Keys(nil, nil, small.Add(small, blind).Bytes()); !errors.Is(err, ErrElement) {
		t.Errorf("small order: %v", err)
	}
	client, _ := New(Client, messages.SPAKE_GROUP_P256, key, rand.Reader)
	uncompressed := append([]byte{4}, make([]byte, 64)...)
	if _, err := client.Keys(nil, nil, uncompressed); !errors.Is(err, ErrElement) {
		t.Errorf("uncompressed: %v", err)
	}
}

func TestParty_Errors(t *testing.T) {
	key, _ := enctype.StringToKey(enctype.AES128_CTS_HMAC_SHA1_96, "secret", "salt", nil)
	if _, err := New(Client, messages.SPAKE_GROUP_P521, key, rand.Reader); err == nil || Supported(messages.SPAKE_GROUP_P521) {
		t.Error("P-521 is supported, it seems")
	}
	for _, id := range Groups() {
		if _, err := New(Client, id, key, strings.NewReader("short")); err == nil {
			t.Errorf("group %d: no error", id)
		}
		if _, err := New(Client, id, enctype.Key{}, rand.Reader); err == nil {
			t.Errorf("group %d: no key is fine, it seems", id)
		}
	}
}

func TestP256_PrivateBelowOrder(t *testing.T) {
	want := bytes.Repeat([]byte{7}, 32)
	got, err := p256{}.private(bytes.NewReader(append([]byte(p256Order), want...)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestParty_NotPrinted(t *testing.T) {
	key, _ := enctype.StringToKey(enctype.AES128_CTS_HMAC_SHA1_96, "secret", "salt", nil)
	p, _ := New(Client, messages.SPAKE_GROUP_P256, key, rand.Reader)
	q, _ := New(KDC, messages.SPAKE_GROUP_P256, key, rand.Reader)
	keys := must.OK(p.Keys(nil, nil, q.Public()))(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
		if s := fmt.Sprintf(verb, p); s != p.String() {
			t.Errorf("%s: %s", verb, s)
		}
		if s := fmt.Sprintf(verb, keys); s != keys.String() {
			t.Errorf("%s: %s", verb, s)
		}
	}
}
