// Package pkitest issues certificates for tests of PKINIT (RFC 4556): of KDCs, of clients, and ones
// that must be refused.
package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The extended key usages of RFC 4556, Sections 3.2.2 and 3.2.4.
var (
	ClientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 4}
	KDC        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 5}
)

// Spec is a certificate to be issued.
type Spec struct {
	Name        string               // the common name
	Principals  []messages.Principal // as id-pkinit-san
	UPN         string
	DNSNames    []string
	EKU         []asn1.ObjectIdentifier
	ECDSA       bool          // the key is of P-256 instead of RSA
	KeyUsage    x509.KeyUsage // 0 for digitalSignature
	NotBefore   time.Time     // zero for an hour ago
	NotAfter    time.Time     // zero for an hour from now
	CriticalSAN bool
}

// ForKDC is the certificate of a realm's KDC, as MIT's documentation makes it.
func ForKDC(realm string) Spec {
	return Spec{
		Name: "kdc of " + realm, Principals: []messages.Principal{{Name: messages.TGSName(realm), Realm: realm}}, EKU: []asn1.ObjectIdentifier{KDC},
	}
}

// ForClient is the certificate of a user.
func ForClient(name, realm string) Spec {
	p := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: realm}
	return Spec{Name: name, Principals: []messages.Principal{p}, EKU: []asn1.ObjectIdentifier{ClientAuth}}
}

// CA issues certificates.
type CA struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// Pair is a certificate with its key.
type Pair struct {
	Chain []*x509.Certificate // its own first, without the root
	Key   crypto.Signer
	CA    *CA // that has issued it
}

// rsaKeys are few: they take long to make.
var rsaKeys [3]func() *rsa.PrivateKey

func init() {
	for i := range rsaKeys {
		rsaKeys[i] = sync.OnceValue(func() *rsa.PrivateKey {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err)
			}
			return key
		})
	}
}

var serials struct {
	sync.Mutex
	last int64
}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return big.NewInt(time.Now().UnixNano() + serials.last)
}

// NewCA returns a root with an RSA key: Heimdal and Samba take no other.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	return issueCA(t, name, nil, time.Now())
}

// NewCAAt is NewCA at another time.
func NewCAAt(t testing.TB, name string, at time.Time) *CA {
	t.Helper()
	return issueCA(t, name, nil, at)
}

// Intermediate returns a CA below this one.
func (ca *CA) Intermediate(t testing.TB, name string) *CA {
	t.Helper()
	return issueCA(t, name, ca, time.Now())
}

func issueCA(t testing.TB, name string, by *CA, at time.Time) *CA {
	t.Helper()
	key := rsaKeys[0]()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: at.Add(-24 * time.Hour), NotAfter: at.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	return &CA{create(t, template, parent, key.Public(), signer), key}
}

func create(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Pool is a pool of the CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// File writes the CA's certificate.
func (ca *CA) File(t testing.TB) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "ca.pem"), certificates(ca.Certificate))
}

// Files writes the CA's certificate and key.
func (ca *CA) Files(t testing.TB) (cert, key string) {
	t.Helper()
	return (&Pair{Chain: []*x509.Certificate{ca.Certificate}, Key: ca.key}).Files(t)
}

// Revoke writes a CRL of the certificates.
func (ca *CA) Revoke(t testing.TB, revoked ...*Pair) string {
	t.Helper()
	list := &x509.RevocationList{Number: serial(), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, p := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: p.Chain[0].SerialNumber, RevocationTime: time.Now().Add(-time.Minute),
		})
	}
	raw, err := x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "crl.pem"), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: raw}))
}

// Issue issues a certificate.
func (ca *CA) Issue(t testing.TB, spec Spec) *Pair {
	t.Helper()
	var key crypto.Signer = rsaKeys[1]()
	if spec.ECDSA {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: spec.Name}, NotBefore: spec.NotBefore, NotAfter: spec.NotAfter,
		KeyUsage: spec.KeyUsage, UnknownExtKeyUsage: spec.EKU, BasicConstraintsValid: true,
	}
	if spec.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if san := spec.san(); san != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: spec.CriticalSAN, Value: san}}
	}
	return &Pair{Chain: []*x509.Certificate{create(t, template, ca.Certificate, key.Public(), ca.key)}, Key: key, CA: ca}
}

// san is a subjectAltName (RFC 5280, Section 4.2.1.6).
func (s Spec) san() []byte {
	other := func(dst []byte, kind string, value []byte) []byte {
		return der.Append(dst, der.Context(0), func(dst []byte) []byte {
			return der.AppendBytes(der.AppendOID(dst, []byte(kind)), der.Context(0), value)
		})
	}
	if len(s.Principals) == 0 && s.UPN == "" && len(s.DNSNames) == 0 {
		return nil
	}
	return der.Append(nil, der.TagSequence, func(dst []byte) []byte {
		for _, p := range s.Principals {
			name := messages.KRB5PrincipalName{Realm: p.Realm, PrincipalName: p.Name}
			dst = other(dst, "\x2b\x06\x01\x05\x02\x02", name.Marshal())
		}
		if s.UPN != "" {
			dst = other(dst, "\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03", der.AppendBytes(nil, der.TagUTF8String, []byte(s.UPN)))
		}
		for _, name := range s.DNSNames {
			dst = der.AppendBytes(dst, der.ContextPrimitive(2), []byte(name))
		}
		return dst
	})
}

// Below adds the CA to the chain.
func (p *Pair) Below(ca *CA) *Pair {
	return &Pair{append(slices.Clip(p.Chain), ca.Certificate), p.Key, p.CA}
}

// PEM returns the chain and the key.
func (p *Pair) PEM(t testing.TB) (chain, key []byte) {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return certificates(p.Chain...), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func certificates(all ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range all {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// PFX returns certificate and key as PKCS #12: with a password as Windows writes it, with 3DES and a
// SHA-1 MAC, else as OpenSSL does.
func (p *Pair) PFX(t testing.TB, password string) []byte {
	t.Helper()
	encoder := pkcs12.Modern
	if password != "" {
		encoder = pkcs12.LegacyDES
	}
	raw, err := encoder.Encode(p.Key, p.Chain[0], p.Chain[1:], password)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Files writes the chain and the key.
func (p *Pair) Files(t testing.TB) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	return p.Write(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
}

// Write replaces the files by the chain and the key.
func (p *Pair) Write(t testing.TB, cert, key string) (string, string) {
	t.Helper()
	chain, secret := p.PEM(t)
	return write(t, cert, chain), write(t, key, secret)
}

func write(t testing.TB, path string, content []byte) string {
	t.Helper()
	// Renamed into place, so that no reader sees half of it.
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}
