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
// ([MS-SFU] 2.2.1)
type PAForUser struct {
	UserName    PrincipalName
	UserRealm   string
	Cksum       Checksum // KERB_CHECKSUM_HMAC_MD5 over ChecksumInput, TGT's session key, usage 17
	AuthPackage string   // S4UAuthPackage
}

// S4UAuthPackage is the one value of PAForUser.AuthPackage.
const S4UAuthPackage = "Kerberos"

// ChecksumInput is what Cksum covers: the name type as 32 bits, little endian, then the components of the name, the realm
// and the package, nothing between them ([MS-SFU] 2.2.1).
func (p *PAForUser) ChecksumInput() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.UserName.NameType))
	for _, component := range p.UserName.NameString {
		b = append(b, component...)
	}
	b = append(b, p.UserRealm...)
	return append(b, p.AuthPackage...)
}

// ParsePAForUser reads a PA-FOR-USER.
func ParsePAForUser(b []byte) (*PAForUser, error) { return parse(b, "PA-FOR-USER", readPAForUser) }

// Append appends the DER encoding.
func (p *PAForUser) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendValue, p.UserName)
		dst = der.AppendField(dst, 1, der.AppendGeneralString, p.UserRealm)
		dst = der.AppendField(dst, 2, der.AppendValue, p.Cksum)
		return der.AppendField(dst, 3, der.AppendGeneralString, p.AuthPackage)
	})
}

// Marshal returns the DER encoding.
func (p *PAForUser) Marshal() []byte { return p.Append(nil) }

func readPAForUser(s *der.String, p *PAForUser) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, readPrincipalName, &p.UserName) &&
		der.ReadField(&seq, 1, der.ReadGeneralString, &p.UserRealm) &&
		der.ReadField(&seq, 2, readChecksum, &p.Cksum) &&
		der.ReadField(&seq, 3, der.ReadGeneralString, &p.AuthPackage) &&
		der.SkipUnknown(&seq, 3)
}

// S4UOptions are the options of an S4UUserID. Bit 0 is the highest.
type S4UOptions uint32

// The bits of S4UOptions ([MS-SFU] 2.2.2).
const (
	KERB_S4U_OPTIONS_CHECK_LOGON_HOURS   S4UOptions = 0x40000000
	KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE S4UOptions = 0x20000000 // the reply's checksum has usage 27
)

// PAS4UX509User names the user of an S4U2Self request by name or certificate, bound to request and reply.
//
//	PA-S4U-X509-USER::= SEQUENCE {
//	        user-id         [0] S4UUserID,
//	        checksum        [1] Checksum
//	}
//
// ([MS-SFU] 2.2.2)
type PAS4UX509User struct {
	UserID   S4UUserID
	Checksum Checksum // over the encoding of UserID, subkey of the TGS-REQ, usage 26, or 27 in a reply
}

// ParsePAS4UX509User reads a PA-S4U-X509-USER.
func ParsePAS4UX509User(b []byte) (*PAS4UX509User, error) {
	return parse(b, "PA-S4U-X509-USER", readPAS4UX509User)
}

// Append appends the DER encoding.
func (p *PAS4UX509User) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendValue, &p.UserID)
		return der.AppendField(dst, 1, der.AppendValue, p.Checksum)
	})
}

// Marshal returns the DER encoding.
func (p *PAS4UX509User) Marshal() []byte { return p.Append(nil) }

func readPAS4UX509User(s *der.String, p *PAS4UX509User) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, readS4UUserID, &p.UserID) &&
		der.ReadField(&seq, 1, readChecksum, &p.Checksum) &&
		der.SkipUnknown(&seq, 1)
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
// ([MS-SFU] 2.2.2)
type S4UUserID struct {
	Nonce              uint32
	CName              PrincipalName
	CRealm             string
	SubjectCertificate []byte
	Options            S4UOptions // written unless 0

	// Raw is the encoding that the value was parsed from. Append repeats it; nil means to encode the fields.
	Raw []byte
}

// Append appends the DER encoding: Raw if there is one.
func (u *S4UUserID) Append(dst []byte) []byte {
	if u.Raw != nil {
		return append(dst, u.Raw...)
	}
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, u.Nonce)
		dst = appendOptionalName(dst, 1, u.CName)
		dst = der.AppendField(dst, 2, der.AppendGeneralString, u.CRealm)
		if u.SubjectCertificate != nil {
			dst = der.AppendField(dst, 3, der.AppendOctetString, u.SubjectCertificate)
		}
		if u.Options != 0 {
			dst = der.AppendField(dst, 4, der.AppendFlags, u.Options)
		}
		return dst
	})
}

// Marshal returns the DER encoding: Raw if there is one.
func (u *S4UUserID) Marshal() []byte { return u.Append(nil) }

func readS4UUserID(s *der.String, u *S4UUserID) bool {
	if !der.ReadRaw(s, &u.Raw) {
		return false
	}
	var seq der.String
	element := der.String(u.Raw)
	return der.ReadSequence(&element, &seq) &&
		der.ReadField(&seq, 0, der.ReadUint32, &u.Nonce) &&
		der.ReadOptional(&seq, 1, readPrincipalName, &u.CName) &&
		der.ReadField(&seq, 2, der.ReadGeneralString, &u.CRealm) &&
		der.ReadOptional(&seq, 3, der.ReadOctets, &u.SubjectCertificate) &&
		der.ReadOptional(&seq, 4, der.ReadFlags, &u.Options) &&
		der.SkipUnknown(&seq, 4)
}
