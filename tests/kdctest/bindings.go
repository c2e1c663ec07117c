package kdctest

import (
	"crypto"
	_ "crypto/sha256" // certificate hashes
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// BindingsMode says how an acceptor treats channel bindings, modelled on IIS's
// Extended Protection (tokenChecking).
type BindingsMode int

const (
	// BindingsOff ignores them.
	BindingsOff BindingsMode = iota
	// BindingsAllow refuses wrong ones, and absent ones from a client that
	// claims to support them (KERB_AP_OPTIONS_CBT).
	BindingsAllow
	// BindingsRequire refuses wrong and absent ones.
	BindingsRequire
)

// EndPointBindings returns the MD5 of the GSS channel bindings of a server's
// certificate: tls-server-end-point (RFC 5929, Section 4) as application data of a
// structure without addresses (RFC 4121, Section 4.1.1.2). It returns false
// for a certificate whose signature names no hash, such as Ed25519, and if FIPS 140
// forbids MD5.
func EndPointBindings(cert *x509.Certificate) ([16]byte, bool) {
	h := endPointHash(cert.SignatureAlgorithm)
	if h == 0 {
		return [16]byte{}, false
	}
	d := h.New()
	d.Write(cert.Raw)
	data := d.Sum([]byte("tls-server-end-point:"))
	// Initiator and acceptor address: type 0, length 0 each.
	s := binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(data)))
	sum, err := enctype.Digest(enctype.CKSUMTYPE_RSA_MD5, append(s, data...))
	if err != nil { // FIPS 140 is enforced
		return [16]byte{}, false
	}
	return [16]byte(sum), true
}

// endPointHash returns the hash of the signature, with SHA-256 in place of MD5 and
// SHA-1 (RFC 5929, Section 4.1).
func endPointHash(alg x509.SignatureAlgorithm) crypto.Hash {
	switch alg {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		return crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}

// on returns the mode on a connection whose bindings are channel, nil if it has none.
func (m BindingsMode) on(channel *[16]byte) accept.BindingsMode {
	switch {
	case m == BindingsRequire:
		return accept.BindingsRequired
	case m == BindingsAllow && channel != nil:
		return accept.BindingsAuto
	default:
		return accept.BindingsOff
	}
}
