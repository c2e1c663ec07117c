package kdctest

import (
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Flags of the GSS checksum (RFC 4121, Section 4.1.1.1).
const (
	gssDelegFlag  = 1
	gssMutualFlag = 2
)

// gssChecksumType is the cksumtype of RFC 4121, Section 4.1.1.
const gssChecksumType enctype.ChecksumType = 0x8003

// gssChecksum is the value of the authenticator's checksum (RFC 4121, Section 4.1.1).
//
//	0..3    number of bytes in Bnd: 16, little endian, as all here
//	4..19   Bnd: MD5 of the channel bindings, zero if there are none
//	20..23  flags
//	24..25  DlgOpt: 1        only with the delegation flag
//	26..27  length of Deleg
//	28..    Deleg: a KRB-CRED
type gssChecksum struct {
	bindings  [16]byte
	flags     uint32
	delegated *messages.Credential
}

// readChecksum reads the checksum of the authenticator, which GSS requires.
func (x *acceptance) readChecksum() error {
	sum := x.auth.Cksum
	if sum == nil || sum.Type != gssChecksumType {
		return refused(messages.KRB_AP_ERR_INAPP_CKSUM, "checksum is not of type 0x8003")
	}
	v := sum.Value
	if len(v) < 24 || binary.LittleEndian.Uint32(v) != 16 {
		return refused(messages.KRB_AP_ERR_BAD_INTEGRITY, "checksum 0x8003 is malformed")
	}
	copy(x.sum.bindings[:], v[4:20])
	x.sum.flags = binary.LittleEndian.Uint32(v[20:])
	if x.sum.flags&gssDelegFlag == 0 {
		return nil
	}
	v = v[24:]
	if len(v) < 4 || binary.LittleEndian.Uint16(v) != 1 {
		return refused(messages.KRB_AP_ERR_BAD_INTEGRITY, "delegation option of checksum 0x8003 is malformed")
	}
	size := int(binary.LittleEndian.Uint16(v[2:]))
	if len(v) < 4+size {
		return refused(messages.KRB_AP_ERR_BAD_INTEGRITY, "delegated credential is cut short")
	}
	cred, err := x.openCred(v[4 : 4+size])
	if err != nil {
		return refused(messages.KRB_AP_ERR_BAD_INTEGRITY, "delegated credential: "+err.Error())
	}
	x.sum.delegated = cred
	return nil
}

// openCred returns the one ticket of a KRB-CRED (RFC 4120, Section 3.6), which is
// encrypted with the session key.
func (x *acceptance) openCred(der []byte) (*messages.Credential, error) {
	cred, err := messages.ParseKRBCred(der)
	if err != nil {
		return nil, err
	}
	plain, err := x.ticket.Key.Decrypt(enctype.KEY_USAGE_KRB_CRED, cred.EncPart.Cipher)
	if err != nil {
		return nil, err
	}
	part, err := messages.ParseEncKrbCredPart(plain)
	if err != nil {
		return nil, err
	}
	if len(part.TicketInfo) != 1 || len(cred.Tickets) != 1 {
		return nil, messages.ErrMalformed
	}
	info := part.TicketInfo[0]
	return &messages.Credential{
		Client:    messages.Principal{Name: info.PName, Realm: info.PRealm},
		Service:   messages.Principal{Name: info.SName, Realm: info.SRealm},
		Key:       info.Key,
		AuthTime:  info.AuthTime,
		StartTime: info.StartTime,
		EndTime:   info.EndTime,
		RenewTill: info.RenewTill,
		Flags:     info.Flags,
		Ticket:    cred.Tickets[0].Marshal(),
	}, nil
}
