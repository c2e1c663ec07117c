package messages

import (
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PAForUser names the user for whom a service asks a ticket to itself (S4U2Self).
//
//	PA-FOR-USER     ::= SEQUENCE {
//	        userName        [0] PrincipalName,
//	        userRealm       [1] Realm,
//	        cksum           [2] Checksum,
//	        auth-package    [3] KerberosString
//	}
//
// ([MS-SFU], Section 2.2.1)
type PAForUser struct {
	UserName    PrincipalName
	UserRealm   string
	Cksum       Checksum // KERB_CHECKSUM_HMAC_MD5 over ChecksumInput, TGT's session key, usage 17
	AuthPackage string   // S4UAuthPackage
}

// S4UAuthPackage is the one value of PAForUser.AuthPackage.
const S4UAuthPackage = "Kerberos"

// ChecksumInput is what Cksum covers: the name type as 32 bits, little endian, then the components
// of the name, the realm and the package, nothing between them ([MS-SFU], Section 2.2.1).
func (p *PAForUser) ChecksumInput() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.UserName.NameType))
	for _, component := range p.UserName.NameString {
		b = append(b, component...)
	}
	b = append(b, p.UserRealm...)
	return append(b, p.AuthPackage...)
}

func ParsePAForUser(b []byte) (*PAForUser, error) { return parse(b, "PA-FOR-USER", codePAForUser) }
func (p *PAForUser) Marshal() []byte              { return der.AppendCoded(nil, codePAForUser, p) }

func codePAForUser(c *der.Codec, p *PAForUser) {
	c.Sequence(func() {
		der.Field(c, 0, codePrincipalName, &p.UserName)
		der.Field(c, 1, der.GeneralString, &p.UserRealm)
		der.Field(c, 2, codeChecksum, &p.Cksum)
		der.Field(c, 3, der.GeneralString, &p.AuthPackage)
	})
}

// S4UOptions are the options of an S4UUserID. Bit 0 is the highest.
type S4UOptions uint32

// The bits of S4UOptions ([MS-SFU], Section 2.2.2).
const (
	KERB_S4U_OPTIONS_CHECK_LOGON_HOURS   S4UOptions = 0x40000000
	KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE S4UOptions = 0x20000000 // the reply's checksum has usage 27
)

// PAS4UX509User names the user of an S4U2Self request by name or certificate, bound to request and
// reply.
//
//	PA-S4U-X509-USER::= SEQUENCE {
//	        user-id         [0] S4UUserID,
//	        checksum        [1] Checksum
//	}
//
// ([MS-SFU], Section 2.2.2)
type PAS4UX509User struct {
	UserID   S4UUserID
	Checksum Checksum // over the encoding of UserID, subkey of the TGS-REQ, usage 26, or 27 in a reply
}

func ParsePAS4UX509User(b []byte) (*PAS4UX509User, error) {
	return parse(b, "PA-S4U-X509-USER", codePAS4UX509User)
}

func (p *PAS4UX509User) Marshal() []byte { return der.AppendCoded(nil, codePAS4UX509User, p) }

func codePAS4UX509User(c *der.Codec, p *PAS4UX509User) {
	c.Sequence(func() {
		der.Field(c, 0, codeS4UUserID, &p.UserID)
		der.Field(c, 1, codeChecksum, &p.Checksum)
	})
}

// S4UUserID is what the checksum of a PAS4UX509User covers.
//
//	S4UUserID       ::= SEQUENCE {
//	        nonce                   [0] UInt32, -- the nonce in KDC-REQ-BODY
//	        cname                   [1] PrincipalName OPTIONAL,
//	        crealm                  [2] Realm,
//	        subject-certificate     [3] OCTET STRING OPTIONAL,
//	        options                 [4] BIT STRING OPTIONAL,
//	        ...
//	}
//
// ([MS-SFU], Section 2.2.2)
type S4UUserID struct {
	Nonce              uint32
	CName              PrincipalName
	CRealm             string
	SubjectCertificate []byte
	Options            S4UOptions // written unless 0

	// Raw is the encoding that the value was parsed from. Marshal repeats it; nil means to encode
	// the fields.
	Raw []byte
}

// Marshal returns the DER encoding: Raw if there is one.
func (u *S4UUserID) Marshal() []byte { return der.AppendCoded(nil, codeS4UUserID, u) }

func codeS4UUserID(c *der.Codec, u *S4UUserID) {
	c.Raw(&u.Raw, func() {
		c.Sequence(func() {
			der.Field(c, 0, der.Uint32, &u.Nonce)
			der.Optional(c, 1, !u.CName.IsZero(), codePrincipalName, &u.CName)
			der.Field(c, 2, der.GeneralString, &u.CRealm)
			der.Optional(c, 3, u.SubjectCertificate != nil, der.Octets, &u.SubjectCertificate)
			der.Optional(c, 4, u.Options != 0, der.Flags, &u.Options)
		})
	})
}
