// Package gss is the initiator's side of the Kerberos V5 GSS-API mechanism (RFC 4121) as far as HTTP needs it: the first
// context token with its checksum 0x8003, channel bindings (RFC 5929, tls-server-end-point), a delegated ticket, and the
// acceptor's answer, an AP-REP or a KRB-ERROR.
//
// A proxy makes one token for every request it passes on, thousands a second from one service ticket. So a token is minted
// from a Template. The authenticator is the last field of the token, and its encoding can be given a fixed length: cusec and
// seq-number are picked from ranges whose INTEGERs have one length. Then every octet before the authenticator's ciphertext
// is constant for a ticket and a set of flags, the lengths in it included, and so is its base64 up to a multiple of three
// octets. A Template keeps that, the plaintext of the authenticator with gaps in it, and the derived keys. Minting
// fills the gaps (time, subkey, sequence number, bindings), encrypts, and encodes those last 300 octets or so.
//
// A replay cache takes two authenticators with the same time for a replay (RFC 4120 3.2.3), so every token has a time
// of its own: see Clock.
//
// Left out: per-message tokens (MIC and Wrap, which HTTP authentication has no use for), DCE style and user-to-user, and
// the acceptor's side but for what both sides parse.
//
// Begin with NewTemplate, Template.Header and Context.VerifyToken.
package gss
