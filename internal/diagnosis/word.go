package diagnosis

import (
	"net/http"
	"slices"
)

// Word is a value of {http.negotiate.error}: what went wrong, in one word.
type Word string

// The words.
const (
	KDCUnreachable       Word = "kdc_unreachable"
	CredentialsRefused   Word = "credentials_refused"
	CredentialsMissing   Word = "credentials_missing"
	UnknownService       Word = "unknown_service"
	NoCommonEType        Word = "no_common_etype"
	BadSPN               Word = "bad_spn"
	SPNNotAllowed        Word = "spn_not_allowed"
	MutualAuthFailed     Word = "mutual_auth_failed"
	TokenRefused         Word = "token_refused"
	ChannelBindingFailed Word = "channel_binding_failed"
	UserMissing          Word = "user_missing"
	UserDenied           Word = "user_denied"
	UserUnknown          Word = "user_unknown"
	DelegationRefused    Word = "delegation_refused"
	MethodRefused        Word = "method_refused"
	Internal             Word = "internal"
)

// statuses are the HTTP statuses of the words.
var statuses = map[Word]int{
	KDCUnreachable:       http.StatusServiceUnavailable,
	CredentialsRefused:   http.StatusBadGateway,
	CredentialsMissing:   http.StatusBadGateway,
	UnknownService:       http.StatusBadGateway,
	NoCommonEType:        http.StatusBadGateway,
	BadSPN:               http.StatusBadGateway,
	SPNNotAllowed:        http.StatusForbidden,
	MutualAuthFailed:     http.StatusBadGateway,
	TokenRefused:         http.StatusUnauthorized,
	ChannelBindingFailed: http.StatusBadGateway,
	UserMissing:          http.StatusForbidden,
	UserDenied:           http.StatusForbidden,
	UserUnknown:          http.StatusForbidden,
	DelegationRefused:    http.StatusForbidden,
	MethodRefused:        http.StatusMethodNotAllowed,
	Internal:             http.StatusInternalServerError,
}

// Cause is a reason for a failure as `caddy kerberos check --json` reports it.
type Cause string

// The causes. Where a rule has several, the protocol does not tell them apart, and the
// remedy says how an operator can.
const (
	CauseWrongPassword       Cause = "wrong_password"
	CauseKeytabVersion       Cause = "keytab_version"
	CauseKeytabSalt          Cause = "keytab_salt"
	CauseWeakKeys            Cause = "weak_keys"
	CauseNoCommonEType       Cause = "no_common_etype"
	CauseAccount             Cause = "account"
	CauseUnknownSPN          Cause = "unknown_spn"
	CauseSPNOnOtherAccount   Cause = "spn_on_other_account"
	CauseServiceKeyChanged   Cause = "service_key_changed"
	CauseKDCDead             Cause = "kdc_dead"
	CauseClock               Cause = "clock"
	CauseChannelBinding      Cause = "channel_binding"
	CauseUserNotDelegable    Cause = "user_not_delegable"
	CauseAccountNotTrusted   Cause = "account_not_trusted_to_authenticate"
	CauseNotInDelegationList Cause = "service_not_in_delegation_list"
	CauseUserUnknown         Cause = "user_unknown"
	CauseTokenTooLong        Cause = "token_too_long"
	CauseNoProxy             Cause = "negotiate_reaches_no_proxy"
	CauseHTTP2               Cause = "http2"
	CauseUserMayNotEnter     Cause = "user_may_not_enter"
	CauseNoNegotiate         Cause = "upstream_offers_no_negotiate"
	CauseUpstreamUnreachable Cause = "upstream_unreachable"
	CauseUpstreamCertificate Cause = "upstream_certificate"
	CauseNoMutualAuth        Cause = "no_mutual_authentication"
	CauseConfiguration       Cause = "configuration"
	CauseFilePermissions     Cause = "file_permissions"
	CauseClientCertificate   Cause = "client_certificate"
	CauseKDCCertificate      Cause = "kdc_certificate"
	CauseManagedPassword     Cause = "managed_password"
)

var causes = []Cause{
	CauseWrongPassword, CauseKeytabVersion, CauseKeytabSalt, CauseWeakKeys, CauseNoCommonEType, CauseAccount, CauseUnknownSPN,
	CauseSPNOnOtherAccount, CauseServiceKeyChanged, CauseKDCDead, CauseClock, CauseChannelBinding, CauseUserNotDelegable,
	CauseAccountNotTrusted, CauseNotInDelegationList, CauseUserUnknown, CauseTokenTooLong, CauseNoProxy, CauseHTTP2,
	CauseUserMayNotEnter, CauseNoNegotiate, CauseUpstreamUnreachable, CauseUpstreamCertificate, CauseNoMutualAuth,
	CauseConfiguration, CauseFilePermissions, CauseClientCertificate, CauseKDCCertificate,
	CauseManagedPassword,
}

// Causes lists the causes that `check` reports.
func Causes() []Cause { return slices.Clone(causes) }
