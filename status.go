package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// trouble is what becomes of an error: the status that a client gets, the name
// that stands in {http.negotiate.error}, and what an operator can do.
type trouble struct {
	Status int
	Name   string
	Remedy string
}

// The names of {http.negotiate.error}.
const (
	errKDCUnreachable     = "kdc_unreachable"
	errCredentialsRefused = "credentials_refused"
	errUnknownService     = "unknown_service"
	errNoCommonEType      = "no_common_etype"
	errBadSPN             = "bad_spn"
	errNotAllowedSPN      = "spn_not_allowed"
	errMutualAuthFailed   = "mutual_auth_failed"
	errTokenRefused       = "token_refused"
	errBindingFailed      = "channel_binding_failed"
	errNoUser             = "user_missing"
	errDeniedUser         = "user_denied"
	errUnknownUser        = "user_unknown"
	errNoDelegation       = "delegation_refused"
	errRefusedMethod      = "method_refused"
)

// diagnose is the one place where an error becomes an HTTP status. docs/troubleshooting.md
// tells the same to people.
func diagnose(err error) trouble {
	var (
		refused *negotiate.RefusedError
		etypes  *exchange.ETypeError
		fail    *krb5core.Error
		reply   *exchange.ReplyError

		wrongKey  *exchange.WrongKeyError
		unarmored *exchange.UnarmoredError
		preAuth   *exchange.PreAuthError
	)
	switch {
	case errors.Is(err, errMethodRefused):
		return trouble{http.StatusMethodNotAllowed, errRefusedMethod, "use another method: the upstream would show the client the token"}
	case errors.Is(err, errSPNNotAllowed):
		return trouble{http.StatusForbidden, errNotAllowedSPN, "add the service to allow_spns if clients may choose it"}
	case errors.Is(err, errUserMissing):
		return trouble{http.StatusForbidden, errNoUser, "nobody is signed in: does an authentication handler come before, and does impersonate name what it sets?"}
	case errors.Is(err, errUserDenied):
		return trouble{http.StatusForbidden, errDeniedUser, "allow_users and deny_users say so"}
	case errors.Is(err, krb5core.ErrEndUser):
		return trouble{http.StatusForbidden, errUnknownUser, "what impersonate yields is no user's name"}
	case errors.Is(err, errUpstreamName):
		return trouble{http.StatusBadGateway, errBadSPN, "an IP address or a socket names no service: state spn HTTP/host"}
	case errors.Is(err, errBindingMissing):
		return trouble{http.StatusBadGateway, errBindingFailed, "channel_binding required needs TLS to the upstream, and a certificate with an RSA or ECDSA signature"}
	case errors.Is(err, negotiate.ErrSPN):
		return trouble{http.StatusBadRequest, errBadSPN, "what the placeholder of spn yields must be one DNS name"}
	case errors.Is(err, negotiate.ErrMutualAuth):
		return trouble{
			http.StatusBadGateway, errMutualAuthFailed,
			"the upstream did not prove that it has the service's key: is it the right host, and does something between us and it answer in its place?",
		}
	case errors.As(err, &etypes):
		return trouble{http.StatusBadGateway, errNoCommonEType, remedyEType}
	case errors.As(err, &unarmored):
		return trouble{
			http.StatusBadGateway, errCredentialsRefused,
			"the KDC did not take part in FAST: does it know FAST, is fast_armor of its realm? Without fast_armor the login is not protected",
		}
	case errors.As(err, &preAuth), errors.Is(err, exchange.ErrSecondFactor):
		return trouble{http.StatusBadGateway, errCredentialsRefused, "let the account log in by password or keytab: no smart card, no second factor"}
	case errors.As(err, &fail) && fail.Op == krb5core.OpS4USelf && errors.As(err, &reply) && (reply.Field == "cname" || reply.Field == "crealm"):
		return trouble{http.StatusForbidden, errUnknownUser, "the KDC knows the user by another name than the one asked for: ask for that one, or for the user principal name"}
	case errors.As(err, &fail) && fail.Refused && (fail.Op == krb5core.OpS4USelf || fail.Op == krb5core.OpS4UProxy):
		return diagnoseDelegation(fail)
	case errors.As(err, &fail) && fail.Refused:
		return diagnoseCode(fail, kindOf(err))
	case errors.Is(err, negotiate.ErrCCache):
		return trouble{http.StatusBadGateway, errCredentialsRefused, "fill the credential cache again: kinit -c FILE, or let cron or SSSD do it"}
	case errors.As(err, &refused), errors.As(err, &wrongKey), errors.Is(err, exchange.ErrNoKey):
		return trouble{http.StatusBadGateway, errCredentialsRefused, "check user and " + secretNames[kindOf(err)]}
	case errors.Is(err, context.Canceled):
		return trouble{499, "", ""} // the client went away; nobody reads the answer
	default:
		return trouble{
			http.StatusServiceUnavailable, errKDCUnreachable,
			"is the KDC up, is kdc right, do firewalls pass port 88 by UDP and TCP?",
		}
	}
}

const remedyEType = "let the account and the service have AES keys (msDS-SupportedEncryptionTypes, then set the password once more), " +
	"or name in encryption_types what they have"

// kindOf tells what kind of secret a login failed with; empty if that is not known, or
// if it was another's: that of the armor.
func kindOf(err error) string {
	if fail, ok := errors.AsType[*krb5core.Error](err); ok && fail.Op == krb5core.OpArmor {
		return ""
	}
	if login, ok := errors.AsType[*negotiate.LoginError](err); ok {
		return login.Kind
	}
	return ""
}

// secretNames are what an operator has to look at.
var secretNames = map[string]string{
	negotiate.KindKeytab:       "keytab",
	negotiate.KindPassword:     "password",
	negotiate.KindPasswordFile: "password_file",
	negotiate.KindCCache:       "ccache",
	"":                         "keytab or password",
}

// renewals say how a password that is set anew at the KDC comes to be ours.
var renewals = map[string]string{
	negotiate.KindKeytab:       "export the keytab again",
	negotiate.KindPassword:     "state the new one in password",
	negotiate.KindPasswordFile: "write the new one into password_file",
	negotiate.KindCCache:       "fill the credential cache again",
	"":                         "export the keytab again",
}

// wrongKeyRemedy is for a key that the KDC refuses.
func wrongKeyRemedy(e *krb5core.Error, kind string) string {
	const anew = "or set it anew at the KDC (AD: Set-ADAccountPassword NAME -Reset; MIT: kadmin cpw NAME)"
	remedy := "wrong password, or a keytab made of another password or with another salt: set the password, or export the keytab again"
	switch kind {
	case negotiate.KindPassword:
		return "wrong password: correct password, " + anew
	case negotiate.KindPasswordFile:
		return "wrong password: correct password_file, where no space may stand around it, " + anew
	case negotiate.KindKeytab:
		remedy = "the keytab was made of another password or with another salt: export it again"
	}
	if e.HasSalt {
		remedy += fmt.Sprintf(" (the KDC salts with %q: caddy kerberos keytab add --salt)", e.Salt)
	}
	return remedy
}

// diagnoseCode tells what a KDC's refusal means. kind is that of our secret.
func diagnoseCode(e *krb5core.Error, kind string) trouble {
	login := e.Op == krb5core.OpLogin || e.Op == krb5core.OpArmor
	spn, _, _ := strings.Cut(e.Service, "@")
	refusedTo := func(remedy string) trouble {
		return trouble{http.StatusBadGateway, errCredentialsRefused, remedy}
	}
	if remedy := statusRemedies[e.Status]; login && remedy != "" {
		return refusedTo(strings.ReplaceAll(remedy, "RENEW", renewals[kind]))
	}
	switch e.Code {
	case messages.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return refusedTo("the KDC does not know the account: check user and realm (AD: Get-ADUser NAME)")
	case messages.KDC_ERR_PREAUTH_FAILED, messages.KRB_AP_ERR_BAD_INTEGRITY:
		if login {
			return refusedTo(wrongKeyRemedy(e, kind))
		}
	case messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_NAME_EXP:
		return refusedTo("the account is disabled, locked or expired (AD: Get-ADUser NAME -Properties LockedOut,Enabled,AccountExpirationDate; Unlock-ADAccount NAME)")
	case messages.KDC_ERR_KEY_EXPIRED:
		return refusedTo("the account's password has expired or must be changed: set it, " + renewals[kind] + ", and let it never expire for a service account")
	case messages.KDC_ERR_POLICY:
		return refusedTo("the KDC's policy forbids it: is the account disabled, are its logon hours or workstations limited, is FAST demanded (then state fast_armor)?")
	case messages.KDC_ERR_ETYPE_NOSUPP:
		return trouble{http.StatusBadGateway, errNoCommonEType, remedyEType}
	case messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, messages.KDC_ERR_S_OLD_MAST_KVNO, messages.KDC_ERR_SERVICE_EXP, messages.KDC_ERR_SERVICE_REVOKED,
		messages.KDC_ERR_SERVICE_NOTYET, messages.KDC_ERR_MUST_USE_USER2USER:
		return trouble{
			http.StatusBadGateway, errUnknownService,
			"register the service principal on the account that the service runs as (AD: setspn -Q " + spn + ", then setspn -S " + spn + " ACCOUNT; MIT: kadmin addprinc -randkey " + spn + "); is the host in the right realm?",
		}
	case messages.KDC_ERR_SVC_UNAVAILABLE:
		return trouble{http.StatusServiceUnavailable, errKDCUnreachable, "the KDC says that it cannot serve now"}
	case messages.KRB_AP_ERR_SKEW:
		return trouble{http.StatusBadGateway, errCredentialsRefused, "clocks differ: synchronise this machine and the KDC (AD: w32tm /resync)"}
	default: // goes by what was asked
	}
	if login {
		return refusedTo("the KDC refused the login: see krb_error in the log")
	}
	return trouble{http.StatusBadGateway, errUnknownService, "the KDC refused the ticket: see krb_error in the log"}
}

// statusRemedies are for what Windows and Samba tell beside a KRB-ERROR, which has but one code for
// several of them ([MS-ERREF] 2.3). RENEW stands for one of renewals.
var statusRemedies = map[messages.NTStatus]string{
	messages.STATUS_ACCOUNT_DISABLED:   "the account is disabled (AD: Enable-ADAccount NAME)",
	messages.STATUS_ACCOUNT_LOCKED_OUT: "the account is locked after wrong passwords: find out who sends them, then Unlock-ADAccount NAME",
	messages.STATUS_ACCOUNT_EXPIRED:    "the account has expired (AD: Clear-ADAccountExpiration NAME)",
	messages.STATUS_PASSWORD_EXPIRED: "the account's password has expired: set it, RENEW, and let it never expire for a service account " +
		"(AD: Set-ADUser NAME -PasswordNeverExpires $true)",
	messages.STATUS_PASSWORD_MUST_CHANGE: "the account must change its password first: set it without that demand, and RENEW " +
		"(AD: Set-ADUser NAME -ChangePasswordAtLogon $false)",
	messages.STATUS_INVALID_LOGON_HOURS:      "the account may not log in at this hour (AD: Get-ADUser NAME -Properties logonHours)",
	messages.STATUS_INVALID_WORKSTATION:      "the account may not log in from this machine (AD: Get-ADUser NAME -Properties LogonWorkstations)",
	messages.STATUS_ACCOUNT_RESTRICTION:      "an authentication policy or a restriction of the account forbids the login; where armor is demanded (FAST), state fast_armor",
	messages.STATUS_SMARTCARD_LOGON_REQUIRED: "the account must log in with a smart card (AD: Set-ADUser NAME -SmartcardLogonRequired $false)",
}

// diagnoseDelegation tells what a KDC's refusal to let us act for a user means. One code
// has several causes; the remedies name those that the protocol cannot tell apart.
func diagnoseDelegation(e *krb5core.Error) trouble {
	self := e.Op == krb5core.OpS4USelf
	forbidden := func(name, remedy string) trouble { return trouble{http.StatusForbidden, name, remedy} }
	switch e.Code {
	case messages.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return forbidden(errUnknownUser, "the KDC does not know the user (AD: Get-ADUser NAME; for a UPN: Get-ADUser -Filter 'UserPrincipalName -eq \"NAME\"')")
	case messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_POLICY, messages.KDC_ERR_NAME_EXP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_CLIENT_NOTYET:
		return forbidden(errDeniedUser, "the user's account is disabled, locked or expired, or policy forbids it "+
			"(AD: Get-ADUser NAME -Properties Enabled,LockedOut,AccountExpirationDate)")
	case messages.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		switch {
		case self && foreignRealm(e):
			return forbidden(errUnknownUser, "no way leads to the user's realm: is DOMAIN\\user meant by its NetBIOS name (netbios in the realm block), "+
				"and do the realms trust each other (AD: Get-ADTrust -Filter *)?")
		case self:
			return forbidden(errNoDelegation, "our own account needs a service principal to act for users (AD: setspn -S HTTP/proxy.corp.example ACCOUNT)")
		}
	case messages.KDC_ERR_BADOPTION, messages.KRB_AP_ERR_BADMATCH, messages.KDC_ERR_PADATA_TYPE_NOSUPP:
		return forbidden(errNoDelegation, "the KDC does not let our account act for this user towards this service. Is the service in msDS-AllowedToDelegateTo of our account, "+
			"with TrustedToAuthForDelegation set (AD: Get-ADUser ACCOUNT -Properties msDS-AllowedToDelegateTo,TrustedToAuthForDelegation), or our account in "+
			"PrincipalsAllowedToDelegateToAccount of the service? Is the user marked sensitive or in Protected Users?")
	default: // is not about delegation
	}
	return diagnoseCode(e, "")
}

// foreignRealm tells whether the refusal is about the way to a realm.
func foreignRealm(e *krb5core.Error) bool {
	var refusal *messages.KRBError
	if !errors.As(e, &refusal) {
		return false
	}
	_, ok := refusal.SName.IsTGS()
	return ok
}

// refusalRemedy says what to do about an upstream that refuses our token.
func refusalRemedy(v negotiate.Verdict) string {
	if v.Error == nil {
		return "the upstream gave no reason: is the service principal on the account that the service runs as (AD: setspn -Q HTTP/host), and there alone? " +
			"IIS: is useAppPoolCredentials set where the application pool has an account of its own? Does it demand channel bindings (Extended Protection)?"
	}
	switch v.Error.Code() {
	case messages.KRB_AP_ERR_MODIFIED, messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KRB_AP_ERR_BAD_INTEGRITY:
		return "the service has another key than the KDC made the ticket for: is the service principal on the account that the service runs as " +
			"(AD: setspn -Q HTTP/host), and there alone? Was its keytab exported after the last change of its password?"
	case messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV, messages.KRB_AP_ERR_TKT_EXPIRED:
		return "clocks differ: synchronise this machine, the upstream and the KDC (Windows: w32tm /resync)"
	case messages.KRB_AP_ERR_REPEAT:
		return "the upstream took a fresh token for a replay: does something between us and it send requests twice, or do several proxies share the identity?"
	case messages.KRB_AP_ERR_NOT_US:
		return "the ticket is for another service than the upstream is: correct spn"
	default:
		return "see krb_error"
	}
}

// mutualAuthError says why an upstream has not proved itself.
func mutualAuthError(v negotiate.Verdict) error {
	switch {
	case v.Proof != nil:
		return fmt.Errorf("%w: %w", negotiate.ErrMutualAuth, v.Proof)
	case v.Error != nil:
		return fmt.Errorf("%w: %w", negotiate.ErrMutualAuth, v.Error)
	default:
		return fmt.Errorf("%w: the upstream sent no proof", negotiate.ErrMutualAuth)
	}
}

func codeText(code messages.ErrorCode) string { return strconv.Itoa(int(code)) }

// ours tells whether a request failed for want of a ticket or a proof, rather than on its
// way to the upstream.
func ours(err error) bool {
	var (
		fail    *krb5core.Error
		refused *negotiate.RefusedError
		far     *kdc.UnreachableError
		etypes  *exchange.ETypeError
	)
	return errors.Is(err, errMethodRefused) || errors.Is(err, errSPNNotAllowed) || errors.Is(err, negotiate.ErrSPN) || errors.Is(err, errBindingMissing) ||
		errors.Is(err, errUserMissing) || errors.Is(err, errUserDenied) || errors.Is(err, krb5core.ErrEndUser) ||
		errors.Is(err, negotiate.ErrMutualAuth) || errors.As(err, &fail) || errors.As(err, &refused) || errors.As(err, &far) ||
		errors.As(err, &etypes) || negotiate.Remembered(err)
}
