package gss

import (
	"crypto/md5" // RFC 4121 4.1.1.2 prescribes it
	"encoding/binary"
)

// ChannelBindings are GSS-API channel bindings as they go into the checksum: the MD5 of their encoding, called Bnd (RFC 4121
// 4.1.1.2). The zero value means none.
type ChannelBindings [md5.Size]byte

// NewChannelBindings hashes channel bindings that have application data only, no addresses: MD5 over two address types and
// lengths of zero each, the length of the data in 32 bits, little endian as all of these, and the data (RFC 4121 4.1.1.2).
func NewChannelBindings(applicationData []byte) ChannelBindings {
	b := make([]byte, 16, 20+len(applicationData))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(applicationData)))
	return md5.Sum(append(b, applicationData...))
}

// TLSServerEndPointBindings are the bindings of a TLS connection (RFC 5929 4): certHash is the hash of the server's
// certificate, as EndPointHash computes it.
func TLSServerEndPointBindings(certHash []byte) ChannelBindings {
	return NewChannelBindings(append([]byte("tls-server-end-point:"), certHash...))
}
