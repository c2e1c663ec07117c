package messages

import "fmt"

// ErrorCode is the error code of a KRB-ERROR.
type ErrorCode int32

// The error codes of RFC 4120 7.5.9 (0 to 69), RFC 4556 3.1.3 (62 to 81, whose names replace RFC 4120's), RFC 6806 (68), RFC 6111
// (82 to 84), RFC 6113 (90 to 93), RFC 8636 (100), the IAKERB draft (85, 86), and 43, which only MIT has.
const (
	KDC_ERR_NONE                                ErrorCode = 0
	KDC_ERR_NAME_EXP                            ErrorCode = 1
	KDC_ERR_SERVICE_EXP                         ErrorCode = 2
	KDC_ERR_BAD_PVNO                            ErrorCode = 3
	KDC_ERR_C_OLD_MAST_KVNO                     ErrorCode = 4
	KDC_ERR_S_OLD_MAST_KVNO                     ErrorCode = 5
	KDC_ERR_C_PRINCIPAL_UNKNOWN                 ErrorCode = 6
	KDC_ERR_S_PRINCIPAL_UNKNOWN                 ErrorCode = 7
	KDC_ERR_PRINCIPAL_NOT_UNIQUE                ErrorCode = 8
	KDC_ERR_NULL_KEY                            ErrorCode = 9
	KDC_ERR_CANNOT_POSTDATE                     ErrorCode = 10
	KDC_ERR_NEVER_VALID                         ErrorCode = 11
	KDC_ERR_POLICY                              ErrorCode = 12
	KDC_ERR_BADOPTION                           ErrorCode = 13
	KDC_ERR_ETYPE_NOSUPP                        ErrorCode = 14
	KDC_ERR_SUMTYPE_NOSUPP                      ErrorCode = 15
	KDC_ERR_PADATA_TYPE_NOSUPP                  ErrorCode = 16
	KDC_ERR_TRTYPE_NOSUPP                       ErrorCode = 17
	KDC_ERR_CLIENT_REVOKED                      ErrorCode = 18
	KDC_ERR_SERVICE_REVOKED                     ErrorCode = 19
	KDC_ERR_TGT_REVOKED                         ErrorCode = 20
	KDC_ERR_CLIENT_NOTYET                       ErrorCode = 21
	KDC_ERR_SERVICE_NOTYET                      ErrorCode = 22
	KDC_ERR_KEY_EXPIRED                         ErrorCode = 23
	KDC_ERR_PREAUTH_FAILED                      ErrorCode = 24
	KDC_ERR_PREAUTH_REQUIRED                    ErrorCode = 25
	KDC_ERR_SERVER_NOMATCH                      ErrorCode = 26
	KDC_ERR_MUST_USE_USER2USER                  ErrorCode = 27
	KDC_ERR_PATH_NOT_ACCEPTED                   ErrorCode = 28
	KDC_ERR_SVC_UNAVAILABLE                     ErrorCode = 29
	KRB_AP_ERR_BAD_INTEGRITY                    ErrorCode = 31
	KRB_AP_ERR_TKT_EXPIRED                      ErrorCode = 32
	KRB_AP_ERR_TKT_NYV                          ErrorCode = 33
	KRB_AP_ERR_REPEAT                           ErrorCode = 34
	KRB_AP_ERR_NOT_US                           ErrorCode = 35
	KRB_AP_ERR_BADMATCH                         ErrorCode = 36
	KRB_AP_ERR_SKEW                             ErrorCode = 37
	KRB_AP_ERR_BADADDR                          ErrorCode = 38
	KRB_AP_ERR_BADVERSION                       ErrorCode = 39
	KRB_AP_ERR_MSG_TYPE                         ErrorCode = 40
	KRB_AP_ERR_MODIFIED                         ErrorCode = 41
	KRB_AP_ERR_BADORDER                         ErrorCode = 42
	KRB_AP_ERR_ILL_CR_TKT                       ErrorCode = 43
	KRB_AP_ERR_BADKEYVER                        ErrorCode = 44
	KRB_AP_ERR_NOKEY                            ErrorCode = 45
	KRB_AP_ERR_MUT_FAIL                         ErrorCode = 46
	KRB_AP_ERR_BADDIRECTION                     ErrorCode = 47
	KRB_AP_ERR_METHOD                           ErrorCode = 48
	KRB_AP_ERR_BADSEQ                           ErrorCode = 49
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
	KRB_AP_ERR_NO_TGT                           ErrorCode = 67
	KDC_ERR_WRONG_REALM                         ErrorCode = 68
	KRB_AP_ERR_USER_TO_USER_REQUIRED            ErrorCode = 69
	KDC_ERR_CANT_VERIFY_CERTIFICATE             ErrorCode = 70
	KDC_ERR_INVALID_CERTIFICATE                 ErrorCode = 71
	KDC_ERR_REVOKED_CERTIFICATE                 ErrorCode = 72
	KDC_ERR_REVOCATION_STATUS_UNKNOWN           ErrorCode = 73
	KDC_ERR_REVOCATION_STATUS_UNAVAILABLE       ErrorCode = 74
	KDC_ERR_CLIENT_NAME_MISMATCH                ErrorCode = 75
	KDC_ERR_KDC_NAME_MISMATCH                   ErrorCode = 76
	KDC_ERR_INCONSISTENT_KEY_PURPOSE            ErrorCode = 77
	KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED         ErrorCode = 78
	KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED        ErrorCode = 79
	KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED  ErrorCode = 80
	KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED ErrorCode = 81
	KRB_AP_ERR_PRINCIPAL_UNKNOWN                ErrorCode = 82
	KRB_AP_ERR_REALM_UNKNOWN                    ErrorCode = 83
	KRB_AP_ERR_PRINCIPAL_RESERVED               ErrorCode = 84
	KRB_AP_ERR_IAKERB_KDC_NOT_FOUND             ErrorCode = 85
	KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE           ErrorCode = 86
	KDC_ERR_PREAUTH_EXPIRED                     ErrorCode = 90
	KDC_ERR_MORE_PREAUTH_DATA_REQUIRED          ErrorCode = 91
	KDC_ERR_PREAUTH_BAD_AUTHENTICATION_SET      ErrorCode = 92
	KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS       ErrorCode = 93
	KDC_ERR_NO_ACCEPTABLE_KDF                   ErrorCode = 100
)

var errorCodes = map[ErrorCode]struct{ name, meaning string }{
	KDC_ERR_NONE:                                {"KDC_ERR_NONE", "no error"},
	KDC_ERR_NAME_EXP:                            {"KDC_ERR_NAME_EXP", "the client's account has expired"},
	KDC_ERR_SERVICE_EXP:                         {"KDC_ERR_SERVICE_EXP", "the service's account has expired"},
	KDC_ERR_BAD_PVNO:                            {"KDC_ERR_BAD_PVNO", "the KDC does not speak this protocol version"},
	KDC_ERR_C_OLD_MAST_KVNO:                     {"KDC_ERR_C_OLD_MAST_KVNO", "the client's key is stored under an old master key of the KDC"},
	KDC_ERR_S_OLD_MAST_KVNO:                     {"KDC_ERR_S_OLD_MAST_KVNO", "the service's key is stored under an old master key of the KDC"},
	KDC_ERR_C_PRINCIPAL_UNKNOWN:                 {"KDC_ERR_C_PRINCIPAL_UNKNOWN", "the KDC knows no such client"},
	KDC_ERR_S_PRINCIPAL_UNKNOWN:                 {"KDC_ERR_S_PRINCIPAL_UNKNOWN", "the KDC knows no such service"},
	KDC_ERR_PRINCIPAL_NOT_UNIQUE:                {"KDC_ERR_PRINCIPAL_NOT_UNIQUE", "more than one account has this principal name"},
	KDC_ERR_NULL_KEY:                            {"KDC_ERR_NULL_KEY", "the client or the service has no key"},
	KDC_ERR_CANNOT_POSTDATE:                     {"KDC_ERR_CANNOT_POSTDATE", "the ticket may not be postdated"},
	KDC_ERR_NEVER_VALID:                         {"KDC_ERR_NEVER_VALID", "the ticket would end before it begins"},
	KDC_ERR_POLICY:                              {"KDC_ERR_POLICY", "a policy of the KDC forbids the request"},
	KDC_ERR_BADOPTION:                           {"KDC_ERR_BADOPTION", "the KDC cannot grant an option that was asked for"},
	KDC_ERR_ETYPE_NOSUPP:                        {"KDC_ERR_ETYPE_NOSUPP", "client, service and KDC have no encryption type in common"},
	KDC_ERR_SUMTYPE_NOSUPP:                      {"KDC_ERR_SUMTYPE_NOSUPP", "the KDC does not support the checksum type"},
	KDC_ERR_PADATA_TYPE_NOSUPP:                  {"KDC_ERR_PADATA_TYPE_NOSUPP", "the KDC does not support the pre-authentication type"},
	KDC_ERR_TRTYPE_NOSUPP:                       {"KDC_ERR_TRTYPE_NOSUPP", "the KDC does not support the encoding of the transited realms"},
	KDC_ERR_CLIENT_REVOKED:                      {"KDC_ERR_CLIENT_REVOKED", "the client's account is disabled, locked or out of its hours"},
	KDC_ERR_SERVICE_REVOKED:                     {"KDC_ERR_SERVICE_REVOKED", "the service's account is disabled or locked"},
	KDC_ERR_TGT_REVOKED:                         {"KDC_ERR_TGT_REVOKED", "the ticket-granting ticket was revoked"},
	KDC_ERR_CLIENT_NOTYET:                       {"KDC_ERR_CLIENT_NOTYET", "the client's account is not valid yet"},
	KDC_ERR_SERVICE_NOTYET:                      {"KDC_ERR_SERVICE_NOTYET", "the service's account is not valid yet"},
	KDC_ERR_KEY_EXPIRED:                         {"KDC_ERR_KEY_EXPIRED", "the password has expired or must be changed"},
	KDC_ERR_PREAUTH_FAILED:                      {"KDC_ERR_PREAUTH_FAILED", "the password or key is wrong, or was derived with another salt"},
	KDC_ERR_PREAUTH_REQUIRED:                    {"KDC_ERR_PREAUTH_REQUIRED", "the KDC asks for pre-authentication"},
	KDC_ERR_SERVER_NOMATCH:                      {"KDC_ERR_SERVER_NOMATCH", "the ticket is not for the service that was asked for"},
	KDC_ERR_MUST_USE_USER2USER:                  {"KDC_ERR_MUST_USE_USER2USER", "the service takes user-to-user tickets only"},
	KDC_ERR_PATH_NOT_ACCEPTED:                   {"KDC_ERR_PATH_NOT_ACCEPTED", "the KDC does not trust a realm on the path to the client"},
	KDC_ERR_SVC_UNAVAILABLE:                     {"KDC_ERR_SVC_UNAVAILABLE", "a service that the KDC needs is not available"},
	KRB_AP_ERR_BAD_INTEGRITY:                    {"KRB_AP_ERR_BAD_INTEGRITY", "decryption failed: the key is wrong or the message was changed"},
	KRB_AP_ERR_TKT_EXPIRED:                      {"KRB_AP_ERR_TKT_EXPIRED", "the ticket has expired"},
	KRB_AP_ERR_TKT_NYV:                          {"KRB_AP_ERR_TKT_NYV", "the ticket is not valid yet"},
	KRB_AP_ERR_REPEAT:                           {"KRB_AP_ERR_REPEAT", "the authenticator was used before"},
	KRB_AP_ERR_NOT_US:                           {"KRB_AP_ERR_NOT_US", "the ticket is for another service"},
	KRB_AP_ERR_BADMATCH:                         {"KRB_AP_ERR_BADMATCH", "ticket and authenticator name different clients"},
	KRB_AP_ERR_SKEW:                             {"KRB_AP_ERR_SKEW", "the clocks differ too much"},
	KRB_AP_ERR_BADADDR:                          {"KRB_AP_ERR_BADADDR", "the ticket is not valid from this network address"},
	KRB_AP_ERR_BADVERSION:                       {"KRB_AP_ERR_BADVERSION", "the protocol version is wrong"},
	KRB_AP_ERR_MSG_TYPE:                         {"KRB_AP_ERR_MSG_TYPE", "the message is of an unexpected type"},
	KRB_AP_ERR_MODIFIED:                         {"KRB_AP_ERR_MODIFIED", "the service could not decrypt the ticket: its key is another, or the message was changed"},
	KRB_AP_ERR_BADORDER:                         {"KRB_AP_ERR_BADORDER", "the message is out of order"},
	KRB_AP_ERR_ILL_CR_TKT:                       {"KRB_AP_ERR_ILL_CR_TKT", "the cross-realm ticket is not allowed here"},
	KRB_AP_ERR_BADKEYVER:                        {"KRB_AP_ERR_BADKEYVER", "the service does not have the key version of the ticket"},
	KRB_AP_ERR_NOKEY:                            {"KRB_AP_ERR_NOKEY", "the service has no key for the ticket"},
	KRB_AP_ERR_MUT_FAIL:                         {"KRB_AP_ERR_MUT_FAIL", "mutual authentication failed"},
	KRB_AP_ERR_BADDIRECTION:                     {"KRB_AP_ERR_BADDIRECTION", "the message goes in the wrong direction"},
	KRB_AP_ERR_METHOD:                           {"KRB_AP_ERR_METHOD", "another authentication method is required"},
	KRB_AP_ERR_BADSEQ:                           {"KRB_AP_ERR_BADSEQ", "the message has the wrong sequence number"},
	KRB_AP_ERR_INAPP_CKSUM:                      {"KRB_AP_ERR_INAPP_CKSUM", "the checksum is missing or of the wrong type"},
	KRB_AP_PATH_NOT_ACCEPTED:                    {"KRB_AP_PATH_NOT_ACCEPTED", "the service does not trust a realm on the path to the client"},
	KRB_ERR_RESPONSE_TOO_BIG:                    {"KRB_ERR_RESPONSE_TOO_BIG", "the answer does not fit in a datagram, TCP is needed"},
	KRB_ERR_GENERIC:                             {"KRB_ERR_GENERIC", "the KDC failed for a reason that has no code"},
	KRB_ERR_FIELD_TOOLONG:                       {"KRB_ERR_FIELD_TOOLONG", "the request is longer than the KDC takes"},
	KDC_ERR_CLIENT_NOT_TRUSTED:                  {"KDC_ERR_CLIENT_NOT_TRUSTED", "the KDC does not trust the issuer of the client's certificate"},
	KDC_ERR_KDC_NOT_TRUSTED:                     {"KDC_ERR_KDC_NOT_TRUSTED", "the client trusts none of the KDC's certificates"},
	KDC_ERR_INVALID_SIG:                         {"KDC_ERR_INVALID_SIG", "the signature of the request is not valid"},
	KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED:      {"KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED", "the KDC does not accept the Diffie-Hellman parameters"},
	KDC_ERR_CERTIFICATE_MISMATCH:                {"KDC_ERR_CERTIFICATE_MISMATCH", "the certificate does not match the account"},
	KRB_AP_ERR_NO_TGT:                           {"KRB_AP_ERR_NO_TGT", "there is no ticket-granting ticket for user-to-user authentication"},
	KDC_ERR_WRONG_REALM:                         {"KDC_ERR_WRONG_REALM", "the account belongs to another realm"},
	KRB_AP_ERR_USER_TO_USER_REQUIRED:            {"KRB_AP_ERR_USER_TO_USER_REQUIRED", "the service takes user-to-user tickets only"},
	KDC_ERR_CANT_VERIFY_CERTIFICATE:             {"KDC_ERR_CANT_VERIFY_CERTIFICATE", "the certificate could not be verified"},
	KDC_ERR_INVALID_CERTIFICATE:                 {"KDC_ERR_INVALID_CERTIFICATE", "the certificate is not valid"},
	KDC_ERR_REVOKED_CERTIFICATE:                 {"KDC_ERR_REVOKED_CERTIFICATE", "the certificate was revoked"},
	KDC_ERR_REVOCATION_STATUS_UNKNOWN:           {"KDC_ERR_REVOCATION_STATUS_UNKNOWN", "nobody knows whether the certificate was revoked"},
	KDC_ERR_REVOCATION_STATUS_UNAVAILABLE:       {"KDC_ERR_REVOCATION_STATUS_UNAVAILABLE", "whether the certificate was revoked could not be looked up"},
	KDC_ERR_CLIENT_NAME_MISMATCH:                {"KDC_ERR_CLIENT_NAME_MISMATCH", "the certificate does not name the client"},
	KDC_ERR_KDC_NAME_MISMATCH:                   {"KDC_ERR_KDC_NAME_MISMATCH", "the certificate does not name the KDC"},
	KDC_ERR_INCONSISTENT_KEY_PURPOSE:            {"KDC_ERR_INCONSISTENT_KEY_PURPOSE", "the certificate is not meant for Kerberos logins"},
	KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED:         {"KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED", "the KDC does not accept the digest in the certificate"},
	KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED:        {"KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED", "the request lacks the checksum of public-key pre-authentication"},
	KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED:  {"KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED", "the KDC does not accept the digest of the signature"},
	KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED: {"KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED", "the KDC does not support encryption with public keys"},
	KRB_AP_ERR_PRINCIPAL_UNKNOWN:                {"KRB_AP_ERR_PRINCIPAL_UNKNOWN", "the well-known principal name is not supported"},
	KRB_AP_ERR_REALM_UNKNOWN:                    {"KRB_AP_ERR_REALM_UNKNOWN", "the well-known realm name is not supported"},
	KRB_AP_ERR_PRINCIPAL_RESERVED:               {"KRB_AP_ERR_PRINCIPAL_RESERVED", "the principal name is reserved"},
	KRB_AP_ERR_IAKERB_KDC_NOT_FOUND:             {"KRB_AP_ERR_IAKERB_KDC_NOT_FOUND", "the service found no KDC to pass messages to"},
	KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE:           {"KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE", "the KDC did not answer the service that passes messages"},
	KDC_ERR_PREAUTH_EXPIRED:                     {"KDC_ERR_PREAUTH_EXPIRED", "the exchange took too long and must begin again"},
	KDC_ERR_MORE_PREAUTH_DATA_REQUIRED:          {"KDC_ERR_MORE_PREAUTH_DATA_REQUIRED", "the KDC asks for the next step of pre-authentication"},
	KDC_ERR_PREAUTH_BAD_AUTHENTICATION_SET:      {"KDC_ERR_PREAUTH_BAD_AUTHENTICATION_SET", "the pre-authentication types do not form a set that the KDC offered"},
	KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS:       {"KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS", "the KDC does not know a critical FAST option"},
	KDC_ERR_NO_ACCEPTABLE_KDF:                   {"KDC_ERR_NO_ACCEPTABLE_KDF", "client and KDC have no key derivation function in common"},
}

// String is the registered name, or "error N" for a code that has none.
func (c ErrorCode) String() string {
	if e, ok := errorCodes[c]; ok {
		return e.name
	}
	return fmt.Sprintf("error %d", int32(c))
}

// Meaning says in a few words what the code means, "" for an unknown one.
func (c ErrorCode) Meaning() string { return errorCodes[c].meaning }
