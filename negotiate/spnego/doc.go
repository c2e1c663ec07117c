// Package spnego reads and writes the two messages of SPNEGO (RFC 4178) that HTTP authentication
// carries (RFC 4559): the NegTokenInit of an initiator that offers Kerberos, with its first token
// in it, and the NegTokenResp of the acceptor.
//
// The initiator here knows one mechanism. So there is nothing to negotiate: the optimistic token is
// the only one, and no mechListMIC is computed or checked, since a list of one mechanism cannot be
// shortened by an attacker (RFC 4178, Section 5). An acceptor that chooses another mechanism (NTLM)
// is refused by the reader of NegTokenResp.SupportedMech.
//
// Reading is lenient where deployed acceptors need it ([MS-SPNG]): Kerberos under Microsoft's
// mistaken OID, the NegTokenInit2 that servers send as a hint, a raw Kerberos token instead of a
// NegTokenResp, lengths with more bytes than needed.
//
// Begin with AppendInitPrefix and ParseReply.
package spnego
