package exchange

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TGSResult is the state of a TGS exchange.
type TGSResult struct {
	Credential *messages.Credential   // nil until the exchange is done
	Referrals  []*messages.Credential // TGTs for other realms, issued on the way by the KDC of the realm that they name

	// Realm is the realm whose KDC was asked last, empty if none was. The realm in a ticket's
	// service is only that KDC's claim.
	Realm string

	// Offset is the clock of OffsetRealm's KDC minus Now, 0 if nothing was learnt. Unless
	// OffsetConfirmed, it comes from a KRB-ERROR, which may be forged.
	Offset          time.Duration
	OffsetConfirmed bool
	OffsetRealm     string
}

// tgsSpec is what a TGS-REQ requests. The same spec can be requested again.
type tgsSpec struct {
	tgt     *messages.Credential
	service messages.PrincipalName
	options messages.KDCOptions
	till    time.Time
	rtime   time.Time
	tickets []messages.Ticket // additional-tickets
	onward  bool              // service is a TGT for the next request

	// padata builds elements beside PA-TGS-REQ, which may depend on the nonce and the subkey.
	padata func(nonce uint32, subkey enctype.Key) (messages.MethodData, error)
	// client checks the client of the reply; nil if it must be the TGT's.
	client func(rep *messages.KDCRep, final bool) error
	// verify makes further checks of the reply; nil for none.
	verify func(a *tgsReply, q *tgsRequest) error
}

type tgsRequest struct {
	tgsSpec
	realm   string // asked
	nonce   uint32
	ctime   time.Time // of the authenticator, with microseconds
	subkey  enctype.Key
	message []byte
	sent    time.Time           // by our clock
	extra   messages.MethodData // from spec.padata
	armor   *armor              // nil without FAST
}

type tgsReply struct {
	rep        *messages.KDCRep
	part       *messages.EncKDCRepPart
	cred       *messages.Credential
	account    *messages.Account // with S4U2Self; nil if the ticket was not opened
	unproven   bool              // with S4U2Self: nothing shows that the ticket is the requested user's
	referral   string            // the realm referred to, if the ticket is not the one asked for
	renamed    bool              // the ticket is for another service, which only the option canonicalize permits
	sessionKey bool              // the KDC ignored our subkey
	distrusted bool              // ok-as-delegate was removed
}

// tgsCore sends TGS-REQs and checks the replies for the machines built on it.
type tgsCore struct {
	*common
	open *tgsRequest
}

// learnt adds realm and clock offset to a result.
func (c *tgsCore) learnt(r TGSResult) *TGSResult {
	if c.open != nil {
		r.Realm = c.open.realm
	}
	r.Offset, r.OffsetConfirmed, r.OffsetRealm = c.offset, c.confirmed, c.offsetRealm
	return &r
}

// masked removes options that the KDC would refuse because the TGT lacks the flag.
func masked(o messages.KDCOptions, tgt *messages.Credential) messages.KDCOptions {
	for option, flag := range map[messages.KDCOptions]messages.TicketFlags{
		messages.KDC_OPT_FORWARDABLE: messages.TKT_FLG_FORWARDABLE,
		messages.KDC_OPT_PROXIABLE:   messages.TKT_FLG_PROXIABLE,
		messages.KDC_OPT_RENEWABLE:   messages.TKT_FLG_RENEWABLE,
	} {
		if tgt.Flags&flag == 0 {
			o &^= option
		}
	}
	return o
}

// ask builds a TGS-REQ (RFC 4120, Section 3.3.1): PA-TGS-REQ with the TGT, an authenticator with a
// checksum over the body, and a fresh subkey for the reply. With FAST all other padata goes into
// the armor.
func (c *tgsCore) ask(spec tgsSpec) (*Request, error) {
	nonce, err := c.nonce()
	if err != nil {
		return nil, err
	}
	subkey, err := enctype.GenerateKey(spec.tgt.Key.EType(), c.Rand)
	if err != nil {
		return nil, fmt.Errorf("making a subkey: %w", err)
	}
	q := &tgsRequest{tgsSpec: spec, realm: tgtRealm(spec.tgt), nonce: nonce, subkey: subkey, sent: c.Now()}
	q.ctime = c.now().Truncate(time.Microsecond)
	body := messages.KDCReqBody{
		KDCOptions:        masked(spec.options, spec.tgt),
		Realm:             q.realm,
		SName:             spec.service,
		Till:              spec.till,
		RTime:             spec.rtime,
		Nonce:             nonce,
		EType:             c.ETypes,
		AdditionalTickets: spec.tickets,
	}
	if body.KDCOptions&messages.KDC_OPT_RENEWABLE == 0 {
		body.RTime = time.Time{}
	}
	body.Raw = body.Marshal()
	sum, err := spec.tgt.Key.Checksum(enctype.KEY_USAGE_TGS_REQ_CHECKSUM, body.Raw)
	if err != nil {
		return nil, fmt.Errorf("summing the request: %w", err)
	}
	auth := messages.Authenticator{
		Cksum: &messages.Checksum{Type: spec.tgt.Key.ChecksumType(), Value: sum}, CTime: q.ctime, Subkey: subkey,
	}
	presented, err := apReq(spec.tgt, auth, enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, c.Rand)
	if err != nil {
		return nil, err
	}
	padata := messages.MethodData{{Type: messages.PA_TGS_REQ, Value: presented}}
	if spec.padata != nil {
		if q.extra, err = spec.padata(nonce, subkey); err != nil {
			return nil, err
		}
	}
	if c.fast {
		if q.armor, err = implicitArmor(spec.tgt, subkey); err != nil {
			return nil, err
		}
		fast, err := q.armor.wrap(c.Rand, &messages.KrbFastReq{PAData: q.extra, ReqBody: body}, presented)
		if err != nil {
			return nil, err
		}
		padata = append(padata, fast)
	} else {
		padata = append(padata, q.extra...)
	}
	req := messages.KDCReq{MsgType: messages.KRB_TGS_REQ, PAData: padata, Body: body}
	q.message = req.Marshal()
	c.open = q
	return &Request{Realm: q.realm, Message: q.message}, nil
}

// tgsTill is the end time to request: the TGT's, or earlier. A renewed ticket lasts as long as the
// old one did, whatever is requested.
func tgsTill(now time.Time, lifetime time.Duration, tgt *messages.Credential, renew bool) time.Time {
	switch {
	case renew || tgt.EndTime.IsZero() && lifetime == 0:
		return till(now, 0)
	case lifetime == 0 || !tgt.EndTime.IsZero() && now.Add(lifetime).After(tgt.EndTime):
		return tgt.EndTime
	}
	return now.Add(lifetime)
}
