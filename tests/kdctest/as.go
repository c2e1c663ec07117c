package kdctest

import (
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// asExchange answers one AS-REQ (RFC 4120, Section 3.1).
type asExchange struct {
	kdc   *KDC
	realm *Realm
	req   *messages.KDCReq
	raw   []byte
	now   time.Time
	alter alteration

	client       *view
	server       *view
	proof        proof
	fast         *fastState    // nil without armor
	conversation *conversation // nil unless the cookie belongs to one
}

func (x *asExchange) run() (outcome, error) {
	if err := x.unarmor(); err != nil {
		return outcome{}, err
	}
	p, err := x.realm.findClient(x.req.Body.CName, x.req.Body.KDCOptions)
	if err != nil {
		return outcome{}, err
	}
	if x.realm.requiresCanonicalization() && x.req.Body.KDCOptions&messages.KDC_OPT_CANONICALIZE == 0 {
		return outcome{}, refuse(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, "clients must request canonicalization")
	}
	x.client = p.view()
	if err := revoked(x.client); err != nil {
		return outcome{}, err
	}
	p = x.realm.Principal(x.req.Body.SName.String())
	if p == nil || !p.view().service {
		return outcome{}, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "no service %q", x.req.Body.SName)
	}
	x.server = p.view()
	if err := x.authenticate(); err != nil {
		return outcome{}, err
	}
	if x.client.has(MustChange) {
		// After the proof, like Windows: an unauthenticated client must not learn it.
		return outcome{}, &refusal{
			code: messages.KDC_ERR_KEY_EXPIRED, text: "password must change",
			edata: extendedError(messages.STATUS_PASSWORD_MUST_CHANGE),
		}
	}
	message, err := x.issue()
	if err != nil {
		return outcome{}, err
	}
	name := requestedClient(x.req)
	return outcome{message, func(n *Counts) {
		n.ASRep++
		c := n.Clients[name]
		c.ASRep++
		n.Clients[name] = c
	}}, nil
}

// issue makes the AS-REP.
func (x *asExchange) issue() ([]byte, error) {
	body := &x.req.Body
	i := &issue{
		kdc: x.kdc, realm: x.realm, req: x.req, alter: x.alter,
		server: x.server, sname: body.SName, keyKVNO: x.proof.set.kvno, fast: x.fast,
	}
	life := x.realm.lifetimes(x.now, body, x.client, x.server)
	if !life.end.After(x.now) {
		return nil, refuse(messages.KDC_ERR_NEVER_VALID, "ticket would end before it begins")
	}
	i.part = messages.EncTicketPart{
		Flags:  messages.TKT_FLG_INITIAL,
		CRealm: x.clientRealm(), CName: x.clientName(),
		Transited: messages.TransitedEncoding{TRType: messages.DOMAIN_X500_COMPRESS},
		AuthTime:  x.now.Truncate(time.Second), StartTime: x.now.Truncate(time.Second),
		EndTime: life.end, RenewTill: life.renewTill,
		CAddr: body.Addresses, AuthorizationData: x.client.authorization(),
	}
	if x.proof.proved {
		i.part.Flags |= messages.TKT_FLG_PRE_AUTHENT
	}
	if !life.renewTill.IsZero() {
		i.part.Flags |= messages.TKT_FLG_RENEWABLE
	}
	if !x.client.sensitive() {
		// The option and the flag share their bit.
		i.part.Flags |= messages.TicketFlags(body.KDCOptions & (messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_PROXIABLE))
	}
	if x.server.has(OKAsDelegate) {
		i.part.Flags |= messages.TKT_FLG_OK_AS_DELEGATE
	}
	if err := i.sessionKey(); err != nil {
		return nil, err
	}
	if x.anonymous() {
		if err := x.contribute(i); err != nil {
			return nil, err
		}
	}
	replyKey, err := x.fast.replyKey(x.kdc, x.proof.key)
	if err != nil {
		return nil, err
	}
	i.padata = append(messages.MethodData{etypeInfo2(x.proof.key.EType(), x.proof.set)}, x.proof.padata...)
	if _, asked := x.req.PAData.Find(messages.PA_REQ_ENC_PA_REP); asked {
		// RFC 6806, Section 11: a checksum over the request as received proves that
		// no attacker removed the stronger encryption types from it.
		sum, err := replyKey.Checksum(enctype.KEY_USAGE_AS_REQ, x.raw)
		if err != nil {
			return nil, err
		}
		i.part.Flags |= messages.TKT_FLG_ENC_PA_REP
		i.encPA = append(i.encPA, messages.PAData{
			Type:  messages.PA_REQ_ENC_PA_REP,
			Value: messages.Checksum{Type: replyKey.ChecksumType(), Value: sum}.Marshal(),
		})
		if x.realm.fastEnabled() {
			i.encPA = append(i.encPA, messages.PAData{Type: messages.PA_FX_FAST})
		}
	}
	return i.reply(messages.KRB_AS_REP, replyKey, enctype.KEY_USAGE_AS_REP)
}

// clientName returns the name for ticket and reply: canonical for enterprise names
// and if the client requests it, otherwise as requested.
func (x *asExchange) clientName() messages.PrincipalName {
	asked := x.req.Body.CName
	if asked.NameType == messages.KRB_NT_ENTERPRISE || x.req.Body.KDCOptions&messages.KDC_OPT_CANONICALIZE != 0 {
		return x.client.principalName()
	}
	return asked
}

// findClient looks an account up by its name in an AS-REQ or an S4U request.
func (r *Realm) findClient(name messages.PrincipalName, opts messages.KDCOptions) (*Principal, error) {
	text := name.String()
	p := r.Principal(text)
	enterprise := name.NameType == messages.KRB_NT_ENTERPRISE
	switch {
	case enterprise && p == nil:
		switch realm := r.realmOfSuffix(text); {
		case realm == r.name:
			p = r.Principal(text[:strings.LastIndexByte(text, '@')])
		case realm != "":
			return nil, &refusal{code: messages.KDC_ERR_WRONG_REALM, text: "client belongs to another realm", crealm: realm}
		}
	case !enterprise && p != nil && opts&messages.KDC_OPT_CANONICALIZE == 0 && p.isAlias(text):
		p = nil // a KDC that may not canonicalize does not know aliases
	}
	if p == nil {
		return nil, refuse(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, "no client %q", text)
	}
	return p, nil
}

// revoked refuses accounts that may not be used, with the codes that Windows sends.
func revoked(v *view) error {
	var status messages.NTStatus
	switch {
	case v.has(Disabled):
		status = messages.STATUS_ACCOUNT_DISABLED
	case v.has(Locked):
		status = messages.STATUS_ACCOUNT_LOCKED_OUT
	case v.has(Expired):
		status = messages.STATUS_ACCOUNT_EXPIRED
	default:
		return nil
	}
	return &refusal{code: messages.KDC_ERR_CLIENT_REVOKED, text: "client is revoked", edata: extendedError(status)}
}

// requestedClient returns the client of an AS-REQ as Counts names it.
func requestedClient(req *messages.KDCReq) string {
	return req.Body.CName.String() + "@" + req.Body.Realm
}
