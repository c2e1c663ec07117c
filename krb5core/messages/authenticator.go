package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Authenticator proves that the sender of an AP-REQ knows the ticket's session key, now. CTime and
// CUSec together must be unique for the service.
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

func ParseAuthenticator(b []byte) (*Authenticator, error) {
	return parsePadded(b, "Authenticator", codeAuthenticator)
}

func (a *Authenticator) Marshal() []byte { return der.AppendCoded(nil, codeAuthenticator, a) }

func codeAuthenticator(c *der.Codec, a *Authenticator) {
	c.Application(tagAuthenticator, func() {
		c.Const(0, PVNO)
		der.Field(c, 1, der.GeneralString, &a.CRealm)
		der.Field(c, 2, codePrincipalName, &a.CName)
		der.Optional(c, 3, a.Cksum != nil, der.Pointer(codeChecksum), &a.Cksum)
		der.Field(c, 4, der.Int32, &a.CUSec)
		der.Field(c, 5, der.Time, &a.CTime)
		der.Optional(c, 6, !a.Subkey.IsZero(), codeKey, &a.Subkey)
		der.OptionalHas(c, 7, &a.HasSeqNumber, der.Uint32, &a.SeqNumber)
		der.Optional(c, 8, a.AuthorizationData != nil, codeAuthorizationData, &a.AuthorizationData)
	})
}
