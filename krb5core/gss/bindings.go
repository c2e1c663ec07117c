package gss

import (
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// ChannelBindings are GSS-API channel bindings as in the checksum: the MD5 of their encoding,
// called Bnd (RFC 4121, Section 4.1.1.2). The zero value means none.
type ChannelBindings [16]byte

// NewChannelBindings hashes channel bindings of application data without addresses: MD5 over two
// address types and lengths of zero each, the length of the data in 32 bits, little endian as all
// of these, and the data (RFC 4121, Section 4.1.1.2). The error wraps enctype.ErrNotApproved where
// FIPS 140 is enforced.
func NewChannelBindings(applicationData []byte) (ChannelBindings, error) {
	b := make([]byte, 16, 20+len(applicationData))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(applicationData)))
	sum, err := enctype.Digest(enctype.CKSUMTYPE_RSA_MD5, append(b, applicationData...))
	if err != nil {
		return ChannelBindings{}, err
	}
	return ChannelBindings(sum), nil
}

// TLSServerEndPoint is the application data of the bindings of a TLS connection (RFC 5929, Section
// 4): certHash is the hash of the server's certificate, as EndPointHash computes it.
func TLSServerEndPoint(certHash []byte) []byte {
	return append([]byte("tls-server-end-point:"), certHash...)
}

// TLSServerEndPointBindings are the bindings of a TLS connection, hashed.
func TLSServerEndPointBindings(certHash []byte) (ChannelBindings, error) {
	return NewChannelBindings(TLSServerEndPoint(certHash))
}
