package kdc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// proxyVectors are those of tests/vectors/ms-kkdcp.json.
type proxyVectors struct {
	Cases []struct {
		Name            string
		KerberosMessage string  `json:"kerberos_message"`
		TargetDomain    *string `json:"target_domain"`
		DCLocatorHint   *int32  `json:"dclocator_hint"`
		DER             string
	}
	MustFail []struct{ Name, DER string } `json:"must_fail"`
}

func readProxyVectors(t testing.TB) (v proxyVectors) {
	t.Helper()
	raw, err := os.ReadFile("../../tests/vectors/ms-kkdcp.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Cases) == 0 || len(v.MustFail) == 0 {
		t.Fatal("there are no vectors")
	}
	return v
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyMessageVectors(t *testing.T) {
	vectors := readProxyVectors(t)
	for _, c := range vectors.Cases {
		want := ProxyMessage{Message: unhex(t, c.KerberosMessage)}
		if c.TargetDomain != nil {
			want.TargetDomain = *c.TargetDomain
		}
		if c.DCLocatorHint != nil {
			want.DCLocatorHint, want.HasDCLocatorHint = *c.DCLocatorHint, true
		}
		raw := unhex(t, c.DER)
		got, err := ParseProxyMessage(raw)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if !bytes.Equal(got.Message, want.Message) || got.TargetDomain != want.TargetDomain ||
			got.DCLocatorHint != want.DCLocatorHint || got.HasDCLocatorHint != want.HasDCLocatorHint {
			t.Errorf("%s: got %+v", c.Name, got)
		}
		if again := want.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%s: written as %x", c.Name, again)
		}
		for n := range raw {
			if _, err := ParseProxyMessage(raw[:n]); err == nil {
				t.Errorf("%s: the first %d octets are taken for a message", c.Name, n)
			}
		}
		if _, err := ParseProxyMessage(append(raw, 0)); err == nil {
			t.Errorf("%s: a trailing octet is accepted", c.Name)
		}
	}
	for _, c := range vectors.MustFail {
		if got, err := ParseProxyMessage(unhex(t, c.DER)); err == nil {
			t.Errorf("%s: got %+v", c.Name, got)
		}
	}
}

func FuzzParseProxyMessage(f *testing.F) {
	vectors := readProxyVectors(f)
	for _, c := range vectors.Cases {
		f.Add(unhex(f, c.DER))
	}
	for _, c := range vectors.MustFail {
		f.Add(unhex(f, c.DER))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseProxyMessage(raw)
		if err != nil {
			return
		}
		again, err := ParseProxyMessage(m.Append(nil))
		if err != nil || !bytes.Equal(again.Message, m.Message) || again.TargetDomain != m.TargetDomain ||
			again.DCLocatorHint != m.DCLocatorHint || again.HasDCLocatorHint != m.HasDCLocatorHint {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
