package diagnosis

import (
	"fmt"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// KeyEvidence is what is known of a key that a KDC refused.
type KeyEvidence struct {
	Kind      negotiate.SecretKind
	Path      string // of the keytab
	Principal messages.Principal
	Held      uint32 // version of the newest key held; 0 if there is none
	KDC       uint32 // version of the KDC's key; 0 if it did not tell
	Salt      string // the KDC's; empty if it did not tell
}

// Narrow adds what is known of the refused key to a diagnosis. Without the KDC's version
// of the key a keytab has three possible causes, which the remedy tells apart.
func (e KeyEvidence) Narrow(d Diagnosis) Diagnosis {
	account := e.Principal.Name.String()
	if e.Kind == negotiate.KindGMSA {
		d.Causes = []Cause{CauseManagedPassword}
		return d
	}
	if e.Kind != negotiate.KindKeytab {
		d.Causes = []Cause{CauseWrongPassword}
		d.Remedy = fmt.Sprintf("the password of %s is wrong: correct it here, or %s. In a file, there must not be a space around it", account, setAtKDC(account))
		return d
	}
	export := fmt.Sprintf("export it again: AD: ktpass /princ %s /mapuser %s /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out %s; MIT: kadmin ktadd -k %s %s",
		e.Principal, account, e.Path, e.Path, account)
	if e.KDC != 0 && e.KDC != e.Held {
		d.Causes = []Cause{CauseKeytabVersion}
		d.Remedy = "the password was changed after the keytab was exported: " + export
		return d
	}
	d.Causes = []Cause{CauseKeytabVersion, CauseKeytabSalt, CauseWrongPassword}
	d.Remedy = fmt.Sprintf("one of three, which the protocol does not tell apart:\n1. the password was changed after the keytab was exported: compare version %d with the account's "+
		"(AD: Get-ADUser %s -Properties msDS-KeyVersionNumber; MIT: kadmin getprinc %s); if they differ, %s\n"+
		"2. they agree, but the key was derived with another salt than the KDC's %q, as after a renaming: caddy kerberos keytab add %s --principal %s --kvno %d --salt %q\n"+
		"3. it was derived from another password: the same command, with the right one",
		e.Held, account, account, export, e.Salt, e.Path, e.Principal, e.Held, e.Salt)
	return d
}

// DelegationEvidence is what is known when a KDC refuses constrained delegation.
type DelegationEvidence struct {
	Account, User string // names without a realm
	SPN           string
	// User's and Own report whether the S4U2Self ticket of the user, and that of our own
	// account, is forwardable.
	UserForwardable, OwnForwardable bool
	// OwnKnown reports whether OwnForwardable was found out.
	OwnKnown bool
}

// Narrow tells the user's flag, our account's flag and the delegation list apart.
func (e DelegationEvidence) Narrow(d Diagnosis) Diagnosis {
	list := fmt.Sprintf("Set-ADUser %s -Add @{'msDS-AllowedToDelegateTo'='%s'}", e.Account, e.SPN)
	sensitive := fmt.Sprintf("Get-ADUser %s -Properties AccountNotDelegated,MemberOf shows it: clear the flag, or remove the user from Protected Users", e.User)
	trust := fmt.Sprintf("Set-ADAccountControl %s -TrustedToAuthForDelegation $true", e.Account)
	switch {
	case e.UserForwardable:
		d.Causes = []Cause{CauseNotInDelegationList}
		d.Remedy = fmt.Sprintf("add the service to our account's list (AD: %s), or our account to the service's (AD: Set-ADUser SERVICE-ACCOUNT -PrincipalsAllowedToDelegateToAccount %s)", list, e.Account)
	case e.OwnKnown && e.OwnForwardable:
		d.Causes = []Cause{CauseUserNotDelegable}
		d.Remedy = "AD: " + sensitive
	case e.OwnKnown:
		d.Causes = []Cause{CauseAccountNotTrusted, CauseUserNotDelegable}
		d.Remedy = fmt.Sprintf("AD: %s, and %s. If that is in place: %s", trust, list, sensitive)
	default:
		d.Causes = []Cause{CauseAccountNotTrusted, CauseUserNotDelegable}
		d.Remedy = fmt.Sprintf("one of two:\n1. our account is not trusted to authenticate for delegation (AD: %s)\n2. the user may not be delegated: %s", trust, sensitive)
	}
	return d
}

// ServiceKey is for an upstream that cannot decrypt a new ticket for spn.
func ServiceKey(spn string) Diagnosis {
	d := OfRefusal(negotiate.Verdict{Error: &messages.KRBError{ErrorCode: messages.KRB_AP_ERR_MODIFIED}})
	d.Remedy = fmt.Sprintf("one of two:\n1. %s is on another account than the one that the service runs as: AD: setspn -Q %s shows on which; then setspn -D %s OTHER and setspn -S %s SERVICE-ACCOUNT. "+
		"IIS: a pool with its own account needs useAppPoolCredentials=true, or the SPN on the computer\n"+
		"2. it is the right account, whose password was changed without the upstream: compare the version above with klist -k on the upstream, "+
		"and export its keytab again (AD: ktpass; MIT: kadmin ktadd), or restart the service with the new password", spn, spn, spn, spn)
	return d
}

// NoReason is for an upstream that refuses a token for spn of client without a KRB-ERROR,
// as IIS does.
func NoReason(spn, client string) Diagnosis {
	d := OfRefusal(negotiate.Verdict{})
	d.Remedy = fmt.Sprintf("one of three:\n1. %s is on another account than the service runs as (AD: setspn -Q %s; IIS: useAppPoolCredentials)\n"+
		"2. the service's password was changed without the upstream. With either, the event log of Windows has Kerberos event 4 (KRB_AP_ERR_MODIFIED), Apache's error log says so at LogLevel debug\n"+
		"3. the token is good, and the account may not enter: then Windows' security log has a logon (4624) of %s, and IIS logs 401 with substatus 1 to 3 or 5 instead of 401.1", spn, spn, client)
	return d
}

// Discovery is for a realm whose KDCs are not found.
func Discovery(realm string) Diagnosis {
	return Diagnosis{Causes: []Cause{CauseKDCDead}, Remedy: "set kdc dc1.corp.example, or let this machine ask a DNS server that knows the domain (nslookup -type=SRV _kerberos._tcp." +
		strings.ToLower(realm) + ")"}
}

// Silence is for a KDC that does not answer by UDP, by TCP, or at all. othersAnswer
// reports whether other KDCs of the realm do.
func Silence(udp, tcp, othersAnswer bool) Diagnosis {
	const everywhere = "is it up, is kdc right, do firewalls pass port 88 by UDP and TCP? On Windows: Test-NetConnection HOST -Port 88"
	switch {
	case udp && tcp && othersAnswer:
		return Diagnosis{Causes: []Cause{CauseKDCDead}, Remedy: everywhere + " Or remove it from kdc"}
	case udp && tcp:
		return Diagnosis{Causes: []Cause{CauseKDCDead}, Remedy: everywhere}
	case udp:
		return Diagnosis{Remedy: "let firewalls pass port 88 by UDP, or set use_tcp so that requests do not wait for it"}
	default:
		return Diagnosis{Remedy: "let firewalls pass port 88 by TCP: replies for accounts in many groups do not fit a datagram"}
	}
}
