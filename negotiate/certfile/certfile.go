// Package certfile reads the certificates that accounts log in with (PKINIT) from files: PEM, and PKCS
// #12. Begin with [Files].
package certfile

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// maxCertificate bounds the files of a certificate.
const maxCertificate = 1 << 20

// ErrNone is wrapped by the errors of a certificate that is not there yet.
var ErrNone = errors.New("no certificate")

// Files are the files of a certificate: Cert and Key (PEM), or PFX (PKCS #12).
type Files struct {
	Cert, Key string
	PFX       string
	// PFXPassword is the file of the password of PFX, empty for none.
	PFXPassword string
}

// Paths are the files, the one with the certificate first.
func (f Files) Paths() []string {
	var all []string
	for _, path := range []string{f.Cert, f.Key, f.PFX, f.PFXPassword} {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}

// Read reads the certificate with its chain, and its key.
func (f Files) Read() (*pkinit.Identity, error) {
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
		return nil, fmt.Errorf("%s: %w", f.Paths()[0], err)
	}
	return id, nil
}

func (f Files) readPEM() ([]*x509.Certificate, crypto.PrivateKey, error) {
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

func (f Files) readPFX() ([]*x509.Certificate, crypto.PrivateKey, error) {
	content, err := secretfile.Read(f.PFX, maxCertificate)
	if err != nil {
		return nil, nil, err
	}
	password := ""
	if f.PFXPassword != "" {
		if password, err = secretfile.ReadPassword(f.PFXPassword); err != nil {
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

// Newest returns the one of the certificates that lasts longest, of those that can be
// used to log in.
func Newest(certificates []*tls.Certificate) (*pkinit.Identity, error) {
	var newest *pkinit.Identity
	err := ErrNone
	for _, pair := range certificates {
		chain, errOne := chainOf(pair)
		if errOne != nil {
			err = errOne
			continue
		}
		id, errOne := pkinit.NewIdentity(chain, pair.PrivateKey)
		switch {
		case errOne != nil:
			err = fmt.Errorf("%w that can be used: %w", ErrNone, errOne)
		case newest == nil || id.Leaf().NotAfter.After(newest.Leaf().NotAfter):
			newest = id
		}
	}
	if newest == nil {
		return nil, err
	}
	return newest, nil
}
