// Package messages holds the protocol data units of Kerberos V5 and their wire format: RFC 4120
// (the protocol), RFC 4556 and 6113 (pre-authentication and FAST), RFC 6806 (referrals), RFC 9588
// (SPAKE), [MS-KILE] and [MS-SFU] (what Windows adds).
//
// Each PDU is a struct that quotes its ASN.1, with a function ParseX that reads one complete
// encoding and a method Marshal that returns it. A function codeX lists the fields for both. What is
// read from a decrypted plaintext may be followed by padding. Parsing never panics, allocates no
// more than a small multiple of the input, and every failure wraps ErrMalformed.
//
// Conventions:
//
//   - An absent OPTIONAL field is Go's zero value: nil, "", the zero time.Time, the zero
//     enctype.Key, a PrincipalName whose NameString is nil. Where zero is a value of its own, a
//     HasX field reports whether it is there.
//   - Byte strings of a parsed message alias the input, which must not be changed afterwards.
//   - What a checksum or another party's key covers is never re-encoded: Ticket and KDCReqBody
//     keep the bytes that they were parsed from in Raw, and Marshal repeats those. Set Raw to nil
//     after changing such a struct.
//   - Writing is DER. Reading refuses what is not, but takes what deployed peers send: flags of
//     any length, unsigned integers sent as negative, unknown fields at a structure's end.
//   - Constants are spelt as they are registered.
//
// Structs with keys in them print the keys' encryption types only.
//
// Left out: KRB-SAFE, PACs, and all cryptography: this package says what is encrypted or summed,
// enctype does it and exchange decides. Begin with KDCReq, KDCRep
// and KRBError.
package messages
