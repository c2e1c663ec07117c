package spnego

// OID is an object identifier: the content bytes of its DER encoding, without tag and length. It is
// comparable.
type OID string

// Mechanisms, and SPNEGO itself.
const (
	// SPNEGO frames a NegTokenInit (RFC 4178, Section 3.2).
	SPNEGO OID = "\x2b\x06\x01\x05\x05\x02" // 1.3.6.1.5.5.2
	// KRB5 is Kerberos V5 (RFC 4121, Section 1).
	KRB5 OID = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" // 1.2.840.113554.1.2.2
	// MSKRB5 is Kerberos V5 as Windows 2000 misspelt it, cutting 113554 down to 16 bits; later
	// versions still name it ([MS-SPNG], Section 3.1.5.2).
	MSKRB5 OID = "\x2a\x86\x48\x82\xf7\x12\x01\x02\x02" // 1.2.840.48018.1.2.2
	// NTLMSSP is NTLM, named only so that errors can name it.
	NTLMSSP OID = "\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a" // 1.3.6.1.4.1.311.2.2.10
)

// IsKerberos reports whether o is Kerberos V5, by the standard OID or Microsoft's.
func (o OID) IsKerberos() bool { return o == KRB5 || o == MSKRB5 }
