package diagnosis

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// rule says what becomes of the errors that it matches.
type rule struct {
	match    func(*failure) bool
	word     Word
	status   int // 0 for the word's
	causes   []Cause
	remedy   string
	remedyOf func(*failure) string // takes the place of remedy where it depends on the error
	remote   bool                  // not a failure of the plugin
}

// clientClosedRequest is Caddy's and nginx's status for a client that went away.
const clientClosedRequest = 499

// The operations that rules are for; nil is all.
var (
	opsLogin   = []krb5core.Op{krb5core.OpLogin, krb5core.OpArmor}
	opsTicket  = []krb5core.Op{krb5core.OpRenew, krb5core.OpService, krb5core.OpForward, krb5core.OpS4USelf, krb5core.OpS4UProxy}
	opsS4U     = []krb5core.Op{krb5core.OpS4USelf, krb5core.OpS4UProxy}
	opsS4USelf = []krb5core.Op{krb5core.OpS4USelf}
)

// rules are for errors. The first that matches counts; the last matches every error. The
// order is: the request itself, the plugin, the KDC's refusals by the most specific reason
// first, no answer.
var rules = slices.Concat(requestRules, managedRules, windowsRules, certificateRules, clientRules, accountRules, evidenceRules, userRules, refusalRules, localRules)

// requestRules are for requests for which no ticket is asked.
var requestRules = []rule{
	{
		match: as[*cache.PanicError], word: Internal,
		remedy: "this is a bug in the plugin: report it with the stack from the log and what caddy kerberos version shows",
	},
	{
		match: is(negotiate.ErrMethodRefused), word: MethodRefused,
		remedy: "use another method: the upstream would show the client the token",
	},
	{
		match: is(negotiate.ErrSPNNotAllowed), word: SPNNotAllowed,
		remedy: "add the service to allow_spns if clients may choose it",
	},
	{
		match: as[*negotiate.ThrottledError], word: UnknownService, status: http.StatusServiceUnavailable, causes: []Cause{CauseUnknownSPN},
		remedy: "clients ask for many services that do not exist: narrow allow_spns, and find out which clients (spn in the log)",
	},
	{
		match: is(negotiate.ErrUserMissing), word: UserMissing,
		remedy: "no user is signed in: does an authentication handler run before, and does impersonate name the placeholder that it sets? " +
			"For impersonate client_ticket it has to be negotiate_auth",
	},
	{
		match: is(negotiate.ErrTicketGone), word: UserMissing, status: http.StatusUnauthorized,
		remedy: "nothing: the client signs in again. If that happens often, tickets end soon, or Caddy restarts often",
	},
	{
		match: is(negotiate.ErrOtherAccount), word: DelegationRefused, causes: []Cause{CauseConfiguration},
		remedy: "name one identity in negotiate_auth and in transport negotiate: only the account that users sign in to can impersonate them by their tickets",
	},
	{
		match: is(negotiate.ErrAccountUnknown), word: UserDenied, causes: []Cause{CauseConfiguration},
		remedy: "deny_users is held against the account in the user's ticket: give the account's keytab with this encryption type " +
			"(AD: ktpass /crypto ALL; MIT: kadmin ktadd), or use allow_users instead",
	},
	{
		match: is(negotiate.ErrUserDenied), word: UserDenied, causes: []Cause{CauseConfiguration},
		remedy: "allow_users and deny_users exclude the user",
	},
	{
		match: is(krb5core.ErrEndUser), word: UserUnknown, causes: []Cause{CauseUserUnknown},
		remedy: "the value of impersonate is not a user name",
	},
	{
		match: is(negotiate.ErrUpstreamName), word: BadSPN,
		remedy: "an IP address or a socket names no service: set spn HTTP/host",
	},
	{
		match: is(negotiate.ErrNoBinding), word: ChannelBindingFailed, causes: []Cause{CauseChannelBinding},
		remedy: "channel_binding required needs TLS to the upstream, and a certificate with an RSA or ECDSA signature",
	},
	{
		match: is(negotiate.ErrSPN), status: http.StatusBadRequest, word: BadSPN,
		remedy: "the value of the placeholder in spn must be one DNS name",
	},
	{
		match: is(negotiate.ErrMutualAuth), word: MutualAuthFailed, causes: []Cause{CauseNoMutualAuth},
		remedy: "the upstream did not prove that it has the service's key: is it the right host, and does something in between answer in its place?",
	},
}

// clientRules are for replies that the Kerberos client does not accept.
var clientRules = []rule{
	{match: as[*exchange.UnconfiguredRealmError], word: CredentialsRefused, causes: []Cause{CauseAccount, CauseConfiguration}, remedyOf: unconfiguredRealm},
	{match: as[*kpasswd.RefusedError], word: CredentialsRefused, causes: []Cause{CauseAccount}, remedyOf: passwordRefused},
	{
		match: func(f *failure) bool {
			return f.kdc != nil && f.kdc.Op == krb5core.OpPassword && !f.refused
		},
		word: KDCUnreachable, causes: []Cause{CauseKDCDead},
		remedy: "does the server that changes passwords answer (MIT: kadmind; AD: any domain controller), is kdc_options kpasswd_server right, do " +
			"firewalls pass port 464 by TCP and UDP?",
	},
	{match: otherRealm, word: CredentialsRefused, causes: []Cause{CauseConfiguration}, remedyOf: shortRealm},
	{match: as[*exchange.ETypeError], word: NoCommonEType, causes: []Cause{CauseNoCommonEType}, remedy: remedyEType},
	{
		match: as[*exchange.UnarmoredError], word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedy: "the KDC did not use FAST: does it support FAST, and is fast_armor of its realm? Without fast_armor the login is not protected",
	},
	{
		match: func(f *failure) bool {
			return as[*exchange.PreAuthError](f) || errors.Is(f.err, exchange.ErrSecondFactor)
		},
		word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedy: "let the account log in by password, keytab or certificate: second factors are not supported",
	},
	{
		match: is(exchange.ErrUserNotProven), word: DelegationRefused, causes: []Cause{CauseConfiguration},
		remedy: "nothing proves that the ticket is the user's: give a key of the account (keytab or password; with the encryption type of its " +
			"tickets), or sign the user in by the plain name (alice) instead of a user principal name",
	},
	{
		match: otherUser, word: UserUnknown, causes: []Cause{CauseUserUnknown},
		remedy: "the KDC knows the user by another name than the one asked for: ask for that one, or for the user principal name",
	},
}

// accountRules are for refused logins whose reason Windows or Samba names in more detail
// than the KRB-ERROR's code ([MS-ERREF], Section 2.3).
var accountRules = []rule{
	accountRule(messages.STATUS_ACCOUNT_DISABLED, "the account is disabled (AD: Enable-ADAccount NAME)"),
	accountRule(messages.STATUS_ACCOUNT_LOCKED_OUT, "the account is locked after wrong passwords: find out who sends them, then Unlock-ADAccount NAME"),
	accountRule(messages.STATUS_ACCOUNT_EXPIRED, "the account has expired (AD: Clear-ADAccountExpiration NAME)"),
	{match: ntStatus(messages.STATUS_PASSWORD_EXPIRED), word: CredentialsRefused, causes: []Cause{CauseAccount}, remedyOf: passwordExpired},
	{match: ntStatus(messages.STATUS_PASSWORD_MUST_CHANGE), word: CredentialsRefused, causes: []Cause{CauseAccount}, remedyOf: passwordMustChange},
	accountRule(messages.STATUS_INVALID_LOGON_HOURS, "the account may not log in at this hour (AD: Get-ADUser NAME -Properties logonHours)"),
	accountRule(messages.STATUS_INVALID_WORKSTATION, "the account may not log in from this machine (AD: Get-ADUser NAME -Properties LogonWorkstations)"),
	accountRule(messages.STATUS_ACCOUNT_RESTRICTION, "an authentication policy or a restriction of the account forbids the login; where armor (FAST) is required, set fast_armor"),
	accountRule(messages.STATUS_SMARTCARD_LOGON_REQUIRED, "the account must log in with a smart card (AD: Set-ADUser NAME -SmartcardLogonRequired $false)"),
}

func accountRule(status messages.NTStatus, remedy string) rule {
	return rule{match: ntStatus(status), word: CredentialsRefused, causes: []Cause{CauseAccount}, remedy: remedy}
}

// evidenceRules are for users' own tickets that the KDC does not take for evidence.
var evidenceRules = []rule{
	{
		match: evidence(messages.KDC_ERR_BADOPTION, messages.KRB_AP_ERR_BADMATCH, messages.KDC_ERR_PADATA_TYPE_NOSUPP),
		word:  DelegationRefused, causes: []Cause{CauseNotInDelegationList, CauseUserNotDelegable}, remedyOf: refusedEvidence,
	},
	{
		match: evidence(messages.KRB_AP_ERR_MODIFIED, messages.KRB_AP_ERR_BAD_INTEGRITY, messages.KRB_AP_ERR_BADKEYVER,
			messages.KRB_AP_ERR_NOKEY, messages.KRB_AP_ERR_TKT_EXPIRED, messages.KRB_AP_ERR_NOT_US, messages.KDC_ERR_NEVER_VALID),
		word: DelegationRefused, causes: []Cause{CauseServiceKeyChanged},
		remedy: "the KDC does not accept the ticket that the user signed in with: was the password of our account changed since? A new ticket is got " +
			"by klist purge on Windows, elsewhere by kinit",
	},
}

// evidence returns a condition for refusals of a user's own ticket with one of the codes.
func evidence(codes ...messages.ErrorCode) func(*failure) bool {
	return func(f *failure) bool {
		return as[*negotiate.EvidenceError](f) && refusal([]krb5core.Op{krb5core.OpS4UProxy}, codes...)(f)
	}
}

// userRules are for refused impersonation (S4U). One code has several causes; the
// remedies name those that the protocol does not tell apart.
var userRules = []rule{
	{
		match: refusal(opsS4U, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN), word: UserUnknown, causes: []Cause{CauseUserUnknown},
		remedy: "the KDC does not know the user (AD: Get-ADUser NAME; for a UPN: Get-ADUser -Filter 'UserPrincipalName -eq \"NAME\"')",
	},
	{
		match: refusal(opsS4U, messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_POLICY, messages.KDC_ERR_NAME_EXP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_CLIENT_NOTYET),
		word:  UserDenied, causes: []Cause{CauseAccount},
		remedy: "the user's account is disabled, locked or expired, or a policy forbids it (AD: Get-ADUser NAME -Properties Enabled,LockedOut,AccountExpirationDate)",
	},
	{
		match: foreignRealm, word: UserUnknown, causes: []Cause{CauseUserUnknown},
		remedy: "there is no path to the user's realm: is DOMAIN in DOMAIN\\user the realm's NetBIOS name (netbios in the realm block), and do the " +
			"realms trust each other (AD: Get-ADTrust -Filter *)?",
	},
	{
		match: refusal(opsS4USelf, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN), word: DelegationRefused, causes: []Cause{CauseAccountNotTrusted},
		remedy: "our own account needs a service principal to impersonate users (AD: setspn -S HTTP/proxy.corp.example ACCOUNT)",
	},
	{
		match: refusal(opsS4U, messages.KDC_ERR_BADOPTION, messages.KRB_AP_ERR_BADMATCH, messages.KDC_ERR_PADATA_TYPE_NOSUPP),
		word:  DelegationRefused, causes: []Cause{CauseNotInDelegationList, CauseAccountNotTrusted, CauseUserNotDelegable},
		remedy: "the KDC does not let our account impersonate this user to this service. Is the service in msDS-AllowedToDelegateTo of our account, " +
			"with TrustedToAuthForDelegation set (AD: Get-ADUser ACCOUNT -Properties msDS-AllowedToDelegateTo,TrustedToAuthForDelegation), or our " +
			"account in PrincipalsAllowedToDelegateToAccount of the service? Is the user marked sensitive or in Protected Users?",
	},
}

// refusalRules are for refusals by code.
var refusalRules = []rule{
	{
		match: refusal(nil, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN), word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedyOf: unknownAccount,
	},
	{
		match: refusal(opsLogin, messages.KDC_ERR_PREAUTH_FAILED, messages.KRB_AP_ERR_BAD_INTEGRITY),
		word:  CredentialsRefused, causes: []Cause{CauseWrongPassword, CauseKeytabVersion, CauseKeytabSalt}, remedyOf: wrongKey,
	},
	{
		match: refusal(nil, messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_NAME_EXP), word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedy: "the account is disabled, locked or expired (AD: Get-ADUser NAME -Properties LockedOut,Enabled,AccountExpirationDate; Unlock-ADAccount NAME)",
	},
	{match: refusal(nil, messages.KDC_ERR_KEY_EXPIRED), word: CredentialsRefused, causes: []Cause{CauseAccount}, remedyOf: keyExpired},
	{
		match: refusal(nil, messages.KDC_ERR_POLICY), word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedy: "the KDC's policy forbids it: is the account disabled, are its logon hours or workstations limited, is FAST required (then set fast_armor)?",
	},
	{match: refusal(nil, messages.KDC_ERR_ETYPE_NOSUPP), word: NoCommonEType, causes: []Cause{CauseNoCommonEType}, remedy: remedyEType},
	{
		match: refusal(opsTicket, messages.KDC_ERR_PRINCIPAL_NOT_UNIQUE),
		word:  UnknownService, causes: []Cause{CauseSPNOnOtherAccount}, remedyOf: spnNotUnique,
	},
	{
		match: refusal(nil, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, messages.KDC_ERR_S_OLD_MAST_KVNO, messages.KDC_ERR_SERVICE_EXP,
			messages.KDC_ERR_SERVICE_REVOKED, messages.KDC_ERR_SERVICE_NOTYET, messages.KDC_ERR_MUST_USE_USER2USER),
		word: UnknownService, causes: []Cause{CauseUnknownSPN}, remedyOf: unknownService,
	},
	{
		match: refusal(nil, messages.KDC_ERR_SVC_UNAVAILABLE), word: KDCUnreachable, causes: []Cause{CauseKDCDead},
		remedy: "the KDC reports that it is not available now",
	},
	{match: refusal(nil, messages.KRB_AP_ERR_SKEW), word: CredentialsRefused, causes: []Cause{CauseClock}, remedy: RemedyClock},
	{
		match: refusal(opsLogin), word: CredentialsRefused, causes: []Cause{CauseAccount},
		remedy: "the KDC refused the login: see krb_error in the log",
	},
	{
		match: refusal(nil), word: UnknownService,
		remedy: "the KDC refused the ticket: see krb_error in the log",
	},
}

// localRules are for failures without a KDC's refusal.
var localRules = []rule{
	{
		match: is(negotiate.ErrCCache), word: CredentialsMissing, causes: []Cause{CauseAccount},
		remedy: "fill the credential cache, as the user that Caddy runs as: kinit -c NAME, or let cron or SSSD do it",
	},
	{
		match: as[*exchange.WrongKeyError],
		word:  CredentialsRefused, causes: []Cause{CauseWrongPassword, CauseKeytabVersion, CauseKeytabSalt}, remedyOf: checkSecret,
	},
	{match: is(exchange.ErrNoKey), word: CredentialsRefused, causes: []Cause{CauseNoCommonEType}, remedyOf: checkSecret},
	{match: is(context.Canceled), status: clientClosedRequest, remote: true},
	{
		match: as[*exchange.ReferralError], word: KDCUnreachable, causes: []Cause{CauseUnknownSPN},
		remedy: "the KDCs refer to each other without an end: do the realms trust each other, and is the host in the right realm? " + remedyAlias,
	},
	{match: as[*kdc.UnreachableError], word: KDCUnreachable, causes: []Cause{CauseKDCDead}, remedyOf: unreachable},
	{match: as[*negotiate.RefusedError], word: CredentialsRefused, causes: []Cause{CauseAccount}, remedyOf: checkSecret},
	{match: func(f *failure) bool { return f.kdc != nil || negotiate.Remembered(f.err) }, word: KDCUnreachable, remedy: remedyUnreachable},
	{match: always, word: KDCUnreachable, remote: true, remedy: remedyUnreachable},
}

// upstreamRules are for tokens that an upstream refuses with a 401. Without a KRB-ERROR
// in it the last rule matches.
var upstreamRules = []rule{
	{
		match: upstream(messages.KRB_AP_ERR_MODIFIED, messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KRB_AP_ERR_BAD_INTEGRITY),
		word:  TokenRefused, causes: []Cause{CauseSPNOnOtherAccount, CauseServiceKeyChanged},
		remedy: "the service has another key than the one the KDC encrypted the ticket with: is the service principal on the account that the service " +
			"runs as (AD: setspn -Q HTTP/host), and only there? Was its keytab exported after the last change of its password?",
	},
	{
		match: upstream(messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV, messages.KRB_AP_ERR_TKT_EXPIRED),
		word:  TokenRefused, causes: []Cause{CauseClock},
		remedy: RemedyUpstreamClock,
	},
	{
		match: upstream(messages.KRB_AP_ERR_REPEAT), word: TokenRefused,
		remedy: "the upstream took a new token for a replay: does something in between send requests twice, or do several proxies share the identity?",
	},
	{
		match: upstream(messages.KRB_AP_ERR_NOT_US), word: TokenRefused, causes: []Cause{CauseUnknownSPN},
		remedy: "the ticket is for a different service than the upstream's: fix spn (AD: setspn -Q HTTP/host shows which account has a name)",
	},
	{
		match: upstream(), word: TokenRefused,
		remedy: "see krb_error",
	},
	{
		match: always, word: TokenRefused, causes: []Cause{CauseSPNOnOtherAccount, CauseServiceKeyChanged, CauseUserMayNotEnter},
		remedy: "the upstream gave no reason: is the service principal on the account that the service runs as (AD: setspn -Q HTTP/host), and only " +
			"there? IIS: is useAppPoolCredentials set where the application pool has its own account? Does it require channel bindings (Extended " +
			"Protection)?",
	},
}

func always(*failure) bool { return true }

// refusal returns a condition for a KDC's refusals of operations, with one of the codes
// if there are any.
func refusal(ops []krb5core.Op, codes ...messages.ErrorCode) func(*failure) bool {
	return func(f *failure) bool {
		return f.refused && (ops == nil || slices.Contains(ops, f.kdc.Op)) && (codes == nil || slices.Contains(codes, f.code))
	}
}

// ntStatus returns a condition for refused logins with a status of Windows or Samba.
func ntStatus(status messages.NTStatus) func(*failure) bool {
	return func(f *failure) bool { return refusal(opsLogin)(f) && f.kdc.Status == status }
}

// upstream returns a condition for an upstream's refusals, with one of the codes if there
// are any.
func upstream(codes ...messages.ErrorCode) func(*failure) bool { return refusal(nil, codes...) }

// is returns a condition for errors that wrap target.
func is(target error) func(*failure) bool {
	return func(f *failure) bool { return errors.Is(f.err, target) }
}

// as is a condition for errors that wrap an E.
func as[E error](f *failure) bool {
	_, ok := errors.AsType[E](f.err)
	return ok
}

// otherUser reports whether the KDC issued a ticket for another user than the one asked
// for.
func otherUser(f *failure) bool {
	reply, ok := errors.AsType[*exchange.ReplyError](f.err)
	return ok && f.kdc != nil && f.kdc.Op == krb5core.OpS4USelf && (reply.Field == "cname" || reply.Field == "crealm")
}

// otherRealm reports whether a KDC answers a login for another realm than the one that was asked
// for, as one of Active Directory does if that is the domain's NetBIOS name.
func otherRealm(f *failure) bool {
	reply, ok := errors.AsType[*exchange.ReplyError](f.err)
	return ok && f.kdc != nil && f.kdc.Op == krb5core.OpLogin && reply.Field == "crealm"
}

// foreignRealm reports whether the KDC refuses impersonation because it does not know the
// ticket-granting service of another realm.
func foreignRealm(f *failure) bool {
	reply, ok := errors.AsType[*messages.KRBError](f.err)
	if !ok || !refusal(opsS4USelf, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)(f) {
		return false
	}
	_, ok = reply.SName.IsTGS()
	return ok
}
