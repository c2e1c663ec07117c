package pkinit

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// seeds reads a CA, and messages signed by KDCs that it has certified, or by none. They are fixed,
// because all processes of a fuzzer need the same.
func seeds(f *testing.F) *x509.Certificate {
	f.Helper()
	ca, rest := pem.Decode(must.OK(os.ReadFile("testdata/signed.pem"))(f))
	for {
		var cms *pem.Block
		if cms, rest = pem.Decode(rest); cms == nil {
			return must.OK(x509.ParseCertificate(ca.Bytes))(f)
		}
		f.Add(cms.Bytes)
	}
}

// No input makes Verify panic, and none passes for a content that its signer has not signed.
func FuzzVerify(f *testing.F) {
	ca := seeds(f)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	f.Fuzz(func(t *testing.T, cms []byte) {
		signed, err := Verify(DHKeyData, cms)
		if err != nil {
			return
		}
		// The CA has certified KDCs only, and they have signed nothing else.
		if _, err := signed.CheckKDC("KRB5.TEST", roots, ca.NotBefore.AddDate(1, 0, 0)); err == nil && string(signed.Content) != "content" {
			t.Errorf("%x", signed.Content)
		}
	})
}

// What is read as a SignedData is written as it was, and the attributes of its signers are read
// without a panic. Nothing is verified, so that this is fast.
func FuzzSignedData(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, cms []byte) {
		rest, s := der.String(cms), new(signedData)
		if !der.ReadCoded(&rest, codeContentInfo, s) {
			return
		}
		if again := der.AppendCoded(nil, codeContentInfo, s); !bytes.Equal(again, cms[:len(cms)-len(rest)]) {
			t.Errorf("%x", again)
		}
		for _, i := range s.signers {
			_ = i.checkAttributes(DHKeyData, nil)
		}
	})
}

// The signer of a forged message chooses its key: verifying with one of a megabit takes minutes.
func TestVerify_HugeKey(t *testing.T) {
	ca := pkitest.NewCA(t, "test CA")
	pair := ca.Issue(t, pkitest.ForKDC("KRB5.TEST"))
	n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 1<<20), big.NewInt(1))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: ca.Certificate.NotAfter}
	raw := must.OK(x509.CreateCertificate(rand.Reader, template, pair.Chain[0], &rsa.PublicKey{N: n, E: 1<<31 - 1}, pair.Key))(t)
	id := &Identity{chain: []*x509.Certificate{must.OK(x509.ParseCertificate(raw))(t)}, key: pair.Key}
	_, err := Verify(DHKeyData, must.OK(Sign(DHKeyData, []byte("content"), id, rand.Reader))(t))
	if !errors.Is(err, errCMS) {
		t.Error(err)
	}
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
