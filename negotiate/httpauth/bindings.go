package httpauth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

// Errors of channel bindings. For a certificate whose signature algorithm defines no
// binding (Ed25519) the error wraps gss.ErrNoEndPointHash.
var (
	// ErrNotTLS means that a connection is not encrypted, or that its handshake
	// has not shown a certificate.
	ErrNotTLS = errors.New("connection shows no certificate of the upstream to bind to")
	// ErrNoCertificate means that a file holds no certificate.
	ErrNoCertificate = errors.New("no certificate in PEM or DER")
)

// Binding is a channel binding.
type Binding struct {
	// Hashed is what a token has of it.
	Hashed gss.ChannelBindings
	// Data is the application data that was hashed, for a Kerberos client that hashes it itself.
	Data string
}

// Bindings computes tls-server-end-point channel bindings (RFC 5929, Section 4) and
// keeps them by certificate, because every request needs them. The zero value is ready
// for use, and safe for concurrent use.
type Bindings struct {
	mu   sync.RWMutex
	kept map[*x509.Certificate]result
}

type result struct {
	binding Binding
	err     error
}

// maxBindings is the number of certificates at which all are dropped.
const maxBindings = 128

// Of returns the bindings of the connection that state describes. They come from the
// certificate that the server has shown on this very connection, verified or not.
func (b *Bindings) Of(state *tls.ConnectionState) (Binding, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return Binding{}, ErrNotTLS
	}
	cert := state.PeerCertificates[0]
	b.mu.RLock()
	known, ok := b.kept[cert]
	b.mu.RUnlock()
	if !ok {
		known.binding, known.err = CertificateBinding(cert)
		b.mu.Lock()
		if b.kept == nil || len(b.kept) >= maxBindings {
			b.kept = make(map[*x509.Certificate]result)
		}
		b.kept[cert] = known
		b.mu.Unlock()
	}
	return known.binding, known.err
}

// CertificateBinding returns the binding of connections to a server that shows cert.
func CertificateBinding(cert *x509.Certificate) (b Binding, err error) {
	hash, err := gss.EndPointHash(cert)
	if err != nil {
		return b, err
	}
	data := gss.TLSServerEndPoint(hash)
	b.Hashed, err = gss.NewChannelBindings(data)
	if err == nil {
		b.Data = string(data)
	}
	return b, err
}

// PinnedBinding returns the binding of the first certificate in a PEM or DER file,
// which in a chain is the server's own. It is for upstreams behind a TLS terminator:
// they expect bindings to the terminator's certificate.
func PinnedBinding(file string) (binding Binding, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return binding, fmt.Errorf("reading the certificate for channel bindings: %w", err)
	}
	cert, err := firstCertificate(b)
	if err == nil {
		binding, err = CertificateBinding(cert)
	}
	if err != nil {
		return binding, fmt.Errorf("certificate file %s: %w", file, err)
	}
	return binding, nil
}

// firstCertificate parses the first certificate in b. It skips other PEM blocks, such
// as keys.
func firstCertificate(b []byte) (*x509.Certificate, error) {
	rest := b
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	if len(b) > 0 && b[0] == 0x30 { // SEQUENCE
		return x509.ParseCertificate(b)
	}
	return nil, ErrNoCertificate
}
