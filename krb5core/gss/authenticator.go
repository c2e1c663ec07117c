package gss

import (
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// [MS-KILE] 2.2.5 (KERB_AUTH_DATA_AP_OPTIONS) with KERB_AP_OPTIONS_CBT, little endian: the client
// supports channel bindings. An acceptor that accepts zero bindings from other clients then refuses
// them.
const apOptionsCBT = "\x00\x40\x00\x00"

// Sequence numbers have an INTEGER of four bytes and a sign bit of 0, which some acceptors misread.
const (
	seqFirst = 1 << 29
	seqMask  = 1<<29 - 1
)

const timeLen = len("20060102150405Z")

// authenticator is the plaintext of an authenticator with gaps to be filled in, each at a fixed
// place.
//
//	Authenticator   ::= [APPLICATION 2] SEQUENCE  {
//	        authenticator-vno       [0] INTEGER (5),
//	        crealm                  [1] Realm,
//	        cname                   [2] PrincipalName,
//	        cksum                   [3] Checksum OPTIONAL,
//	        cusec                   [4] Microseconds,
//	        ctime                   [5] KerberosTime,
//	        subkey                  [6] EncryptionKey OPTIONAL,
//	        seq-number              [7] UInt32 OPTIONAL,
//	        authorization-data      [8] AuthorizationData OPTIONAL
//	}
//
// (RFC 4120, Section 5.5.1)
type authenticator struct {
	plain []byte
	// Offsets of the gaps.
	bnd, cusec, ctime, subkey, seq int
	subkeyLen                      int
}

// newAuthenticator writes all of an authenticator that is the same for all tokens of a template.
// bindings adds the element by which Windows recognizes a client that supports channel bindings.
func newAuthenticator(cred *messages.Credential, checksum Checksum, bindings bool) authenticator {
	value := checksum.Append(nil)
	contents := messages.Authenticator{
		CRealm: cred.Client.Realm, CName: cred.Client.Name, Cksum: &messages.Checksum{Type: CKSUMTYPE_GSS, Value: value},
		CUSec: cusecFirst, CTime: Stamp{}.CTime(), Subkey: cred.Key, SeqNumber: seqFirst, HasSeqNumber: true,
	}
	last := 0 // bytes of authorization-data
	if bindings {
		contents.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(
			messages.AuthorizationDataElement{Type: messages.AD_AUTH_DATA_AP_OPTIONS, Value: []byte(apOptionsCBT)},
		)}
		n := len(contents.AuthorizationData.Marshal())
		last = der.HeaderLen(n) + n
	}
	a := authenticator{plain: contents.Marshal(), subkeyLen: len(cred.Key.Bytes())}
	// A field's value is the end of its encoding, so that gaps are found from the end. What lies
	// between them are headers of two bytes each, and the type of the subkey.
	a.seq = len(a.plain) - last - 4
	a.subkey = a.seq - 4 - a.subkeyLen
	a.ctime = a.subkey - 13 - timeLen
	a.cusec = a.ctime - 4 - 3
	a.bnd = a.cusec - 4 - len(value) + bndOffset
	clear(a.plain[a.subkey:][:a.subkeyLen])
	return a
}

// fill writes the authenticator to dst, which has its length, with all gaps filled in but the
// subkey, whose place it returns.
func (a *authenticator) fill(dst []byte, bindings *ChannelBindings, stamp Stamp, ctime *[timeLen]byte, seq uint32) (subkey []byte) {
	copy(dst, a.plain)
	if bindings != nil {
		copy(dst[a.bnd:], bindings[:])
	}
	cusec := dst[a.cusec : a.cusec+3]
	cusec[0], cusec[1], cusec[2] = byte(stamp.Cusec>>16), byte(stamp.Cusec>>8), byte(stamp.Cusec)
	copy(dst[a.ctime:], ctime[:])
	binary.BigEndian.PutUint32(dst[a.seq:], seqFirst|seq&seqMask)
	return dst[a.subkey : a.subkey+a.subkeyLen]
}

// anyBytesAreKeys reports whether any bytes make a key of the type, as with all but those of DES,
// which has parity and weak keys (RFC 3961, Section 6.2).
func anyBytesAreKeys(id enctype.ID) bool {
	switch id {
	case enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96,
		enctype.AES128_CTS_HMAC_SHA256_128, enctype.AES256_CTS_HMAC_SHA384_192,
		enctype.CAMELLIA128_CTS_CMAC, enctype.CAMELLIA256_CTS_CMAC, enctype.RC4_HMAC:
		return true
	default:
		return false
	}
}
