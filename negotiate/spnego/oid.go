package spnego

import (
	"strconv"
	"strings"
)

// OID is an object identifier: the content octets of its DER encoding, without tag and length. It is comparable.
type OID string

// Mechanisms, and SPNEGO itself.
const (
	// SPNEGO frames a NegTokenInit (RFC 4178 3.2).
	SPNEGO OID = "\x2b\x06\x01\x05\x05\x02" // 1.3.6.1.5.5.2
	// KRB5 is Kerberos V5 (RFC 4121 1).
	KRB5 OID = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" // 1.2.840.113554.1.2.2
	// MSKRB5 is Kerberos V5 as Windows 2000 misspelt it, cutting 113554 down to 16 bits; later versions still name it
	// ([MS-SPNG] 3.1.5.2).
	MSKRB5 OID = "\x2a\x86\x48\x82\xf7\x12\x01\x02\x02" // 1.2.840.48018.1.2.2
	// KRB5UserToUser is user-to-user Kerberos ([MS-KILE] 3.1.5.1): named in Windows' hints, not spoken here.
	KRB5UserToUser OID = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x03" // 1.2.840.113554.1.2.2.3
	// NTLMSSP is NTLM, named only so that its choice can be told by name.
	NTLMSSP OID = "\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a" // 1.3.6.1.4.1.311.2.2.10
	// NEGOEX is Microsoft's extended negotiation ([MS-NEGOEX]), named in Windows' hints, not spoken here.
	NEGOEX OID = "\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e" // 1.3.6.1.4.1.311.2.2.30
)

// IsKerberos tells whether o stands for Kerberos V5, by its right name or by Microsoft's.
func (o OID) IsKerberos() bool { return o == KRB5 || o == MSKRB5 }

// String is the dotted form. Of octets that are no object identifier it is an empty string.
func (o OID) String() string {
	var b strings.Builder
	var arc uint64
	first := true
	for i := range len(o) {
		if arc > 1<<56 || arc == 0 && o[i] == 0x80 {
			return "" // wider than any arc in use, or padded
		}
		arc = arc<<7 | uint64(o[i]&0x7f)
		if o[i]&0x80 != 0 {
			continue
		}
		if first { // the first two arcs share one number (X.690 8.19.4)
			root := min(arc/40, 2)
			b.WriteString(strconv.FormatUint(root, 10))
			arc -= root * 40
			first = false
		}
		b.WriteByte('.')
		b.WriteString(strconv.FormatUint(arc, 10))
		arc = 0
	}
	if len(o) == 0 || o[len(o)-1]&0x80 != 0 {
		return "" // the last arc does not end
	}
	return b.String()
}
