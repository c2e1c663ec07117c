package accept

import (
	"net/netip"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// openTicket decrypts the ticket with the account's keys.
func (x *exchange) openTicket() *Error {
	if x.ticket != nil {
		return nil // recalled
	}
	part := &x.req.Ticket.EncPart
	keys := x.cfg.Keys.KeysFor(x.service())
	sameType, sameVersion := false, false
	for _, k := range keys {
		if k.key.EType() != part.EType {
			continue
		}
		sameType = true
		if part.HasKVNO && !k.isVersion(part.KVNO) {
			continue
		}
		sameVersion = true
		ticket, refusal := k.open(&x.req.Ticket)
		if refusal != nil {
			return refusal
		}
		if ticket == nil {
			continue
		}
		x.ticket = ticket
		x.key = k
		return nil
	}
	switch {
	case len(keys) == 0:
		return refuse(WrongService)
	case !sameType:
		return refuse(NoKey)
	case !sameVersion:
		return refuse(UnknownVersion)
	}
	return refuse(WrongKey)
}

// openAuthenticator decrypts the authenticator with the ticket's session key.
func (x *exchange) openAuthenticator() *Error {
	key, part := x.ticket.Key, &x.req.Authenticator
	switch {
	case !x.cfg.allows(key.EType()):
		return refuse(WeakEType)
	case part.EType != key.EType():
		return refuse(BadAuthenticator)
	}
	var err error
	if x.plain, err = x.ticket.authenticator.Open(nil, part.Cipher); err != nil {
		return because(BadAuthenticator, err)
	}
	if x.auth, err = messages.ParseAuthenticator(x.plain); err != nil {
		return because(BadAuthenticator, err)
	}
	// RFC 4120, Section 5.2.4, has no microseconds below zero. Kerberos.NET sent them half of the time
	// until 2022, and MIT's acceptor takes them.
	const second = 1_000_000
	if x.auth.CUSec <= -second || x.auth.CUSec >= second {
		return refuse(BadAuthenticator)
	}
	if !x.auth.CName.Equal(x.ticket.CName) || x.auth.CRealm != x.ticket.CRealm {
		return refuse(Mismatch)
	}
	return nil
}

// checkTimes allows the skew on both ends of a ticket (RFC 4120, Section 3.2.3).
func (x *exchange) checkTimes() *Error {
	skew := x.cfg.MaxSkew
	start := x.ticket.StartTime
	if start.IsZero() {
		start = x.ticket.AuthTime
	}
	switch {
	case x.offset().Abs() > skew:
		return refuse(Skew)
	case start.Sub(x.now) > skew, x.ticket.Flags&messages.TKT_FLG_INVALID != 0:
		return refuse(NotYetValid)
	case x.now.Sub(x.ticket.EndTime) > skew:
		return refuse(Expired)
	}
	return nil
}

// anonymous is the name of clients who do not say who they are (RFC 8062, Section 3).
var anonymous = messages.NewPrincipalName(messages.KRB_NT_WELLKNOWN, "WELLKNOWN", "ANONYMOUS")

// checkClient refuses anonymous clients.
func (x *exchange) checkClient() *Error {
	name := x.ticket.CName
	if x.ticket.Flags&messages.TKT_FLG_ANONYMOUS != 0 || name.Equal(anonymous) || len(name.NameString) == 0 {
		return refuse(Anonymous)
	}
	return nil
}

// checkAddress verifies that the ticket may be used from where the client is. NetBIOS names, which
// Windows may add and no service can verify, restrict nothing.
func (x *exchange) checkAddress() *Error {
	restricted := false
	from := x.request.Address.Unmap().WithZone("")
	for _, a := range x.ticket.CAddr {
		if a.AddrType == messages.ADDRTYPE_NETBIOS {
			continue
		}
		restricted = true
		ip, ok := netip.AddrFromSlice(a.Address)
		if ok && (a.AddrType == messages.ADDRTYPE_IPV4 || a.AddrType == messages.ADDRTYPE_IPV6) && ip.Unmap() == from {
			return nil
		}
	}
	if restricted {
		return refuse(BadAddress)
	}
	return nil
}

// checkTransited refuses clients of other realms whose path the KDC has not verified (RFC 4120,
// Section 2.7), unless nothing lies between the realms.
func (x *exchange) checkTransited() *Error {
	t := x.ticket
	if t.CRealm != x.req.Ticket.Realm && t.Flags&messages.TKT_FLG_TRANSITED_POLICY_CHECKED == 0 && len(t.Transited.Contents) > 0 {
		return refuse(BadPath)
	}
	return nil
}

// readChecksum reads the checksum of the authenticator, without which there is no GSS-API context
// (RFC 4121, Section 4.1.1). A delegated ticket in it is dropped.
func (x *exchange) readChecksum() *Error {
	sum := x.auth.Cksum
	if sum == nil || sum.Type != gss.CKSUMTYPE_GSS {
		return refuse(NoChecksum)
	}
	var err error
	if x.sum, err = gss.ParseChecksum(sum.Value); err != nil {
		return because(BadChecksum, err)
	}
	x.sum.DelegatedCred = nil
	return nil
}

// remember refuses an authenticator that came before.
func (x *exchange) remember() *Error {
	reason := x.cfg.Replays.of(x.key, x.now, x.cfg.MaxSkew).add(authenticatorHash(x.ticket.Key, x.plain), x.clientTime(), x.now, x.cfg.MaxSkew)
	if reason != 0 {
		return refuse(reason)
	}
	return nil
}

// claimsBindings looks for KERB_AP_OPTIONS_CBT, by which a client says that it knows channel
// bindings ([MS-KILE], Sections 2.2.5 and 3.2.5.8).
func (x *exchange) claimsBindings() bool {
	const cbt = 0x40 // of the second byte
	for _, outer := range x.auth.AuthorizationData {
		if outer.Type != messages.AD_IF_RELEVANT {
			continue
		}
		inner, err := messages.ParseAuthorizationData(outer.Value)
		if err == nil && slices.ContainsFunc(inner, func(e messages.AuthorizationDataElement) bool {
			return e.Type == messages.AD_AUTH_DATA_AP_OPTIONS && len(e.Value) >= 2 && e.Value[1]&cbt != 0
		}) {
			return true
		}
	}
	return false
}
