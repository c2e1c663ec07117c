package gss

import (
	"encoding/binary"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// [MS-KILE] 2.2.5 (KERB_AUTH_DATA_AP_OPTIONS) with KERB_AP_OPTIONS_CBT, little endian: the client knows channel bindings.
// An acceptor that is content with zero bindings elsewhere refuses them beside it.
const apOptionsCBT = "\x00\x40\x00\x00"

// Sequence numbers have an INTEGER of four octets, and no sign, which some acceptors mistake.
const (
	seqFirst = 1 << 29
	seqMask  = 1<<29 - 1
)

const timeLen = len("20060102150405Z")

// authenticator is the plaintext of an authenticator in which some octets are yet to be filled in, each at a fixed place.
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
// (RFC 4120 5.5.1)
type authenticator struct {
	plain []byte
	// Where the gaps begin.
	bnd, cusec, ctime, subkey, seq int
	subkeyLen                      int
}

// newAuthenticator writes all of an authenticator that a ticket and a configuration determine.
func newAuthenticator(cred *messages.Credential, cfg *TemplateConfig) authenticator {
	checksum := Checksum{Flags: cfg.Flags, DelegatedCred: cfg.DelegatedCred}
	value := checksum.Append(nil)
	a := authenticator{subkeyLen: len(cred.Key.Bytes())}

	// A field's value is the end of its encoding, so that gaps are found from there.
	b := der.AppendField(nil, 0, der.AppendInt, messages.PVNO)
	b = der.AppendField(b, 1, der.AppendGeneralString, cred.Client.Realm)
	b = der.AppendField(b, 2, der.AppendValue, cred.Client.Name)
	b = der.AppendField(b, 3, der.AppendValue, messages.Checksum{Type: CKSUMTYPE_GSS, Value: value})
	a.bnd = len(b) - len(value) + bndOffset
	b = der.AppendField(b, 4, der.AppendInt, cusecFirst)
	a.cusec = len(b) - 3
	b = der.AppendField(b, 5, der.AppendTime, Stamp{}.CTime())
	a.ctime = len(b) - timeLen
	b = der.Append(b, der.Context(6), func(b []byte) []byte {
		return appendKey(b, cred.Key.EType(), make([]byte, a.subkeyLen))
	})
	a.subkey = len(b) - a.subkeyLen
	b = der.AppendField(b, 7, der.AppendInt, seqFirst)
	a.seq = len(b) - 4
	if cfg.Bindings {
		b = der.Append(b, der.Context(8), messages.AuthorizationData{messages.IfRelevant(
			messages.AuthorizationDataElement{Type: messages.AD_AUTH_DATA_AP_OPTIONS, Value: []byte(apOptionsCBT)},
		)}.Append)
	}

	sequence := der.AppendBytes(nil, der.TagSequence, b)
	a.plain = der.AppendBytes(make([]byte, 0, len(sequence)+4), der.Application(2), sequence)
	shift := len(a.plain) - len(b)
	a.bnd += shift
	a.cusec += shift
	a.ctime += shift
	a.subkey += shift
	a.seq += shift
	return a
}

// appendKey appends a key of these octets.
//
//	EncryptionKey   ::= SEQUENCE {
//	        keytype         [0] Int32 -- actually encryption type --,
//	        keyvalue        [1] OCTET STRING
//	}
//
// (RFC 4120 5.2.9)
func appendKey(dst []byte, id enctype.ID, octets []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, id)
		return der.AppendField(dst, 1, der.AppendOctetString, octets)
	})
}

// fill writes the authenticator to dst, which has its length, gaps filled in but for the subkey, of which it returns the place.
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

// randomOctetsAreKeys tells whether any octets make a key of the type, as with all but those of DES, which has parity
// and weak keys (RFC 3961 6.2).
func randomOctetsAreKeys(id enctype.ID) bool {
	switch id {
	case enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96,
		enctype.AES128_CTS_HMAC_SHA256_128, enctype.AES256_CTS_HMAC_SHA384_192,
		enctype.CAMELLIA128_CTS_CMAC, enctype.CAMELLIA256_CTS_CMAC, enctype.RC4_HMAC:
		return true
	default:
		return false
	}
}

// checkCredential refuses what no token can be made of.
func checkCredential(cred *messages.Credential, cfg *TemplateConfig) error {
	switch {
	case cred.Key.IsZero() || len(cred.Ticket) == 0:
		return fmt.Errorf("ticket for %s has no session key or no ticket: get another", cred.Service)
	case cred.Client.IsZero():
		return fmt.Errorf("ticket for %s names no client", cred.Service)
	case len(cfg.DelegatedCred) > maxDelegated:
		return fmt.Errorf("delegated ticket of %d octets exceeds the %d of a GSS checksum", len(cfg.DelegatedCred), maxDelegated)
	case cfg.Flags&GSS_C_DELEG_FLAG != 0 != (cfg.DelegatedCred != nil):
		return fmt.Errorf("GSS_C_DELEG_FLAG and a delegated ticket go together")
	}
	return nil
}
