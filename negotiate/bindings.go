package negotiate

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

// Errors of channel bindings. A certificate for whose signature none are defined
// (Ed25519) gives one that wraps gss.ErrNoEndPointHash.
var (
	// ErrNotTLS means that a connection is not encrypted, or that no
	// handshake has shown a certificate on it.
	ErrNotTLS = errors.New("connection shows no certificate of the upstream to bind to")
	// ErrNoCertificate means that a file holds none.
	ErrNoCertificate = errors.New("no certificate in PEM or DER")
)

// Bindings computes tls-server-end-point channel bindings (RFC 5929 4) and keeps
// them per certificate, since they are asked for at every request. The zero
// Bindings is ready for use, by many goroutines.
type Bindings struct {
	mu   sync.RWMutex
	kept map[*x509.Certificate]bound
}

type bound struct {
	bindings gss.ChannelBindings
	err      error
}

// maxBindings is how many certificates are remembered; then all are forgotten.
const maxBindings = 128

// Of returns the bindings of the connection that state describes: those of the
// certificate which the server has shown in this very connection, whatever has
// verified it.
func (b *Bindings) Of(state *tls.ConnectionState) (gss.ChannelBindings, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return gss.ChannelBindings{}, ErrNotTLS
	}
	cert := state.PeerCertificates[0]
	b.mu.RLock()
	known, ok := b.kept[cert]
	b.mu.RUnlock()
	if !ok {
		known.bindings, known.err = CertificateBindings(cert)
		b.mu.Lock()
		if b.kept == nil || len(b.kept) >= maxBindings {
			b.kept = make(map[*x509.Certificate]bound)
		}
		b.kept[cert] = known
		b.mu.Unlock()
	}
	return known.bindings, known.err
}

// CertificateBindings returns the bindings of connections to a server that shows
// cert.
func CertificateBindings(cert *x509.Certificate) (gss.ChannelBindings, error) {
	hash, err := gss.EndPointHash(cert)
	if err != nil {
		return gss.ChannelBindings{}, err
	}
	return gss.TLSServerEndPointBindings(hash)
}

// PinnedBindings returns the bindings of the certificate in a file, PEM or DER:
// that of a TLS terminator which stands between us and the upstream, as far as
// the client the upstream thinks of is concerned. Of several the first counts,
// which in a chain is the server's own.
func PinnedBindings(file string) (gss.ChannelBindings, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return gss.ChannelBindings{}, fmt.Errorf("reading the certificate for channel bindings: %w", err)
	}
	cert, err := firstCertificate(b)
	if err != nil {
		return gss.ChannelBindings{}, fmt.Errorf("certificate file %s: %w", file, err)
	}
	bindings, err := CertificateBindings(cert)
	if err != nil {
		return gss.ChannelBindings{}, fmt.Errorf("certificate file %s: %w", file, err)
	}
	return bindings, nil
}

// firstCertificate parses the first certificate in b, skipping keys and whatever
// else PEM files hold.
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
