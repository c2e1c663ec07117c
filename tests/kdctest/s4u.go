package kdctest

import (
	"crypto/subtle"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// requestor returns the service that impersonates a user: the client of the ticket in
// the request.
func (x *tgsExchange) requestor() messages.Principal {
	return messages.Principal{Name: x.header.CName, Realm: x.header.CRealm}
}

// s4u2self issues a ticket to a service for itself in the name of a user
// ([MS-SFU], Section 3.2.5.1). Across realms the service first asks the user's realm,
// which looks the user up, and then follows referrals back to its own realm. The
// referral tickets name the user in their authorization data.
func (x *tgsExchange) s4u2self() (outcome, error) {
	asked, x509, err := x.forUser()
	if err != nil {
		return outcome{}, err
	}
	t, err := x.selfTarget()
	if err != nil {
		return outcome{}, err
	}
	s := x.holder()
	s.flags, s.renewTill = messages.TKT_FLG_PRE_AUTHENT, time.Time{}
	var user messages.Principal
	switch {
	case asked.Realm == x.realm.name:
		p, err := x.realm.findClient(asked.Name, messages.KDC_OPT_CANONICALIZE)
		if err != nil {
			return outcome{}, err
		}
		v := p.view()
		if err := revoked(v); err != nil {
			return outcome{}, err
		}
		user = messages.Principal{Name: p.principalName(), Realm: x.realm.name}
		if x.realm.repeatsNames() {
			user.Name = asked.Name
		}
		s.forwardable = !v.sensitive()
		s.data = append(v.authorization(), userData(user))
	case x.headerRealm == x.realm.name:
		// The client must ask the user's realm first.
		return outcome{}, &refusal{code: messages.KDC_ERR_WRONG_REALM, text: "user belongs to another realm", crealm: asked.Realm}
	default:
		var ok bool
		if user, ok = impersonated(x.header); !ok || !sameUser(asked, user) {
			return outcome{}, refuse(messages.KRB_AP_ERR_BADMATCH, "ticket was not made for the user asked for")
		}
	}
	if !t.referral {
		s.client = user
		// [MS-SFU], Section 3.2.5.1.2: forwardable for accounts trusted for protocol
		// transition, never for others that have a list of services to delegate to.
		s.forwardable = s.forwardable && (t.server.has(TrustedToAuth) || len(t.server.delegateTo) == 0)
	}
	return x.grant(s, t, replyPAData{plain: x.answerX509(x509, user)}, func(n *Counts) { n.S4U2Self++ })
}

// selfTarget returns the requesting service itself, or the referral to its realm.
func (x *tgsExchange) selfTarget() (target, error) {
	name, requestor := x.req.Body.SName, x.requestor()
	if requestor.Realm != x.realm.name {
		return x.refer(requestor.Realm)
	}
	p := x.localService(name)
	if p == nil {
		// An account without a service principal name is not a service.
		return target{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no service %q", name)
	}
	if x.realm.Principal(requestor.Name.String()) != p {
		return target{}, refuse(messages.KRB_AP_ERR_BADMATCH, "%s asks for a ticket to %s", requestor, name)
	}
	if name.NameType == messages.KRB_NT_ENTERPRISE {
		name = p.principalName()
	}
	return target{server: p.view(), name: name}, nil
}

// userData returns the authorization data that names the impersonated user, like the
// client's name in a PAC.
func userData(user messages.Principal) messages.AuthorizationDataElement {
	return messages.IfRelevant(messages.AuthorizationDataElement{Type: adUser, Value: []byte(user.String())})
}

// impersonated reads userData.
func impersonated(part *messages.EncTicketPart) (messages.Principal, bool) {
	value, ok := findAuthorization(part.AuthorizationData, adUser)
	if !ok {
		return messages.Principal{}, false
	}
	user, err := messages.ParsePrincipal(string(value), "")
	return user, err == nil
}

// sameUser compares the requested user with the one that the user's realm found. It
// accepts any user for an enterprise name, which that realm has resolved.
func sameUser(asked, found messages.Principal) bool {
	return asked.Realm == found.Realm &&
		(asked.Name.Equal(found.Name) || asked.Name.NameType == messages.KRB_NT_ENTERPRISE)
}

// forUser reads and verifies the padata that names the user. It prefers
// PA-S4U-X509-USER, whose checksum covers more, to PA-FOR-USER.
func (x *tgsExchange) forUser() (messages.Principal, *messages.PAS4UX509User, error) {
	if value, ok := x.req.PAData.Find(messages.PA_S4U_X509_USER); ok {
		pa, err := messages.ParsePAS4UX509User(value)
		if err != nil {
			return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
		}
		key, _ := x.replyKey()
		err = key.VerifyChecksum(pa.Checksum.Type, enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST, pa.UserID.Marshal(), pa.Checksum.Value)
		if err != nil {
			return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "checksum of PA-S4U-X509-USER: %v", err)
		}
		if pa.UserID.Nonce != x.req.Body.Nonce {
			return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "nonce of PA-S4U-X509-USER")
		}
		if pa.UserID.CName.IsZero() {
			return messages.Principal{}, nil, refuse(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, "users are found by name only")
		}
		return messages.Principal{Name: pa.UserID.CName, Realm: pa.UserID.CRealm}, pa, nil
	}
	value, _ := x.req.PAData.Find(messages.PA_FOR_USER)
	pa, err := messages.ParsePAForUser(value)
	if err != nil {
		return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
	}
	sum, err := enctype.HMACMD5(x.header.Key, enctype.KEY_USAGE_PA_FOR_USER, pa.ChecksumInput())
	if err != nil {
		return messages.Principal{}, nil, err
	}
	if pa.Cksum.Type != enctype.KERB_CHECKSUM_HMAC_MD5 {
		return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_INAPP_CKSUM, "checksum of PA-FOR-USER is of type %d", pa.Cksum.Type)
	}
	if subtle.ConstantTimeCompare(sum, pa.Cksum.Value) != 1 {
		return messages.Principal{}, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "checksum of PA-FOR-USER")
	}
	return messages.Principal{Name: pa.UserName, Realm: pa.UserRealm}, nil, nil
}

// answerX509 returns the reply's PA-S4U-X509-USER ([MS-SFU], Section 2.2.2) with the
// name that the user's realm found, which is also in the last ticket.
func (x *tgsExchange) answerX509(asked *messages.PAS4UX509User, user messages.Principal) messages.MethodData {
	if asked == nil {
		return nil
	}
	id := messages.S4UUserID{
		Nonce: asked.UserID.Nonce, CName: user.Name, CRealm: user.Realm,
		Options: asked.UserID.Options & messages.KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE,
	}
	usage := enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST
	if id.Options != 0 {
		usage = enctype.KEY_USAGE_PA_S4U_X509_USER_REPLY
	}
	key, _ := x.replyKey()
	sum, err := key.Checksum(usage, id.Marshal())
	if err != nil {
		return nil
	}
	pa := messages.PAS4UX509User{UserID: id, Checksum: messages.Checksum{Type: key.ChecksumType(), Value: sum}}
	return messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: pa.Marshal()}}
}

// s4u2proxy issues a ticket to another service in the name of the user whose
// ticket to the requestor is the evidence ([MS-SFU], Section 3.2.5.2).
func (x *tgsExchange) s4u2proxy() (outcome, error) {
	evidence, user, err := x.openEvidence()
	if err != nil {
		return outcome{}, err
	}
	t, err := x.findTarget(x.req.Body.SName)
	if err != nil {
		return outcome{}, err
	}
	if realm, ok := t.name.IsTGS(); ok && !t.referral && realm == x.realm.name {
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "no ticket-granting ticket for another")
	}
	_, sensitive := findAuthorization(evidence.AuthorizationData, adSensitive)
	forwardable := evidence.Flags&messages.TKT_FLG_FORWARDABLE != 0
	if sensitive || !x.mayDelegate(t, forwardable) {
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "%s may not delegate %s to %s", x.requestor(), user, t.name)
	}
	s := subject{
		client:   user,
		authTime: evidence.AuthTime,
		end:      earliest(x.header.EndTime, evidence.EndTime),
		data:     evidence.AuthorizationData,
		flags:    evidence.Flags & messages.TKT_FLG_PRE_AUTHENT,
		// The ticket is forwardable, so that the target can delegate in turn; for a
		// referral the target's realm decides.
		forwardable: !t.referral || forwardable,
	}
	var pa replyPAData
	if x.byResource() {
		// Clients follow the referral only if the KDC announces support for
		// resource-based delegation.
		opts := messages.PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION
		pa.enc = messages.MethodData{{Type: messages.PA_PAC_OPTIONS, Value: opts.Marshal()}}
	}
	if t.referral {
		s.client, s.data = x.requestor(), append(slices.Clone(s.data), userData(user))
	}
	return x.grant(s, t, pa, func(n *Counts) { n.S4U2Proxy++ })
}

// openEvidence decrypts the additional ticket and returns its user. It is the user's
// ticket to the requestor, or, from another realm, the ticket-granting ticket that the
// requestor's KDC issued for it.
func (x *tgsExchange) openEvidence() (*messages.EncTicketPart, messages.Principal, error) {
	none := messages.Principal{}
	if len(x.req.Body.AdditionalTickets) != 1 {
		return nil, none, refuse(messages.KDC_ERR_BADOPTION, "one evidence ticket is needed")
	}
	t := &x.req.Body.AdditionalTickets[0]
	p := x.realm.issuer(t)
	if p == nil {
		return nil, none, refuse(messages.KRB_AP_ERR_NOT_US, "evidence ticket is for %s@%s", t.SName, t.Realm)
	}
	part, err := openTicket(p.view(), t)
	if err != nil {
		return nil, none, err
	}
	if !part.EndTime.After(x.now) {
		return nil, none, refuse(messages.KRB_AP_ERR_TKT_EXPIRED, "evidence ticket has expired")
	}
	requestor := x.requestor()
	client := messages.Principal{Name: part.CName, Realm: part.CRealm}
	if _, ok := t.SName.IsTGS(); ok {
		user, ok := impersonated(part)
		if !ok || t.Realm == x.realm.name || !client.Equal(requestor) {
			return nil, none, refuse(messages.KRB_AP_ERR_BADMATCH, "evidence ticket was not made for %s", requestor)
		}
		return part, user, nil
	}
	if requestor.Realm != x.realm.name || x.realm.Principal(requestor.Name.String()) != p {
		return nil, none, refuse(messages.KRB_AP_ERR_BADMATCH, "evidence ticket is not for %s", requestor)
	}
	return part, client, nil
}

// byResource reports whether the request allows for resource-based delegation.
func (x *tgsExchange) byResource() bool {
	value, ok := x.req.PAData.Find(messages.PA_PAC_OPTIONS)
	if !ok {
		return false
	}
	opts, err := messages.ParsePACOptions(value)
	return err == nil && opts&messages.PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION != 0
}

// mayDelegate decides by the requestor's list, which requires forwardable
// evidence, or by the target's, which does not ([MS-SFU], Section 3.2.5.2.2 and
// 3.2.5.2.3). Only the latter works across realms.
func (x *tgsExchange) mayDelegate(t target, forwardable bool) bool {
	requestor := x.requestor()
	if requestor.Realm == x.realm.name && !t.referral && forwardable {
		if p := x.realm.Principal(requestor.Name.String()); p != nil && slices.ContainsFunc(p.view().delegateTo, func(spn string) bool {
			return x.realm.Principal(spn) == t.server.Principal && t.server.Principal != nil
		}) {
			return true
		}
	}
	if !x.byResource() {
		return false
	}
	if t.referral {
		return true // the target's own realm decides
	}
	return slices.ContainsFunc(t.server.actFor, func(account string) bool {
		p, err := messages.ParsePrincipal(account, x.realm.name)
		if err != nil || p.Realm != requestor.Realm {
			return false
		}
		if p.Realm == x.realm.name {
			// The list may contain any name of the account.
			listed := x.realm.Principal(p.Name.String())
			return listed != nil && listed == x.realm.Principal(requestor.Name.String())
		}
		return p.Name.Equal(requestor.Name)
	})
}
