package diagnosis

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// RemedyClock is for clocks that differ too much.
const RemedyClock = "synchronize the clocks of this machine and the KDC. Windows: w32tm /query /status, then w32tm /resync; " +
	"elsewhere: chronyc makestep, or timedatectl set-ntp true"

// RemedyUpstreamClock is for an upstream whose clock differs too much.
const RemedyUpstreamClock = "the clocks differ: synchronize this machine, the upstream and the KDC (Windows: w32tm /resync)"

const (
	remedyEType = "let the account and the service have AES keys (msDS-SupportedEncryptionTypes, then set the password again), " +
		"or name in encryption_types what they have"
	remedyUnreachable = "is the KDC up, is kdc right, do firewalls pass port 88 by UDP and TCP?"
	remedyAlias       = "If the name is an alias (CNAME) of the host, set spn to the host's own name"
)

// renewals say how a password that was set at the KDC gets here.
var renewals = map[negotiate.SecretKind]string{
	negotiate.KindKeytab:       "export the keytab again",
	negotiate.KindPassword:     "set password to the new one",
	negotiate.KindPasswordFile: "write the new one into password_file",
	negotiate.KindCCache:       "fill the credential cache again",
	negotiate.KindCertificate:  "keep the certificate",
	negotiate.KindPlatform:     "set it for the service (sc.exe config caddy password= ...)",
	negotiate.KindGMSA:         "wait until Caddy has read it",
	"":                         "export the keytab again",
}

// setAtKDC says how to set a password at the KDC.
func setAtKDC(account string) string {
	return fmt.Sprintf("set a new one at the KDC (AD: Set-ADAccountPassword %s -Reset; MIT: kadmin cpw %s)", account, account)
}

// unreachable tells a name that does not exist from a KDC that does not answer.
func unreachable(f *failure) string {
	if lookup, ok := errors.AsType[*net.DNSError](f.err); ok && lookup.IsNotFound {
		return UnknownKDC(lookup.Name) + " Otherwise: " + remedyUnreachable
	}
	return remedyUnreachable
}

// UnknownKDC is the remedy for a KDC whose name the DNS does not have.
func UnknownKDC(name string) string {
	return name + " is not in the DNS: is kdc right, and does this machine ask a DNS server that knows the domain?"
}

func checkSecret(f *failure) string {
	return "check user and " + cmp.Or(string(f.kind), "keytab or password")
}

// wrongKey is for a key that the KDC refuses.
func wrongKey(f *failure) string {
	remedy := "wrong password, or a keytab with another password or salt: set the password, or export the keytab again"
	switch f.kind {
	case negotiate.KindPassword:
		return "wrong password: correct password, or " + setAtKDC("NAME")
	case negotiate.KindPasswordFile:
		return "wrong password: correct password_file, which must not have a space around the password, or " + setAtKDC("NAME")
	case negotiate.KindKeytab:
		remedy = "the keytab has keys of another password or with another salt: export it again"
	case negotiate.KindGMSA:
		return "the KDC refuses the password that Active Directory shows for the account: do the domain controllers replicate (repadmin /replsummary), " +
			"and has the account AES keys (Set-ADServiceAccount NAME -KerberosEncryptionType AES128,AES256)?"
	case negotiate.KindCCache, negotiate.KindCertificate, negotiate.KindPlatform: // no key is used
	}
	if f.kdc.HasSalt {
		remedy += fmt.Sprintf(" (the KDC's salt is %q: caddy kerberos keytab add --salt)", f.kdc.Salt)
	}
	return remedy
}

// shortRealm is for a KDC that names another realm than the one of user.
func shortRealm(f *failure) string {
	reply, _ := errors.AsType[*exchange.ReplyError](f.err)
	return netBIOSName(f.kdc.Client, reply.Got)
}

// shortName matches an account whose realm may be a NetBIOS name, since it has no dot.
var shortName = regexp.MustCompile(`@[^@.]+$`)

// netBIOSName says what to write where the realm of an account seems to be the NetBIOS name of
// another realm, as in CORP\name.
func netBIOSName(client, realm string) string {
	at := strings.LastIndexByte(client, '@')
	name, short := client[:max(0, at)], client[at+1:]
	return fmt.Sprintf(`the KDC names the realm %s, not %s: is %s the domain's short (NetBIOS) name? Write user %s@%s, or tell what %s\... means: `+
		"realm %s { netbios %s } in the global option kerberos", realm, short, short, name, realm, short, realm, short)
}

func unconfiguredRealm(f *failure) string {
	refusal, _ := errors.AsType[*exchange.UnconfiguredRealmError](f.err)
	if f.kdc != nil && shortName.MatchString(f.kdc.Client) {
		return netBIOSName(f.kdc.Client, refusal.Realm)
	}
	return fmt.Sprintf("the account is in realm %s, which is not configured: if the password may be proved there, add realm %s { } to the kerberos app, "+
		"or log in with the name that the account has there", refusal.Realm, refusal.Realm)
}

func keyExpired(f *failure) string {
	return "the account's password has expired or must be changed: set it, " + renewals[f.kind] + ", and let it never expire for a service account"
}

func passwordExpired(f *failure) string {
	return "the account's password has expired: set it, " + renewals[f.kind] + ", and let it never expire for a service account " +
		"(AD: Set-ADUser NAME -PasswordNeverExpires $true)"
}

func passwordMustChange(f *failure) string {
	return "the account must change its password first: set it without that requirement, and " + renewals[f.kind] +
		" (AD: Set-ADUser NAME -ChangePasswordAtLogon $false)"
}

// passwordRefused is for a new password that the KDC does not accept (RFC 3244, Section 2).
func passwordRefused(f *failure) string {
	refused, _ := errors.AsType[*kpasswd.RefusedError](f.err)
	switch refused.Code {
	case kpasswd.KRB5_KPASSWD_SOFTERROR:
		return "the new password has 64 characters of all kinds: usually it is too early, because the policy has a least age (AD: " +
			"Get-ADDefaultDomainPasswordPolicy, MinPasswordAge; MIT: kadmin getpol, Minimum password life); give the account a policy of its own, or rotate more rarely"
	case kpasswd.KRB5_KPASSWD_ACCESSDENIED:
		return "let the account change its own password (AD: Set-ADUser NAME -CannotChangePassword $false), or turn rotate_password off"
	default:
		return "the server that changes passwords says why; its log says more"
	}
}

func unknownAccount(f *failure) string {
	remedy := "the KDC does not know the account, or demands canonicalization: check user and realm (AD: Get-ADUser NAME), and leave canonicalize on"
	if name, _, _ := strings.Cut(f.kdc.Client, "@"); strings.Contains(name, "/") {
		remedy += "; in Active Directory a service principal is no login name unless it is the account's user principal name: set user to the " +
			"account's name (setspn -Q " + name + ")"
	}
	return remedy
}

func unknownService(f *failure) string {
	spn, _, _ := strings.Cut(f.kdc.Service, "@")
	return "is the host's name right? If so, register the service principal on the account that the service runs as (AD: setspn -Q " + spn + ", then setspn -S " + spn +
		" ACCOUNT; MIT: kadmin addprinc -randkey " + spn + "); is the host in the right realm? " + remedyAlias
}

func spnNotUnique(f *failure) string {
	spn, _, _ := strings.Cut(f.kdc.Service, "@")
	return fmt.Sprintf("%s is on several accounts (AD: setspn -Q %s, setspn -X): remove it from all but the one that the service runs as (setspn -D)", spn, spn)
}

// refusedEvidence says which flag on which account keeps a user from being impersonated by the
// ticket that they signed in with.
func refusedEvidence(f *failure) string {
	service, _, _ := strings.Cut(f.kdc.Service, "@")
	own, _, _ := strings.Cut(f.kdc.Client, "@")
	resource := "our account is in PrincipalsAllowedToDelegateToAccount of the service's (AD: Set-ADUser SERVICE-ACCOUNT -PrincipalsAllowedToDelegateToAccount " + own + ")"
	e, _ := errors.AsType[*negotiate.EvidenceError](f.err)
	if e.Forwardable {
		return fmt.Sprintf("the user's ticket is good, and our account may not impersonate users to %s: add it to the account's list (AD: Set-ADUser %s -Add "+
			"@{'msDS-AllowedToDelegateTo'='%s'}; protocol transition is not needed), or see that %s", service, own, service, resource)
	}
	return "the user's ticket is not forwardable. Is the user marked sensitive, or in Protected Users (AD: Get-ADUser NAME -Properties AccountNotDelegated,MemberOf)? " +
		"Clients with MIT's Kerberos ask for forwardable tickets by kinit -f, or forwardable = true in krb5.conf. Windows' KDC accepts others too if " + resource
}
