package kdctest

import (
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// target is the service of a ticket to issue.
type target struct {
	server   *view
	name     messages.PrincipalName // in the ticket
	referral bool                   // a ticket-granting ticket for another realm than requested
}

// findTarget returns the requested service, or the next realm on the path to it
// (RFC 6806, Section 8).
func (x *tgsExchange) findTarget(name messages.PrincipalName) (target, error) {
	if realm, ok := name.IsTGS(); ok && realm != x.realm.name {
		t, err := x.refer(realm)
		t.referral = t.referral && !t.name.Equal(name)
		return t, err
	}
	if p := x.localService(name); p != nil {
		t := target{server: p.view(), name: name}
		if x.canonicalize() && p.isAlias(name.String()) {
			t.name = p.principalName()
			t.name.NameType = name.NameType
		}
		return t, nil
	}
	if realm := x.homeOf(name); realm != "" && realm != x.realm.name {
		return x.refer(realm)
	}
	return target{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no service %q", name)
}

func (x *tgsExchange) canonicalize() bool {
	return x.req.Body.KDCOptions&messages.KDC_OPT_CANONICALIZE != 0
}

// localService returns the account of this realm with a service name; nil if there
// is none for which the KDC issues tickets.
func (x *tgsExchange) localService(name messages.PrincipalName) *Principal {
	text := name.String()
	p := x.realm.Principal(text)
	if p == nil && name.NameType == messages.KRB_NT_ENTERPRISE && x.realm.realmOfSuffix(text) == x.realm.name {
		p = x.realm.Principal(text[:strings.LastIndexByte(text, '@')])
	}
	if p == nil || !p.view().service {
		return nil
	}
	return p
}

// homeOf returns the realm of a service of another realm. Like MIT's KDC, this one
// refers only clients that request canonicalization, for names of a host or an
// instance and for enterprise names.
func (x *tgsExchange) homeOf(name messages.PrincipalName) string {
	if !x.canonicalize() {
		return ""
	}
	switch name.NameType {
	case messages.KRB_NT_ENTERPRISE:
		return x.realm.realmOfSuffix(name.String())
	case messages.KRB_NT_SRV_INST, messages.KRB_NT_SRV_HST:
		if len(name.NameString) >= 2 {
			host, _, _ := strings.Cut(name.NameString[1], ":")
			return x.realm.realmOfHost(host)
		}
	}
	return ""
}

// refer returns the ticket-granting ticket for the next realm on the path to another.
func (x *tgsExchange) refer(realm string) (target, error) {
	hop := x.realm.nextHop(realm)
	p := x.realm.Principal("krbtgt/" + hop)
	if hop == "" || p == nil {
		return target{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no way to realm %s", realm)
	}
	return target{server: p.view(), name: messages.TGSName(hop), referral: true}, nil
}
