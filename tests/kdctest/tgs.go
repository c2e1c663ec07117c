package kdctest

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// tgsExchange answers one TGS-REQ (RFC 4120, Section 3.3).
type tgsExchange struct {
	kdc   *KDC
	realm *Realm
	req   *messages.KDCReq
	now   time.Time
	alter alteration

	header      *messages.EncTicketPart // the ticket in the request
	headerName  messages.PrincipalName  // its service
	headerRealm string                  // its issuer
	auth        *messages.Authenticator
	fast        *fastState // nil without armor
}

// subject is the client of the ticket to issue.
type subject struct {
	client      messages.Principal
	authTime    time.Time
	end         time.Time // no ticket may outlast it
	renewTill   time.Time // zero: not renewable
	data        messages.AuthorizationData
	flags       messages.TicketFlags // inherited ones
	forwardable bool
}

// unsupported are the options that this KDC does not support.
const unsupported = messages.KDC_OPT_PROXY | messages.KDC_OPT_POSTDATED | messages.KDC_OPT_VALIDATE |
	messages.KDC_OPT_ENC_TKT_IN_SKEY | messages.KDC_OPT_REQUEST_ANONYMOUS

func (x *tgsExchange) run() (outcome, error) {
	for _, step := range []func() error{x.openHeader, x.openAuthenticator, x.checkBody, x.unarmor} {
		if err := step(); err != nil {
			return outcome{}, err
		}
	}
	opts := x.req.Body.KDCOptions
	switch {
	case opts&unsupported != 0:
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "option is not supported: %s", opts&unsupported)
	case opts&messages.KDC_OPT_RENEW != 0:
		return x.renew()
	case !x.isTGT():
		return outcome{}, refuse(messages.KRB_AP_ERR_NOT_US, "ticket is no ticket-granting ticket")
	case opts&messages.KDC_OPT_CNAME_IN_ADDL_TKT != 0:
		return x.s4u2proxy()
	case hasAny(x.req.PAData, messages.PA_FOR_USER, messages.PA_S4U_X509_USER):
		return x.s4u2self()
	case opts&messages.KDC_OPT_FORWARDED != 0 && x.header.Flags&messages.TKT_FLG_FORWARDABLE == 0:
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "ticket is not forwardable")
	}
	t, err := x.findTarget(x.req.Body.SName)
	if err != nil {
		return outcome{}, err
	}
	return x.grant(x.holder(), t, replyPAData{}, func(n *Counts) {
		if opts&messages.KDC_OPT_FORWARDED != 0 {
			n.Forwarded++
		}
	})
}

func (x *tgsExchange) isTGT() bool {
	realm, ok := x.headerName.IsTGS()
	return ok && realm == x.realm.name
}

// openHeader decrypts the ticket in PA-TGS-REQ with the key that it names: that of the
// realm's krbtgt, of a trust, or, to renew a service ticket, of the service.
func (x *tgsExchange) openHeader() error {
	value, ok := x.req.PAData.Find(messages.PA_TGS_REQ)
	if !ok {
		return refuse(messages.KDC_ERR_PADATA_TYPE_NOSUPP, "no ticket in the request")
	}
	ap, err := messages.ParseAPReq(value)
	if err != nil {
		return refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
	}
	x.headerName, x.headerRealm = ap.Ticket.SName, ap.Ticket.Realm
	p := x.realm.issuer(&ap.Ticket)
	if p == nil {
		return refuse(messages.KRB_AP_ERR_NOT_US, "ticket is for %s@%s", ap.Ticket.SName, ap.Ticket.Realm)
	}
	if x.header, err = openTicket(p.view(), &ap.Ticket); err != nil {
		return err
	}
	if !x.header.EndTime.After(x.now) {
		return refuse(messages.KRB_AP_ERR_TKT_EXPIRED, "ticket has expired")
	}
	plain, err := x.header.Key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, ap.Authenticator.Cipher)
	if err != nil {
		return refuse(messages.KRB_AP_ERR_MODIFIED, "authenticator does not decrypt")
	}
	if x.auth, err = messages.ParseAuthenticator(plain); err != nil {
		return refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	return nil
}

// issuer returns the account whose key encrypts a ticket for this realm's KDC.
func (r *Realm) issuer(t *messages.Ticket) *Principal {
	if to, ok := t.SName.IsTGS(); ok {
		if to != r.name {
			return nil
		}
		if t.Realm != r.name {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.inbound[t.Realm]
		}
	}
	if t.Realm != r.name {
		return nil
	}
	return r.Principal(t.SName.String())
}

// openTicket decrypts a ticket with a key of its service's account.
func openTicket(v *view, t *messages.Ticket) (*messages.EncTicketPart, error) {
	kvno := t.EncPart.KVNO
	if !t.EncPart.HasKVNO {
		kvno = 0
	}
	key, set := v.key(t.EncPart.EType, kvno)
	if set == nil {
		return nil, refuse(messages.KRB_AP_ERR_BADKEYVER, "no key of version %d and type %s for %s", kvno, t.EncPart.EType, v.name)
	}
	plain, err := key.Decrypt(enctype.KEY_USAGE_TICKET, t.EncPart.Cipher)
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "ticket does not decrypt")
	}
	part, err := messages.ParseEncTicketPart(plain)
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	return part, nil
}

func (x *tgsExchange) openAuthenticator() error {
	switch {
	case !x.auth.CName.Equal(x.header.CName) || x.auth.CRealm != x.header.CRealm:
		return refuse(messages.KRB_AP_ERR_BADMATCH, "authenticator is of another client than the ticket")
	case x.auth.CTime.Sub(x.now).Abs() > x.kdc.cfg.MaxSkew:
		return refuse(messages.KRB_AP_ERR_SKEW, "clock skew too great")
	}
	return nil
}

// checkBody verifies the authenticator's checksum over the body.
func (x *tgsExchange) checkBody() error {
	sum := x.auth.Cksum
	if sum == nil {
		return refuse(messages.KRB_AP_ERR_INAPP_CKSUM, "authenticator has no checksum")
	}
	if err := x.header.Key.VerifyChecksum(sum.Type, enctype.KEY_USAGE_TGS_REQ_CHECKSUM, x.req.Body.Raw, sum.Value); err != nil {
		return refuse(messages.KRB_AP_ERR_MODIFIED, "checksum of the body: %v", err)
	}
	return nil
}

// holder returns the client of the ticket in the request.
func (x *tgsExchange) holder() subject {
	return subject{
		client:      messages.Principal{Name: x.header.CName, Realm: x.header.CRealm},
		authTime:    x.header.AuthTime,
		end:         x.header.EndTime,
		renewTill:   x.header.RenewTill,
		data:        x.header.AuthorizationData,
		flags:       x.header.Flags & (messages.TKT_FLG_PRE_AUTHENT | messages.TKT_FLG_HW_AUTHENT | messages.TKT_FLG_FORWARDED | messages.TKT_FLG_ANONYMOUS),
		forwardable: x.header.Flags&messages.TKT_FLG_FORWARDABLE != 0,
	}
}

// replyPAData is the padata of a reply: outside and inside its encrypted part.
type replyPAData struct {
	plain, enc messages.MethodData
}

// grant issues the ticket and counts it.
func (x *tgsExchange) grant(s subject, t target, pa replyPAData, tally func(*Counts)) (outcome, error) {
	body := &x.req.Body
	life := x.realm.lifetimes(x.now, body, t.server)
	start := x.now.Truncate(time.Second)
	extra, err := x.requestedAuthorization()
	if err != nil {
		return outcome{}, err
	}
	i := &issue{
		kdc: x.kdc, realm: x.realm, req: x.req, alter: x.alter, server: t.server, sname: t.name, padata: pa.plain, encPA: pa.enc,
		part: messages.EncTicketPart{
			Flags:  s.flags,
			CRealm: s.client.Realm, CName: s.client.Name, Transited: x.transited(),
			AuthTime: s.authTime, StartTime: start, EndTime: earliest(life.end, s.end),
			CAddr: x.header.CAddr, AuthorizationData: append(extra, s.data...),
		},
	}
	if !i.part.EndTime.After(x.now) {
		return outcome{}, refuse(messages.KDC_ERR_NEVER_VALID, "ticket would end before it begins")
	}
	if !life.renewTill.IsZero() && !s.renewTill.IsZero() {
		i.part.Flags |= messages.TKT_FLG_RENEWABLE
		i.part.RenewTill = earliest(life.renewTill, s.renewTill)
	}
	if body.KDCOptions&messages.KDC_OPT_FORWARDABLE != 0 && s.forwardable {
		i.part.Flags |= messages.TKT_FLG_FORWARDABLE
	}
	if body.KDCOptions&messages.KDC_OPT_FORWARDED != 0 {
		i.part.Flags |= messages.TKT_FLG_FORWARDED
		i.part.CAddr = body.Addresses
	}
	if body.KDCOptions&messages.KDC_OPT_DISABLE_TRANSITED_CHECK == 0 {
		i.part.Flags |= messages.TKT_FLG_TRANSITED_POLICY_CHECKED
	}
	if t.server.has(OKAsDelegate) {
		i.part.Flags |= messages.TKT_FLG_OK_AS_DELEGATE
	}
	if err := i.sessionKey(); err != nil {
		return outcome{}, err
	}
	return x.reply(i, func(n *Counts) {
		tally(n)
		if t.referral {
			n.Referred++
		}
	})
}

// reply encrypts for the subkey if the client sent one (RFC 4120, Section 3.3.3).
func (x *tgsExchange) reply(i *issue, tally func(*Counts)) (outcome, error) {
	key, usage := x.replyKey()
	key, err := x.fast.replyKey(x.kdc, key)
	if err != nil {
		return outcome{}, err
	}
	i.fast = x.fast
	message, err := i.reply(messages.KRB_TGS_REP, key, usage)
	if err != nil {
		return outcome{}, err
	}
	service := i.sname.String() + "@" + x.realm.name
	return outcome{message, func(n *Counts) {
		n.TGSRep++
		n.Services[service]++
		tally(n)
	}}, nil
}

func (x *tgsExchange) replyKey() (enctype.Key, enctype.Usage) {
	if !x.auth.Subkey.IsZero() {
		return x.auth.Subkey, enctype.KEY_USAGE_TGS_REP_SUBKEY
	}
	return x.header.Key, enctype.KEY_USAGE_TGS_REP_SESSION
}

// requestedAuthorization returns the authorization data that the client adds to the
// ticket.
func (x *tgsExchange) requestedAuthorization() (messages.AuthorizationData, error) {
	enc := x.req.Body.EncAuthorizationData
	if enc == nil {
		return nil, nil
	}
	key, usage := x.header.Key, enctype.KEY_USAGE_TGS_REQ_AUTHZ_DATA_SESSION
	if !x.auth.Subkey.IsZero() {
		key, usage = x.auth.Subkey, enctype.KEY_USAGE_TGS_REQ_AUTHZ_DATA_SUBKEY
	}
	plain, err := key.Decrypt(usage, enc.Cipher)
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "authorization data does not decrypt")
	}
	data, err := messages.ParseAuthorizationData(plain)
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	return data, nil
}

// transited adds the realm that issued the request's ticket, if it is neither the
// client's nor this one (RFC 4120, Section 3.3.3.2), as a comma-separated list without
// compression.
func (x *tgsExchange) transited() messages.TransitedEncoding {
	t := messages.TransitedEncoding{TRType: messages.DOMAIN_X500_COMPRESS, Contents: x.header.Transited.Contents}
	via := x.headerRealm
	if via == x.realm.name || via == x.header.CRealm {
		return t
	}
	realms := string(t.Contents)
	if slices.Contains(strings.Split(realms, ","), via) {
		return t
	}
	if realms != "" {
		realms += ","
	}
	t.Contents = []byte(realms + via)
	return t
}

// renew issues the same ticket with a new session key and a new end.
func (x *tgsExchange) renew() (outcome, error) {
	h := x.header
	if h.Flags&messages.TKT_FLG_RENEWABLE == 0 {
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "ticket is not renewable")
	}
	if !h.RenewTill.After(x.now) {
		return outcome{}, refuse(messages.KRB_AP_ERR_TKT_EXPIRED, "renewable life has ended")
	}
	if !x.req.Body.SName.Equal(x.headerName) {
		return outcome{}, refuse(messages.KDC_ERR_BADOPTION, "ticket is for another service")
	}
	p := x.realm.Principal(x.headerName.String())
	if p == nil || x.headerRealm != x.realm.name {
		return outcome{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no service %q", x.headerName)
	}
	if h.CRealm == x.realm.name {
		client := x.realm.Principal(h.CName.String())
		if client == nil {
			return outcome{}, refuse(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, "no client %q", h.CName)
		}
		if err := revoked(client.view()); err != nil {
			return outcome{}, err
		}
	}
	i := &issue{kdc: x.kdc, realm: x.realm, req: x.req, alter: x.alter, server: p.view(), sname: x.headerName, part: *h}
	start := h.StartTime
	if start.IsZero() {
		start = h.AuthTime
	}
	i.part.Flags &^= messages.TKT_FLG_INITIAL
	i.part.StartTime = x.now.Truncate(time.Second)
	i.part.EndTime = earliest(i.part.StartTime.Add(h.EndTime.Sub(start)), h.RenewTill)
	if err := i.sessionKey(); err != nil {
		return outcome{}, err
	}
	return x.reply(i, func(n *Counts) { n.Renewed++ })
}
