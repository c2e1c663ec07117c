package pkinit

import (
	"crypto/rand"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// No input makes Verify panic, and none passes for a content that its signer has not signed.
func FuzzVerify(f *testing.F) {
	ca := pkitest.NewCA(f, "test CA")
	spec := pkitest.ForKDC("KRB5.TEST")
	for _, ec := range []bool{true, false} {
		spec.ECDSA = ec
		pair := ca.Issue(f, spec).Below(ca)
		id := must.OK(NewIdentity(pair.Chain, pair.Key))(f)
		f.Add(must.OK(Sign(DHKeyData, []byte("content"), id, rand.Reader))(f))
	}
	f.Add(must.OK(Sign(DHKeyData, []byte("content"), nil, rand.Reader))(f))
	f.Fuzz(func(t *testing.T, cms []byte) {
		signed, err := Verify(DHKeyData, cms)
		if err == nil && signed.Signer != nil && string(signed.Content) != "content" && signed.Signer.CheckSignatureFrom(ca.Certificate) == nil {
			t.Errorf("%x", signed.Content)
		}
		if err == nil {
			_, _ = signed.CheckKDC("KRB5.TEST", ca.Pool(), ca.Certificate.NotAfter)
		}
	})
}

func TestVerify_Truncated(t *testing.T) {
	ca := pkitest.NewCA(t, "test CA")
	pair := ca.Issue(t, pkitest.ForKDC("KRB5.TEST"))
	cms := must.OK(Sign(AuthData, []byte("content"), must.OK(NewIdentity(pair.Chain, pair.Key))(t), rand.Reader))(t)
	if signed := must.OK(Verify(AuthData, cms))(t); string(signed.Content) != "content" || !signed.Signer.Equal(pair.Chain[0]) {
		t.Errorf("%+v", signed)
	}
	for n := range cms {
		if _, err := Verify(AuthData, cms[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(cms))
		}
	}
	if _, err := Verify(DHKeyData, cms); err == nil {
		t.Error("another content type is taken")
	}
	if _, err := Verify(AuthData, append(cms, 0)); err == nil {
		t.Error("a byte after it is taken")
	}
}

func TestNewIdentity(t *testing.T) {
	ca := pkitest.NewCA(t, "test CA")
	a, b := ca.Issue(t, pkitest.Spec{Name: "a", ECDSA: true, UPN: "a@corp.test"}), ca.Issue(t, pkitest.ForClient("b", "CORP.TEST"))
	if _, err := NewIdentity(a.Chain, b.Key); err == nil {
		t.Error("another certificate's key is taken")
	}
	if _, err := NewIdentity(nil, b.Key); err == nil {
		t.Error("no certificate is taken")
	}
	for want, pair := range map[string]*pkitest.Pair{"a@corp.test@CORP.TEST": a, "b@CORP.TEST": b} {
		names := must.OK(NewIdentity(pair.Chain, pair.Key))(t).Principals()
		if len(names) != 1 || names[0].Name.NameString[0]+"@"+names[0].Realm != want {
			t.Errorf("%v, want %s", names, want)
		}
	}
}
