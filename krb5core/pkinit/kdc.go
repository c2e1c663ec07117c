package pkinit

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// CertificateError means that a KDC's certificate is not one to trust.
type CertificateError struct {
	Certificate *x509.Certificate // nil if the KDC did not sign
	Err         error
}

func (e *CertificateError) Error() string {
	if e.Certificate == nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("the KDC's certificate %q, issued by %q: %v", e.Certificate.Subject, e.Certificate.Issuer, e.Err)
}

func (e *CertificateError) Unwrap() error { return e.Err }

// The reasons of a CertificateError beside those of package x509.
var (
	ErrNotKDC     = errors.New("it is not for a KDC: it has neither the name krbtgt/REALM nor the extended key usage id-pkinit-KPKdc (1.3.6.1.5.2.3.5)")
	ErrOtherRealm = errors.New("it is for another realm")
	errNoSigner   = errors.New("the KDC did not sign its Diffie-Hellman value")
	errKeyUsage   = errors.New("its key usage forbids signatures")
)

// keyPurposeKDC is id-pkinit-KPKdc.
var keyPurposeKDC = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 5}

// CheckKDC returns nil if the signer is a KDC of the realm (RFC 4556, Section 3.2.4): a trusted root
// has issued its certificate, which is valid at that time and names krbtgt/REALM. Instead of that
// name it may have, as those of Windows domain controllers, id-pkinit-KPKdc and the DNS name of the
// domain or of a host in it ([MS-PKCA], Section 3.1.5.2). Nil roots are the system's. It returns
// the CA that the chain ends in; else the error is a CertificateError.
func (s *Signed) CheckKDC(realm string, roots *x509.CertPool, at time.Time) (*x509.Certificate, error) {
	if s.Signer == nil {
		return nil, &CertificateError{Err: errNoSigner}
	}
	root, err := s.CheckChain(roots, at)
	if err == nil {
		err = isKDC(s.Signer, realm)
	}
	if err != nil {
		return nil, &CertificateError{s.Signer, err}
	}
	return root, nil
}

// CheckChain returns the root that has issued the certificate of the signer, whom there must be: it
// is valid at that time, and for signatures. Nil roots are the system's.
func (s *Signed) CheckChain(roots *x509.CertPool, at time.Time) (*x509.Certificate, error) {
	leaf := *s.Signer
	// Go does not know otherName, and counts a critical subjectAltName of nothing else as unhandled.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), func(id asn1.ObjectIdentifier) bool {
		return id.Equal(oidSubjectAltName)
	})
	between := x509.NewCertPool()
	for _, c := range s.others {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	switch {
	case err != nil:
		return nil, err
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, errKeyUsage
	}
	return chains[0][len(chains[0])-1], nil
}

func isKDC(c *x509.Certificate, realm string) error {
	purpose := slices.ContainsFunc(c.UnknownExtKeyUsage, func(id asn1.ObjectIdentifier) bool { return id.Equal(keyPurposeKDC) })
	names := namesOf(c).principals
	tgs := messages.Principal{Name: messages.TGSName(realm), Realm: realm}
	switch {
	case slices.ContainsFunc(names, tgs.Equal):
		return nil
	case !purpose:
		return ErrNotKDC
	case len(names) > 0:
		return fmt.Errorf("%w: it names %s, not %s", ErrOtherRealm, names[0], tgs)
	case slices.ContainsFunc(c.DNSNames, func(name string) bool { return inDomain(name, realm) }):
		return nil
	default:
		return fmt.Errorf("%w: it names %q, neither %s nor %s or a host in it", ErrOtherRealm, c.DNSNames, tgs, strings.ToLower(realm))
	}
}

// inDomain reports whether name is the domain, or a host in it.
func inDomain(name, domain string) bool {
	if strings.EqualFold(name, domain) {
		return true
	}
	host, parent, ok := strings.Cut(name, ".")
	return ok && host != "" && host != "*" && strings.EqualFold(parent, domain)
}
