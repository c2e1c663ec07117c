package kdctest

import (
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// target is the service that a ticket will be for.
type target struct {
	server   *view
	name     messages.PrincipalName // as it stands in the ticket
	referral bool                   // it is a ticket-granting ticket for another realm than asked
}

// findTarget finds the service asked for, or the next realm on the way to it
// (RFC 6806 8).
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

// localService is the account of this realm that a service name stands for;
// nil if there is none for which tickets can be had.
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

// homeOf is the realm of a service that is not ours. As MIT's KDC, this one
// refers only who asked for canonicalization, for names that are of a host or
// an instance, and for enterprise names.
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

// refer is the ticket-granting ticket for the next realm on the way to another.
func (x *tgsExchange) refer(realm string) (target, error) {
	hop := x.realm.nextHop(realm)
	p := x.realm.Principal("krbtgt/" + hop)
	if hop == "" || p == nil {
		return target{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no way to realm %s", realm)
	}
	return target{server: p.view(), name: messages.TGSName(hop), referral: true}, nil
}
