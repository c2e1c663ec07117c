// Package pkinit is what public-key pre-authentication (PKINIT, RFC 4556) computes: CMS signatures
// (RFC 5652), Diffie-Hellman keys, reply keys, and the check that a certificate is a KDC's.
//
// It has no messages and no exchange: those are in packages messages and exchange. A client
// generates a key pair of a [Group], signs its AuthPack by [Sign] with its [Identity], opens the
// KDC's answer by [Verify], checks the signer by [CheckKDC], and derives the reply key by [KDF].
//
// A SignedData is read strictly: DER, one signer, signed attributes. The verifier is chosen by the
// certificate's key and the digest, because MIT's KDC labels ECDSA signatures as RSA.
//
// Left out are RSA key transport (RFC 4556, Section 3.2.3.2), which has no forward secrecy,
// RSASSA-PSS, CRLs and OCSP, and Diffie-Hellman keys that are used again. SHA-1, which paChecksum
// needs, is not approved under FIPS 140.
package pkinit
