package negotiate

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// maxCertificate bounds the files of a certificate.
const maxCertificate = 1 << 20

// ErrNoCertificate is wrapped by the errors of a certificate that is not there yet.
var ErrNoCertificate = errors.New("no certificate")

// CertificateFiles are the files of a certificate: Cert and Key (PEM), or PFX (PKCS #12).
type CertificateFiles struct {
	Cert, Key string
	PFX       string
	// PFXPassword is the file of the password of PFX, empty for none.
	PFXPassword string
}

// paths are the files, the one with the certificate first.
func (f CertificateFiles) paths() []string {
	var all []string
	for _, path := range []string{f.Cert, f.Key, f.PFX, f.PFXPassword} {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}

// Read reads the certificate with its chain, and its key.
func (f CertificateFiles) Read() (*pkinit.Identity, error) {
	read := f.readPEM
	if f.PFX != "" {
		read = f.readPFX
	}
	chain, key, err := read()
	if err != nil {
		return nil, err
	}
	id, err := pkinit.NewIdentity(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.paths()[0], err)
	}
	return id, nil
}

func (f CertificateFiles) readPEM() ([]*x509.Certificate, crypto.PrivateKey, error) {
	cert, err := secretfile.Read(f.Cert, maxCertificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := secretfile.Read(f.Key, maxCertificate)
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, nil, fmt.Errorf("%s, %s: %w; both must be PEM, the certificate first in its file, and its key not encrypted", f.Cert, f.Key, err)
	}
	chain, err := chainOf(&pair)
	return chain, pair.PrivateKey, err
}

func (f CertificateFiles) readPFX() ([]*x509.Certificate, crypto.PrivateKey, error) {
	content, err := secretfile.Read(f.PFX, maxCertificate)
	if err != nil {
		return nil, nil, err
	}
	password := ""
	if f.PFXPassword != "" {
		if password, err = ReadPassword(f.PFXPassword); err != nil {
			return nil, nil, err
		}
	}
	key, leaf, chain, err := pkcs12.DecodeChain(content, password)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; it must be PKCS #12 with one key, and its password in the file after it", f.PFX, err)
	}
	return append([]*x509.Certificate{leaf}, chain...), key, nil
}

func chainOf(pair *tls.Certificate) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, raw := range pair.Certificate {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// NewestCertificate returns the one of the certificates that lasts longest, of those that can be
// used to log in.
func NewestCertificate(certificates []*tls.Certificate) (*pkinit.Identity, error) {
	var newest *pkinit.Identity
	err := ErrNoCertificate
	for _, pair := range certificates {
		chain, errOne := chainOf(pair)
		if errOne != nil {
			err = errOne
			continue
		}
		id, errOne := pkinit.NewIdentity(chain, pair.PrivateKey)
		switch {
		case errOne != nil:
			err = fmt.Errorf("%w that can be used: %w", ErrNoCertificate, errOne)
		case newest == nil || id.Leaf().NotAfter.After(newest.Leaf().NotAfter):
			newest = id
		}
	}
	if newest == nil {
		return nil, err
	}
	return newest, nil
}

// CertificateSecret logs in with the certificate of the files. They are read again when one of them
// changes.
func CertificateSecret(files CertificateFiles) Secret {
	paths := files.paths()
	return Secret{Kind: KindCertificate, Path: paths[0], more: paths[1:], certificate: files.Read}
}

// ManagedCertificateSecret logs in with a certificate that something else obtains and renews. It is
// looked up at each login, and need not be there before. The error of lookup wraps
// ErrNoCertificate.
func ManagedCertificateSecret(name string, lookup func() (*pkinit.Identity, error)) Secret {
	return Secret{Kind: KindCertificate, Path: name, certificate: lookup, managed: true}
}

// managedCertificate is where tickets come from by a certificate that is looked up at each login.
type managedCertificate struct {
	lookup func() (*pkinit.Identity, error)
	as     *krb5core.Account

	mu   sync.Mutex
	last *pkinit.Identity // nil if there was none yet
}

func newManagedCertificate(cfg *IdentityConfig, clock *krb5core.Clock) *managedCertificate {
	return &managedCertificate{
		lookup: cfg.Secret.certificate,
		as:     krb5core.NewCertificateAccount(cfg.Principal, cfg.Secret.certificate, clock),
	}
}

// reload reports whether the certificate has been renewed. One that is missing is the login's
// error.
func (m *managedCertificate) reload(context.Context) (changed bool, err error) {
	id, err := m.lookup()
	if err != nil {
		return false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.last != nil && !id.Equal(m.last)
	m.last = id
	return changed, nil
}

func (m *managedCertificate) owner() string                 { return "" }
func (m *managedCertificate) principal() messages.Principal { return m.as.Principal() }
func (m *managedCertificate) account() *krb5core.Account    { return m.as }

func (m *managedCertificate) tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error) {
	cred, err := s.Client.Login(ctx, m.as, budget)
	if err != nil {
		return nil, &LoginError{Kind: KindCertificate, Err: err}
	}
	return cred, nil
}

func (m *managedCertificate) held(*Settings, SPN) *messages.Credential { return nil }
func (m *managedCertificate) forget()                                  { m.as.Forget() }
