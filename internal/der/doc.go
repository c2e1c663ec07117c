// Package der reads and writes the part of DER (ITU-T X.690) that Kerberos, SPNEGO and the KDC
// proxy protocol use.
//
// Both directions are built from small functions of one shape each, which compose:
//
//   - a writer appends a value: func(dst []byte, v T) []byte (AppendInt, AppendOctetString,
//     AppendTime, ...);
//   - a reader takes a value off the front of a String and reports whether it was there and well
//     formed: func(s *String, out *T) bool (ReadInt32, ReadOctets, ReadTime, ...).
//
// AppendField and ReadField put any of them under an explicit context tag, which is how every field
// of a Kerberos structure is written; ReadOptional reads a field that may be absent.
//
// A [Codec] goes both ways: a structure lists its fields once, and the list serves to write and to
// read it.
//
// Writing is strict: minimal definite lengths, minimal integers. Reading is strict about the
// encoding (indefinite lengths are refused, and non-minimal ones except by ReadBER and
// ReadCodedBER; nothing reads beyond its parent) and lenient where deployed peers need it (RFC 4120, Section 7.5, and what Windows sends):
// KerberosFlags of any length, unsigned 32-bit integers sent as negative ones, and fields that a
// later revision put at a structure's end (SkipUnknown).
//
// Readers do not copy: byte strings alias the input, unless ReadCodedBER shortens a length. They allocate no more than a small multiple of
// the input's size, and recurse only as deep as the caller's structure does.
//
// Left out: the rest of BER, tags above 30, and every type that no protocol here uses. Begin with
// Codec.
package der
