package kdc

import (
	"bytes"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// proxyVectors are those of tests/vectors/ms-kkdcp.json.
type proxyVectors struct {
	Cases []struct {
		Name            string
		KerberosMessage vectors.Hex `json:"kerberos_message"`
		TargetDomain    *string     `json:"target_domain"`
		DCLocatorHint   *int32      `json:"dclocator_hint"`
		DER             vectors.Hex
	}
	MustFail []struct {
		Name string
		DER  vectors.Hex
	} `json:"must_fail"`
}

func readProxyVectors(t testing.TB) (v proxyVectors) {
	t.Helper()
	vectors.Load(t, "ms-kkdcp.json", &v)
	if len(v.Cases) == 0 || len(v.MustFail) == 0 {
		t.Fatal("there are no vectors")
	}
	return v
}

func TestProxyMessageVectors(t *testing.T) {
	file := readProxyVectors(t)
	for _, c := range file.Cases {
		want := ProxyMessage{Message: c.KerberosMessage}
		if c.TargetDomain != nil {
			want.TargetDomain = *c.TargetDomain
		}
		raw := c.DER
		got, err := ParseProxyMessage(raw)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if !bytes.Equal(got.Message, want.Message) || got.TargetDomain != want.TargetDomain {
			t.Errorf("%s: got %+v", c.Name, got)
		}
		if again := want.Append(nil); c.DCLocatorHint == nil && !bytes.Equal(again, raw) {
			t.Errorf("%s: written as %x", c.Name, again)
		}
		for n := range raw {
			if _, err := ParseProxyMessage(raw[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are taken for a message", c.Name, n)
			}
		}
		if _, err := ParseProxyMessage(append(raw, 0)); err == nil {
			t.Errorf("%s: a trailing byte is accepted", c.Name)
		}
	}
	for _, c := range file.MustFail {
		if got, err := ParseProxyMessage(c.DER); err == nil {
			t.Errorf("%s: got %+v", c.Name, got)
		}
	}
}

func FuzzParseProxyMessage(f *testing.F) {
	file := readProxyVectors(f)
	for _, c := range file.Cases {
		f.Add([]byte(c.DER))
	}
	for _, c := range file.MustFail {
		f.Add([]byte(c.DER))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseProxyMessage(raw)
		if err != nil {
			return
		}
		again, err := ParseProxyMessage(m.Append(nil))
		if err != nil || !bytes.Equal(again.Message, m.Message) || again.TargetDomain != m.TargetDomain {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
