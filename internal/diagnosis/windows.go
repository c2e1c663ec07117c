package diagnosis

import (
	"errors"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
)

// windowsRules are for what Windows answers by SSPI ([MS-ERREF], Section 2.1). The last one is for
// all other statuses.
var windowsRules = []rule{
	windowsRule(CredentialsMissing, "Windows has no Kerberos ticket for the account that Caddy runs as. Is the machine in the domain (nltest /sc_verify:DOMAIN), and does "+
		"the service run as a domain account, a group managed service account, NetworkService or LocalSystem, not as a local account or LocalService? "+
		"As that account: klist get HTTP/host. Then: caddy kerberos check --platform", []Cause{CauseAccount},
		sspi.SEC_E_NO_CREDENTIALS, sspi.SEC_E_UNKNOWN_CREDENTIALS, sspi.SEC_E_INCOMPLETE_CREDENTIALS, sspi.SEC_E_CONTEXT_EXPIRED,
		sspi.SEC_E_NO_TGT_REPLY, sspi.SEC_E_NO_IMPERSONATION),
	windowsRule(CredentialsRefused, "the domain refuses the account that Caddy runs as: is it disabled, locked or expired, or its password changed "+
		"(sc.exe config caddy password= ...; AD: Get-ADUser NAME -Properties Enabled,LockedOut,PasswordExpired)?", []Cause{CauseAccount},
		sspi.SEC_E_LOGON_DENIED, sspi.SEC_E_UNSUPPORTED_PREAUTH, sspi.SEC_E_SMARTCARD_LOGON_REQUIRED, sspi.SEC_E_NO_PA_DATA),
	windowsRule(CredentialsRefused, RemedyClock, []Cause{CauseClock}, sspi.SEC_E_TIME_SKEW),
	windowsRule(UnknownService, "the domain does not know the service principal, or has it on several accounts: setspn -Q SPN, then setspn -S SPN ACCOUNT for the one "+
		"that the service runs as. "+remedyAlias, []Cause{CauseUnknownSPN, CauseSPNOnOtherAccount},
		sspi.SEC_E_TARGET_UNKNOWN, sspi.SEC_E_INTERNAL_ERROR, sspi.SEC_E_MULTIPLE_ACCOUNTS, sspi.SEC_E_TOO_MANY_PRINCIPALS,
		sspi.SEC_E_KDC_UNABLE_TO_REFER, sspi.SEC_E_MAX_REFERRALS_EXCEEDED, sspi.SEC_E_MUST_BE_KDC),
	windowsRule(KDCUnreachable, "Windows reaches no domain controller of the realm: nltest /dsgetdc:DOMAIN, and does a firewall pass port 88 by UDP and TCP?", []Cause{CauseKDCDead},
		sspi.SEC_E_NO_AUTHENTICATING_AUTHORITY, sspi.SEC_E_NO_IP_ADDRESSES, sspi.SEC_E_SHUTDOWN_IN_PROGRESS, sspi.SEC_E_KDC_INVALID_REQUEST),
	windowsRule(NoCommonEType, "Windows and the domain have no encryption type in common for this account and service: give both AES keys "+
		"(msDS-SupportedEncryptionTypes, then set the password again), and look at the group policy Network security: Configure encryption types allowed for Kerberos",
		[]Cause{CauseNoCommonEType},
		sspi.SEC_E_KDC_UNKNOWN_ETYPE, sspi.SEC_E_CRYPTO_SYSTEM_INVALID, sspi.SEC_E_STRONG_CRYPTO_NOT_SUPPORTED, sspi.SEC_E_ALGORITHM_MISMATCH, sspi.SEC_E_NO_KERB_KEY),
	windowsRule(CredentialsRefused, "a policy of the domain forbids it: is Kerberos restricted for this account or service (authentication policies, Protected Users, "+
		"sensitive and cannot be delegated)?", []Cause{CauseAccount},
		sspi.SEC_E_DELEGATION_REQUIRED, sspi.SEC_E_DELEGATION_POLICY, sspi.SEC_E_POLICY_NLTM_ONLY, sspi.SEC_E_DOWNGRADE_DETECTED,
		sspi.SEC_E_SECURITY_QOS_FAILED, sspi.SEC_E_UNTRUSTED_ROOT),
	windowsRule(MutualAuthFailed, "the upstream did not prove that it has the service's key: is it the right host, and is the service principal on the account that the "+
		"service runs as (setspn -Q SPN)?", []Cause{CauseNoMutualAuth},
		sspi.SEC_E_WRONG_PRINCIPAL, sspi.SEC_E_MUTUAL_AUTH_FAILED, sspi.SEC_E_INVALID_TOKEN, sspi.SEC_E_MESSAGE_ALTERED, sspi.SEC_E_OUT_OF_SEQUENCE,
		sspi.SEC_E_ILLEGAL_MESSAGE, sspi.SEC_E_DECRYPT_FAILURE, sspi.SEC_E_ENCRYPT_FAILURE),
	windowsRule(ChannelBindingFailed, "the upstream expects another channel binding: does something terminate TLS before it (channel_binding cert FILE)?",
		[]Cause{CauseChannelBinding}, sspi.SEC_E_BAD_BINDINGS),
	{
		match: as[*sspi.Error], word: CredentialsMissing, causes: []Cause{CauseAccount},
		remedy: "Windows cannot use Kerberos here: caddy kerberos check --platform shows what it says, and a report needs",
	},
}

// windowsRule is for answers with one of the statuses.
func windowsRule(word Word, remedy string, causes []Cause, statuses ...sspi.Status) rule {
	return rule{word: word, causes: causes, remedy: remedy, match: func(f *failure) bool {
		answer, ok := errors.AsType[*sspi.Error](f.err)
		return ok && slices.Contains(statuses, answer.Status)
	}}
}
