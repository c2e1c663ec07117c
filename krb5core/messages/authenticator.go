package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Authenticator proves that the sender of an AP-REQ knows the ticket's session key, now. CTime and CUSec together must be
// unique for the service.
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
type Authenticator struct {
	CRealm            string
	CName             PrincipalName
	Cksum             *Checksum
	CUSec             int32 // microseconds, 0 to 999999
	CTime             time.Time
	Subkey            enctype.Key
	SeqNumber         uint32 // of no meaning unless HasSeqNumber
	HasSeqNumber      bool
	AuthorizationData AuthorizationData
}

const tagAuthenticator = 2

// ParseAuthenticator reads an Authenticator from a decrypted plaintext, padding and all.
func ParseAuthenticator(b []byte) (*Authenticator, error) {
	return parsePadded(b, "Authenticator", readAuthenticator)
}

// Append appends the DER encoding.
func (a *Authenticator) Append(dst []byte) []byte {
	return appendApplication(dst, tagAuthenticator, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendGeneralString, a.CRealm)
		dst = der.AppendField(dst, 2, der.AppendValue, a.CName)
		if a.Cksum != nil {
			dst = der.AppendField(dst, 3, der.AppendValue, *a.Cksum)
		}
		dst = der.AppendField(dst, 4, der.AppendInt, a.CUSec)
		dst = der.AppendField(dst, 5, der.AppendTime, a.CTime)
		dst = appendOptionalKey(dst, 6, a.Subkey)
		if a.HasSeqNumber {
			dst = der.AppendField(dst, 7, der.AppendInt, a.SeqNumber)
		}
		return appendOptionalAuthorizationData(dst, 8, a.AuthorizationData)
	})
}

// Marshal returns the DER encoding.
func (a *Authenticator) Marshal() []byte { return a.Append(nil) }

func readAuthenticator(s *der.String, a *Authenticator) bool {
	var seq der.String
	if !readApplication(s, tagAuthenticator, &seq) ||
		!readConst(&seq, 0, PVNO) ||
		!der.ReadField(&seq, 1, der.ReadGeneralString, &a.CRealm) ||
		!der.ReadField(&seq, 2, readPrincipalName, &a.CName) ||
		!der.ReadOptional(&seq, 3, der.ReadPointer(readChecksum), &a.Cksum) ||
		!der.ReadField(&seq, 4, der.ReadInt32, &a.CUSec) ||
		!der.ReadField(&seq, 5, der.ReadTime, &a.CTime) ||
		!der.ReadOptional(&seq, 6, readKey, &a.Subkey) {
		return false
	}
	a.HasSeqNumber = der.Next(&seq, der.Context(7))
	return der.ReadOptional(&seq, 7, der.ReadUint32, &a.SeqNumber) &&
		der.ReadOptional(&seq, 8, readAuthorizationData, &a.AuthorizationData) &&
		der.SkipUnknown(&seq, 8)
}
