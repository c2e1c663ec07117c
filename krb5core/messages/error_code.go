package messages

import "fmt"

// ErrorCode is the error code of a KRB-ERROR.
type ErrorCode int32

// The error codes that this program or its tests act on.
const (
	KDC_ERR_NAME_EXP                            ErrorCode = 1
	KDC_ERR_SERVICE_EXP                         ErrorCode = 2
	KDC_ERR_S_OLD_MAST_KVNO                     ErrorCode = 5
	KDC_ERR_C_PRINCIPAL_UNKNOWN                 ErrorCode = 6
	KDC_ERR_S_PRINCIPAL_UNKNOWN                 ErrorCode = 7
	KDC_ERR_PRINCIPAL_NOT_UNIQUE                ErrorCode = 8
	KDC_ERR_NULL_KEY                            ErrorCode = 9
	KDC_ERR_NEVER_VALID                         ErrorCode = 11
	KDC_ERR_POLICY                              ErrorCode = 12
	KDC_ERR_BADOPTION                           ErrorCode = 13
	KDC_ERR_ETYPE_NOSUPP                        ErrorCode = 14
	KDC_ERR_PADATA_TYPE_NOSUPP                  ErrorCode = 16
	KDC_ERR_CLIENT_REVOKED                      ErrorCode = 18
	KDC_ERR_SERVICE_REVOKED                     ErrorCode = 19
	KDC_ERR_TGT_REVOKED                         ErrorCode = 20
	KDC_ERR_CLIENT_NOTYET                       ErrorCode = 21
	KDC_ERR_SERVICE_NOTYET                      ErrorCode = 22
	KDC_ERR_KEY_EXPIRED                         ErrorCode = 23
	KDC_ERR_PREAUTH_FAILED                      ErrorCode = 24
	KDC_ERR_PREAUTH_REQUIRED                    ErrorCode = 25
	KDC_ERR_MUST_USE_USER2USER                  ErrorCode = 27
	KDC_ERR_SVC_UNAVAILABLE                     ErrorCode = 29
	KRB_AP_ERR_BAD_INTEGRITY                    ErrorCode = 31
	KRB_AP_ERR_TKT_EXPIRED                      ErrorCode = 32
	KRB_AP_ERR_TKT_NYV                          ErrorCode = 33
	KRB_AP_ERR_REPEAT                           ErrorCode = 34
	KRB_AP_ERR_NOT_US                           ErrorCode = 35
	KRB_AP_ERR_BADMATCH                         ErrorCode = 36
	KRB_AP_ERR_SKEW                             ErrorCode = 37
	KRB_AP_ERR_BADADDR                          ErrorCode = 38
	KRB_AP_ERR_MSG_TYPE                         ErrorCode = 40
	KRB_AP_ERR_MODIFIED                         ErrorCode = 41
	KRB_AP_ERR_BADKEYVER                        ErrorCode = 44
	KRB_AP_ERR_NOKEY                            ErrorCode = 45
	KRB_AP_ERR_INAPP_CKSUM                      ErrorCode = 50
	KRB_AP_PATH_NOT_ACCEPTED                    ErrorCode = 51
	KRB_ERR_RESPONSE_TOO_BIG                    ErrorCode = 52
	KRB_ERR_GENERIC                             ErrorCode = 60
	KRB_ERR_FIELD_TOOLONG                       ErrorCode = 61
	KDC_ERR_CLIENT_NOT_TRUSTED                  ErrorCode = 62
	KDC_ERR_KDC_NOT_TRUSTED                     ErrorCode = 63
	KDC_ERR_INVALID_SIG                         ErrorCode = 64
	KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED      ErrorCode = 65
	KDC_ERR_CERTIFICATE_MISMATCH                ErrorCode = 66
	KDC_ERR_WRONG_REALM                         ErrorCode = 68
	KDC_ERR_CANT_VERIFY_CERTIFICATE             ErrorCode = 70
	KDC_ERR_INVALID_CERTIFICATE                 ErrorCode = 71
	KDC_ERR_REVOKED_CERTIFICATE                 ErrorCode = 72
	KDC_ERR_REVOCATION_STATUS_UNKNOWN           ErrorCode = 73
	KDC_ERR_REVOCATION_STATUS_UNAVAILABLE       ErrorCode = 74
	KDC_ERR_CLIENT_NAME_MISMATCH                ErrorCode = 75
	KDC_ERR_INCONSISTENT_KEY_PURPOSE            ErrorCode = 77
	KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED         ErrorCode = 78
	KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED        ErrorCode = 79
	KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED  ErrorCode = 80
	KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED ErrorCode = 81
	KDC_ERR_PREAUTH_EXPIRED                     ErrorCode = 90
	KDC_ERR_MORE_PREAUTH_DATA_REQUIRED          ErrorCode = 91
	KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS       ErrorCode = 93
	KDC_ERR_NO_ACCEPTABLE_KDF                   ErrorCode = 100
)

// errorCodes has the codes of RFC 4120, Section 7.5.9 (0 to 69), RFC 4556, Section 3.1.3 (62 to 81,
// whose names replace RFC 4120's), RFC 6806 (68), RFC 6111 (82 to 84), RFC 6113 (90 to 93), RFC 8636
// (100), the IAKERB draft (85, 86), and 43, which only MIT has.
var errorCodes = map[ErrorCode]struct{ name, meaning string }{
	0:   {"KDC_ERR_NONE", "no error"},
	1:   {"KDC_ERR_NAME_EXP", "the client's account has expired"},
	2:   {"KDC_ERR_SERVICE_EXP", "the service's account has expired"},
	3:   {"KDC_ERR_BAD_PVNO", "the KDC does not speak this protocol version"},
	4:   {"KDC_ERR_C_OLD_MAST_KVNO", "the client's key is stored under an old master key of the KDC"},
	5:   {"KDC_ERR_S_OLD_MAST_KVNO", "the service's key is stored under an old master key of the KDC"},
	6:   {"KDC_ERR_C_PRINCIPAL_UNKNOWN", "the KDC knows no such client"},
	7:   {"KDC_ERR_S_PRINCIPAL_UNKNOWN", "the KDC knows no such service"},
	8:   {"KDC_ERR_PRINCIPAL_NOT_UNIQUE", "more than one account has this principal name"},
	9:   {"KDC_ERR_NULL_KEY", "the client or the service has no key"},
	10:  {"KDC_ERR_CANNOT_POSTDATE", "the ticket may not be postdated"},
	11:  {"KDC_ERR_NEVER_VALID", "the ticket would end before it begins"},
	12:  {"KDC_ERR_POLICY", "a policy of the KDC forbids the request"},
	13:  {"KDC_ERR_BADOPTION", "the KDC cannot grant an option that was asked for"},
	14:  {"KDC_ERR_ETYPE_NOSUPP", "client, service and KDC have no encryption type in common"},
	15:  {"KDC_ERR_SUMTYPE_NOSUPP", "the KDC does not support the checksum type"},
	16:  {"KDC_ERR_PADATA_TYPE_NOSUPP", "the KDC does not support the pre-authentication type"},
	17:  {"KDC_ERR_TRTYPE_NOSUPP", "the KDC does not support the encoding of the transited realms"},
	18:  {"KDC_ERR_CLIENT_REVOKED", "the client's account is disabled, locked or out of its hours"},
	19:  {"KDC_ERR_SERVICE_REVOKED", "the service's account is disabled or locked"},
	20:  {"KDC_ERR_TGT_REVOKED", "the ticket-granting ticket was revoked"},
	21:  {"KDC_ERR_CLIENT_NOTYET", "the client's account is not valid yet"},
	22:  {"KDC_ERR_SERVICE_NOTYET", "the service's account is not valid yet"},
	23:  {"KDC_ERR_KEY_EXPIRED", "the password has expired or must be changed"},
	24:  {"KDC_ERR_PREAUTH_FAILED", "the password or key is wrong, or was derived with another salt"},
	25:  {"KDC_ERR_PREAUTH_REQUIRED", "the KDC asks for pre-authentication"},
	26:  {"KDC_ERR_SERVER_NOMATCH", "the ticket is not for the service that was asked for"},
	27:  {"KDC_ERR_MUST_USE_USER2USER", "the service takes user-to-user tickets only"},
	28:  {"KDC_ERR_PATH_NOT_ACCEPTED", "the KDC does not trust a realm on the path to the client"},
	29:  {"KDC_ERR_SVC_UNAVAILABLE", "a service that the KDC needs is not available"},
	31:  {"KRB_AP_ERR_BAD_INTEGRITY", "decryption failed: the key is wrong or the message was changed"},
	32:  {"KRB_AP_ERR_TKT_EXPIRED", "the ticket has expired"},
	33:  {"KRB_AP_ERR_TKT_NYV", "the ticket is not valid yet"},
	34:  {"KRB_AP_ERR_REPEAT", "the authenticator was used before"},
	35:  {"KRB_AP_ERR_NOT_US", "the ticket is for another service"},
	36:  {"KRB_AP_ERR_BADMATCH", "ticket and authenticator name different clients"},
	37:  {"KRB_AP_ERR_SKEW", "the clocks differ too much"},
	38:  {"KRB_AP_ERR_BADADDR", "the ticket is not valid from this network address"},
	39:  {"KRB_AP_ERR_BADVERSION", "the protocol version is wrong"},
	40:  {"KRB_AP_ERR_MSG_TYPE", "the message is of an unexpected type"},
	41:  {"KRB_AP_ERR_MODIFIED", "the service could not decrypt the ticket: its key is another, or the message was changed"},
	42:  {"KRB_AP_ERR_BADORDER", "the message is out of order"},
	43:  {"KRB_AP_ERR_ILL_CR_TKT", "the cross-realm ticket is not allowed here"},
	44:  {"KRB_AP_ERR_BADKEYVER", "the service does not have the key version of the ticket"},
	45:  {"KRB_AP_ERR_NOKEY", "the service has no key for the ticket"},
	46:  {"KRB_AP_ERR_MUT_FAIL", "mutual authentication failed"},
	47:  {"KRB_AP_ERR_BADDIRECTION", "the message goes in the wrong direction"},
	48:  {"KRB_AP_ERR_METHOD", "another authentication method is required"},
	49:  {"KRB_AP_ERR_BADSEQ", "the message has the wrong sequence number"},
	50:  {"KRB_AP_ERR_INAPP_CKSUM", "the checksum is missing or of the wrong type"},
	51:  {"KRB_AP_PATH_NOT_ACCEPTED", "the service does not trust a realm on the path to the client"},
	52:  {"KRB_ERR_RESPONSE_TOO_BIG", "the answer does not fit in a datagram, TCP is needed"},
	60:  {"KRB_ERR_GENERIC", "the KDC failed for a reason that has no code"},
	61:  {"KRB_ERR_FIELD_TOOLONG", "the request is longer than the KDC takes"},
	62:  {"KDC_ERR_CLIENT_NOT_TRUSTED", "the KDC does not trust the issuer of the client's certificate"},
	63:  {"KDC_ERR_KDC_NOT_TRUSTED", "the client trusts none of the KDC's certificates"},
	64:  {"KDC_ERR_INVALID_SIG", "the signature of the request is not valid"},
	65:  {"KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED", "the KDC does not accept the Diffie-Hellman parameters"},
	66:  {"KDC_ERR_CERTIFICATE_MISMATCH", "the certificate does not match the account"},
	67:  {"KRB_AP_ERR_NO_TGT", "there is no ticket-granting ticket for user-to-user authentication"},
	68:  {"KDC_ERR_WRONG_REALM", "the account belongs to another realm"},
	69:  {"KRB_AP_ERR_USER_TO_USER_REQUIRED", "the service takes user-to-user tickets only"},
	70:  {"KDC_ERR_CANT_VERIFY_CERTIFICATE", "the certificate could not be verified"},
	71:  {"KDC_ERR_INVALID_CERTIFICATE", "the certificate is not valid"},
	72:  {"KDC_ERR_REVOKED_CERTIFICATE", "the certificate was revoked"},
	73:  {"KDC_ERR_REVOCATION_STATUS_UNKNOWN", "it is unknown whether the certificate was revoked"},
	74:  {"KDC_ERR_REVOCATION_STATUS_UNAVAILABLE", "whether the certificate was revoked could not be looked up"},
	75:  {"KDC_ERR_CLIENT_NAME_MISMATCH", "the certificate does not name the client"},
	76:  {"KDC_ERR_KDC_NAME_MISMATCH", "the certificate does not name the KDC"},
	77:  {"KDC_ERR_INCONSISTENT_KEY_PURPOSE", "the certificate is not meant for Kerberos logins"},
	78:  {"KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED", "the KDC does not accept the digest in the certificate"},
	79:  {"KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED", "the request lacks the checksum of public-key pre-authentication"},
	80:  {"KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED", "the KDC does not accept the digest of the signature"},
	81:  {"KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED", "the KDC does not support encryption with public keys"},
	82:  {"KRB_AP_ERR_PRINCIPAL_UNKNOWN", "the well-known principal name is not supported"},
	83:  {"KRB_AP_ERR_REALM_UNKNOWN", "the well-known realm name is not supported"},
	84:  {"KRB_AP_ERR_PRINCIPAL_RESERVED", "the principal name is reserved"},
	85:  {"KRB_AP_ERR_IAKERB_KDC_NOT_FOUND", "the service found no KDC to pass messages to"},
	86:  {"KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE", "the KDC did not answer the service that passes messages"},
	90:  {"KDC_ERR_PREAUTH_EXPIRED", "the exchange took too long and must begin again"},
	91:  {"KDC_ERR_MORE_PREAUTH_DATA_REQUIRED", "the KDC asks for the next step of pre-authentication"},
	92:  {"KDC_ERR_PREAUTH_BAD_AUTHENTICATION_SET", "the pre-authentication types do not form a set that the KDC offered"},
	93:  {"KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS", "the KDC does not know a critical FAST option"},
	100: {"KDC_ERR_NO_ACCEPTABLE_KDF", "client and KDC have no key derivation function in common"},
}

func (c ErrorCode) String() string {
	if e, ok := errorCodes[c]; ok {
		return e.name
	}
	return fmt.Sprintf("error %d", int32(c))
}

// Registered reports whether the code has a registered name.
func (c ErrorCode) Registered() bool {
	_, ok := errorCodes[c]
	return ok
}

// Meaning says in a few words what the code means, "" for an unknown one.
func (c ErrorCode) Meaning() string { return errorCodes[c].meaning }

// CertificateRefused reports whether a KDC says by this code that it does not accept the client's
// certificate, or not for this client (RFC 4556, Section 3.2.2).
func (c ErrorCode) CertificateRefused() bool {
	switch c {
	case KDC_ERR_CLIENT_NOT_TRUSTED, KDC_ERR_INVALID_SIG, KDC_ERR_CERTIFICATE_MISMATCH, KDC_ERR_CANT_VERIFY_CERTIFICATE,
		KDC_ERR_INVALID_CERTIFICATE, KDC_ERR_REVOKED_CERTIFICATE, KDC_ERR_REVOCATION_STATUS_UNKNOWN,
		KDC_ERR_REVOCATION_STATUS_UNAVAILABLE, KDC_ERR_CLIENT_NAME_MISMATCH, KDC_ERR_INCONSISTENT_KEY_PURPOSE,
		KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED:
		return true
	}
	return false
}

// KeyRefused reports whether a KDC says by this code that the client's key is wrong: KDC_ERR_PREAUTH_FAILED, or
// KRB_AP_ERR_BAD_INTEGRITY from KDCs that cannot decrypt the timestamp.
func (c ErrorCode) KeyRefused() bool {
	return c == KDC_ERR_PREAUTH_FAILED || c == KRB_AP_ERR_BAD_INTEGRITY
}
