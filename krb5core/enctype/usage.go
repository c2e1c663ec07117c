package enctype

// Usage is a key usage number: what a key is used for goes into the keys
// derived from it, so that no message can be passed off as another.
type Usage uint32

// Key usages of RFC 4120, Section 7.5.1.
const (
	KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP    Usage = 1  // client's long-term key
	KEY_USAGE_TICKET                     Usage = 2  // service's long-term key
	KEY_USAGE_AS_REP                     Usage = 3  // client's long-term key
	KEY_USAGE_TGS_REQ_AUTHZ_DATA_SESSION Usage = 4  // session key
	KEY_USAGE_TGS_REQ_AUTHZ_DATA_SUBKEY  Usage = 5  // authenticator's subkey
	KEY_USAGE_TGS_REQ_CHECKSUM           Usage = 6  // over the KDC-REQ-BODY, session key
	KEY_USAGE_TGS_REQ_AUTHENTICATOR      Usage = 7  // session key
	KEY_USAGE_TGS_REP_SESSION            Usage = 8  // session key
	KEY_USAGE_TGS_REP_SUBKEY             Usage = 9  // authenticator's subkey
	KEY_USAGE_AP_REQ_CHECKSUM            Usage = 10 // session key
	KEY_USAGE_AP_REQ_AUTHENTICATOR       Usage = 11 // session key
	KEY_USAGE_AP_REP                     Usage = 12 // session key
	KEY_USAGE_KRB_PRIV                   Usage = 13 // subkey or session key
	KEY_USAGE_KRB_CRED                   Usage = 14
)

// Key usages of RFC 4121, Section 2.
const (
	KG_USAGE_ACCEPTOR_SIGN  Usage = 23
	KG_USAGE_INITIATOR_SIGN Usage = 25
)

// Key usages of extensions.
const (
	KEY_USAGE_PA_FOR_USER              Usage = 17 // [MS-SFU], Section 2.2.1, KERB_NON_KERB_CKSUM_SALT
	KEY_USAGE_PA_S4U_X509_USER_REQUEST Usage = 26 // [MS-SFU], Section 2.2.2
	KEY_USAGE_PA_S4U_X509_USER_REPLY   Usage = 27 // [MS-SFU], Section 2.2.2
	KEY_USAGE_PA_PKINIT_KX             Usage = 44 // RFC 8062, Section 4.2
	KEY_USAGE_FAST_REQ_CHKSUM          Usage = 50 // RFC 6113, Section 5.4.2
	KEY_USAGE_FAST_ENC                 Usage = 51 // RFC 6113, Section 5.4.2
	KEY_USAGE_FAST_REP                 Usage = 52 // RFC 6113, Section 5.4.3
	KEY_USAGE_FAST_FINISHED            Usage = 53 // RFC 6113, Section 5.4.3
	KEY_USAGE_ENC_CHALLENGE_CLIENT     Usage = 54 // RFC 6113, Section 5.4.6
	KEY_USAGE_ENC_CHALLENGE_KDC        Usage = 55 // RFC 6113, Section 5.4.6
	KEY_USAGE_AS_REQ                   Usage = 56 // RFC 6806, Section 11, PA-REQ-ENC-PA-REP
	KEY_USAGE_SPAKE                    Usage = 65 // RFC 9588
)
