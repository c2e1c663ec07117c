// Package gss is the initiator's side of the Kerberos V5 GSS-API mechanism (RFC 4121) as far as
// HTTP needs it: the first context token with its checksum 0x8003, channel bindings (RFC 5929,
// tls-server-end-point), a delegated ticket, and the acceptor's answer, an AP-REP or a KRB-ERROR.
//
// A proxy makes one token for every request that it forwards, thousands a second from one service
// ticket. So tokens are minted from a Template. The authenticator is the last field of the token,
// and its encoding can be given a fixed length: cusec and seq-number are chosen from ranges whose
// INTEGERs have one length. Then every byte before the authenticator's ciphertext is constant for a
// ticket and a set of flags, including the lengths, and so is its base64 up to a multiple of three
// bytes. A Template keeps that, the plaintext of the authenticator with gaps, and the derived keys.
// Minting fills the gaps (time, subkey, sequence number, bindings), encrypts, and encodes the last
// 300 bytes or so.
//
// A replay cache treats two authenticators with the same time as a replay (RFC 4120, Section
// 3.2.3), so every token has a unique time: see Clock.
//
// Left out: per-message tokens (MIC and Wrap, which HTTP authentication does not use), DCE style
// and user-to-user, and the acceptor's side except what both sides parse.
//
// Begin with NewTemplate, Template.Header and Context.VerifyToken.
package gss
