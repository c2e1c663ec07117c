package diagnosis

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// managedRules are for passwords of group managed service accounts that cannot be read.
var managedRules = []rule{
	{match: as[*negotiate.PasswordError], word: CredentialsMissing, causes: []Cause{CauseManagedPassword}, remedyOf: unreadPassword},
}

// readerRules are for the account that reads the password, of which managedRules say nothing.
var readerRules = slices.Concat(certificateRules, clientRules, accountRules, refusalRules, localRules)

// unreadPassword depends on how far the reading came.
func unreadPassword(f *failure) string {
	e, _ := errors.AsType[*negotiate.PasswordError](f.err)
	account, reader := e.Account.Name.String(), e.Reader.Name.String()
	switch e.Stage() {
	case gmsa.StageFind:
		return "name a domain controller: gmsa " + account + " { server ldaps://dc1.corp.example }, or let this machine ask a DNS server that knows the domain " +
			"(nslookup -type=SRV _ldap._tcp." + e.Account.Realm + ")"
	case gmsa.StageConnect:
		return fmt.Sprintf("is the domain controller up, do firewalls pass port %d, has it a certificate for LDAPS? (Test-NetConnection HOST -Port %[1]d)", gmsa.DefaultPort)
	case gmsa.StageTLS:
		return unreadByTLS(e)
	case gmsa.StageLogin:
		return fmt.Sprintf("%s, which reads the password, gets no ticket for LDAP: %s", reader, newFailure(e.Err).diagnose(readerRules).Remedy)
	case gmsa.StageSearch:
		return "the domain controller cannot make the password: is there a KDS root key, and in force since ten hours (Get-KdsRootKey, Add-KdsRootKey)?"
	case gmsa.StageBind:
		return "the domain controller refuses " + reader + ": is something that breaks TLS up between it and Caddy, so that channel bindings differ? " +
			"Is ldap/HOST on the domain controller's account (setspn -Q ldap/HOST)?"
	case gmsa.StageAccount:
		return "correct the name after gmsa (Get-ADServiceAccount -Filter *), or create the account: New-ADServiceAccount"
	case gmsa.StagePermission:
		return fmt.Sprintf("allow it: Set-ADServiceAccount %s -PrincipalsAllowedToRetrieveManagedPassword %s names all who may, so add those of "+
			"Get-ADServiceAccount %[1]s -Properties PrincipalsAllowedToRetrieveManagedPassword; a new member of a group is one after its next login (caddy kerberos flush)",
			account, reader)
	default:
		return "the domain controller is not one of Active Directory's, or something changes its answers: name another with server ldaps://HOST"
	}
}

func unreadByTLS(e *negotiate.PasswordError) string {
	if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		return "name the domain controller as its certificate does: server ldaps://HOST"
	}
	return "set tls_ca to the CA that has signed the domain controller's certificate (on a domain controller: certutil -ca.cert CA.crt; as PEM: certutil -encode), " +
		"and let the certificate be valid"
}
