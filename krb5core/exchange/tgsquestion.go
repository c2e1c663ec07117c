package exchange

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// tgsSpec is what a TGS-REQ asks for. The same spec can be asked again.
type tgsSpec struct {
	tgt     *messages.Credential
	service messages.PrincipalName
	options messages.KDCOptions
	till    time.Time
	rtime   time.Time
	tickets []messages.Ticket // additional-tickets
	onward  bool              // service is a TGT that is wanted only to go on with

	// padata makes elements beside PA-TGS-REQ. They may depend on the nonce and the subkey.
	padata func(nonce uint32, subkey enctype.Key) (messages.MethodData, error)
	// client tells whether the reply may be for this client; nil if only for the TGT's own.
	client func(rep *messages.KDCRep, final bool) error
	// verify checks what else the reply must hold; nil for nothing.
	verify func(a *tgsAnswer, q *tgsQuestion) error
}

// tgsQuestion is a TGS-REQ that waits for its answer.
type tgsQuestion struct {
	tgsSpec
	realm   string // asked
	nonce   uint32
	ctime   time.Time // of the authenticator, with microseconds
	subkey  enctype.Key
	message []byte
	sent    time.Time           // by our clock
	extra   messages.MethodData // what spec.padata made
	armor   *armor              // nil without FAST
}

// tgsAnswer is a TGS-REP that has passed every check.
type tgsAnswer struct {
	rep        *messages.KDCRep
	part       *messages.EncKDCRepPart
	cred       *messages.Credential
	referral   string // the realm referred to, if the ticket is not the one asked for
	renamed    bool   // the ticket is for another service, which only the option canonicalize permits
	sessionKey bool   // the KDC ignored our subkey
	distrusted bool   // ok-as-delegate was taken away
}

// tgsCore asks one TGS question after another for the machines built on it.
type tgsCore struct {
	*common
	open *tgsQuestion
}

// learnt adds to a result what the questions have shown.
func (c *tgsCore) learnt(r TGSResult) *TGSResult {
	if c.open != nil {
		r.Realm = c.open.realm
	}
	r.Offset, r.OffsetConfirmed, r.OffsetRealm = c.offset, c.confirmed, c.offsetRealm
	return &r
}

// Check implements Machine.
func (c *tgsCore) Check(reply []byte) error {
	if c.open == nil || c.ended {
		return ErrFinished
	}
	_, _, err := c.judge(reply)
	return err
}

// tgtRealm is the realm whose KDC a TGT is for.
func tgtRealm(tgt *messages.Credential) string {
	realm, _ := tgt.Service.Name.IsTGS()
	return realm
}

// checkTGT tells whether a credential is a TGT that can be used.
func checkTGT(tgt *messages.Credential) error {
	switch {
	case tgt == nil:
		return errors.New("no ticket-granting ticket")
	case tgtRealm(tgt) == "":
		return fmt.Errorf("ticket for %s is no ticket-granting ticket", tgt.Service)
	case tgt.Key.IsZero() || len(tgt.Ticket) == 0:
		return fmt.Errorf("ticket-granting ticket %s has no key or no ticket", tgt.Service)
	}
	return nil
}

// masked takes away options that the KDC would refuse because the TGT lacks the flag: the ticket is then got without.
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

// ask makes a TGS-REQ (RFC 4120 3.3.1): PA-TGS-REQ with the TGT, an authenticator with a checksum over the body, and a
// fresh subkey for the reply. With FAST all other padata goes into the armor.
func (c *tgsCore) ask(spec tgsSpec) (*Request, error) {
	nonce, err := c.nonce()
	if err != nil {
		return nil, err
	}
	subkey, err := enctype.GenerateKey(spec.tgt.Key.EType(), c.rand)
	if err != nil {
		return nil, fmt.Errorf("making a subkey: %w", err)
	}
	q := &tgsQuestion{tgsSpec: spec, realm: tgtRealm(spec.tgt), nonce: nonce, subkey: subkey, sent: c.nowFunc()}
	q.ctime = c.now().Truncate(time.Microsecond)
	body := messages.KDCReqBody{
		KDCOptions:        masked(spec.options, spec.tgt),
		Realm:             q.realm,
		SName:             spec.service,
		Till:              spec.till,
		RTime:             spec.rtime,
		Nonce:             nonce,
		EType:             c.etypes,
		AdditionalTickets: spec.tickets,
	}
	if body.KDCOptions&messages.KDC_OPT_RENEWABLE == 0 {
		body.RTime = time.Time{}
	}
	body.Raw = body.Marshal()
	apReq, err := c.apReq(q, body.Raw)
	if err != nil {
		return nil, err
	}
	padata := messages.MethodData{{Type: messages.PA_TGS_REQ, Value: apReq}}
	if spec.padata != nil {
		if q.extra, err = spec.padata(nonce, subkey); err != nil {
			return nil, err
		}
	}
	if c.fast {
		if q.armor, err = implicitArmor(spec.tgt, subkey); err != nil {
			return nil, err
		}
		fast, err := q.armor.wrap(c.rand, &messages.KrbFastReq{PAData: q.extra, ReqBody: body}, apReq)
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

// apReq makes the value of PA-TGS-REQ (RFC 4120 5.2.7.1).
func (c *tgsCore) apReq(q *tgsQuestion, body []byte) ([]byte, error) {
	key := q.tgt.Key
	sum, err := key.Checksum(enctype.KEY_USAGE_TGS_REQ_CHECKSUM, body)
	if err != nil {
		return nil, fmt.Errorf("summing the request: %w", err)
	}
	auth := messages.Authenticator{
		CRealm: q.tgt.Client.Realm,
		CName:  q.tgt.Client.Name,
		Cksum:  &messages.Checksum{Type: key.ChecksumType(), Value: sum},
		CTime:  q.ctime.Truncate(time.Second),
		CUSec:  int32(q.ctime.Nanosecond() / int(time.Microsecond)),
		Subkey: q.subkey,
	}
	cipher, err := key.Encrypt(c.rand, enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, auth.Marshal())
	if err != nil {
		return nil, fmt.Errorf("encrypting the authenticator: %w", err)
	}
	req := messages.APReq{
		Ticket:        messages.Ticket{Raw: q.tgt.Ticket},
		Authenticator: messages.EncryptedData{EType: key.EType(), Cipher: cipher},
	}
	return req.Marshal(), nil
}

// judge checks a reply to the open question and changes nothing.
func (c *tgsCore) judge(reply []byte) (*tgsAnswer, *messages.KRBError, error) {
	rep, krbErr, err := readReply(reply, messages.KRB_TGS_REP)
	switch {
	case err != nil:
		return nil, nil, err
	case krbErr != nil:
		if krbErr, err = c.open.armor.openError(krbErr, c.open.nonce); err != nil {
			return nil, nil, err
		}
		return nil, krbErr, c.checkError(krbErr)
	}
	answer, err := c.checkReply(rep)
	return answer, nil, err
}

// checkError adds to the names the authenticator's time, which some KDCs repeat (Heimdal): another one belongs to an
// earlier request. A ctime without cusec is something else (old versions of MIT put the nonce there).
func (c *tgsCore) checkError(e *messages.KRBError) error {
	q := c.open
	if !e.CTime.IsZero() && e.CUSec != 0 {
		if t := e.CTime.Add(time.Duration(e.CUSec) * time.Microsecond); !t.Equal(q.ctime) {
			return mismatch("ctime", q.ctime.Format(time.RFC3339Nano), t.UTC().Format(time.RFC3339Nano))
		}
	}
	// With S4U the KDC may name the user, not us.
	return checkError(e, q.tgt.Client.Name, q.client != nil, q.service)
}

// checkReply decrypts a TGS-REP and checks it (RFC 4120 3.3.4).
func (c *tgsCore) checkReply(rep *messages.KDCRep) (*tgsAnswer, error) {
	q := c.open
	abroad := q.realm != q.tgt.Client.Realm
	rep, strengthen, err := q.armor.openReply(rep, q.nonce, abroad)
	if err != nil {
		return nil, err
	}
	a := &tgsAnswer{rep: rep}
	if a.part, a.sessionKey, err = q.decrypt(rep.EncPart, strengthen); err != nil {
		return nil, err
	}
	if err := c.checkTicket(rep, a.part, q.nonce, c.now()); err != nil {
		return nil, err
	}
	if err := q.classify(a); err != nil {
		return nil, err
	}
	if err := q.checkClient(rep, a.referral == ""); err != nil {
		return nil, err
	}
	if q.options&messages.KDC_OPT_FORWARDED != 0 && a.part.Flags&messages.TKT_FLG_FORWARDED == 0 {
		return nil, mismatch("flags", "forwarded", a.part.Flags)
	}
	if q.verify != nil {
		if err := q.verify(a, q); err != nil {
			return nil, err
		}
	}
	a.cred = messages.NewCredential(rep, a.part)
	// A foreign KDC's word that a service may have our TGT counts only if all KDCs on the way have that trust.
	if abroad && q.tgt.Flags&messages.TKT_FLG_OK_AS_DELEGATE == 0 && a.cred.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0 {
		a.cred.Flags &^= messages.TKT_FLG_OK_AS_DELEGATE
		a.distrusted = true
	}
	return a, nil
}

// decrypt opens the reply with the subkey, usage 9, or as KDCs do that ignore the subkey: session key, usage 8. (With RC4
// the enctype package tries both usages, for KDCs that follow RFC 4757 to the letter.)
func (q *tgsQuestion) decrypt(e messages.EncryptedData, strengthen enctype.Key) (part *messages.EncKDCRepPart, sessionKey bool, err error) {
	open := func(key enctype.Key, usage enctype.Usage) (*messages.EncKDCRepPart, error) {
		key, err := strengthened(strengthen, key)
		if err != nil {
			return nil, malformed("strengthen-key", err)
		}
		return decrypt(key, usage, e)
	}
	part, err = open(q.subkey, enctype.KEY_USAGE_TGS_REP_SUBKEY)
	if err == errWrongKey {
		sessionKey = true
		part, err = open(q.tgt.Key, enctype.KEY_USAGE_TGS_REP_SESSION)
	}
	if err == errWrongKey {
		err = malformed("enc-part", fmt.Errorf("%w with the key of our request", errWrongKey))
	}
	return part, sessionKey, err
}

// classify tells the ticket asked for from a referral and from another service's. The realm of a service may differ from
// the one asked: Active Directory corrects it.
func (q *tgsQuestion) classify(a *tgsAnswer) error {
	got := a.part.SName
	if got.Equal(q.service) && !q.onward {
		return nil
	}
	canonicalize := q.options&messages.KDC_OPT_CANONICALIZE != 0
	realm, isTGS := got.IsTGS()
	switch {
	case isTGS && realm != "" && (canonicalize || q.onward):
		// RFC 6806 8 for services; RFC 4120 3.3.3.2 for a TGT of a realm closer to the one asked.
		a.referral = realm
		return nil
	case canonicalize && !isTGS:
		a.renamed = !foldEqual(got, q.service)
		return nil
	}
	return mismatch("sname", q.service, got)
}

func (q *tgsQuestion) checkClient(rep *messages.KDCRep, final bool) error {
	if q.client != nil {
		return q.client(rep, final)
	}
	return sameClient(rep, q.tgt.Client)
}

func sameClient(rep *messages.KDCRep, want messages.Principal) error {
	if rep.CRealm != want.Realm {
		return mismatch("crealm", want.Realm, rep.CRealm)
	}
	if !rep.CName.Equal(want.Name) {
		return mismatch("cname", want.Name, rep.CName)
	}
	return nil
}

// take tells of an answer that a machine acts on, and learns from its times.
func (c *tgsCore) take(a *tgsAnswer) {
	q := c.open
	if a.sessionKey {
		c.trace(SessionKeyReply{q.realm})
	}
	if a.distrusted {
		c.trace(DelegateFlagDropped{a.cred.Service})
	}
	if c.skewed && !a.part.StartTime.IsZero() {
		c.confirmOffset(q.realm, a.part.StartTime, q.sent)
	}
	if a.referral != "" {
		c.trace(Referral{q.realm, a.referral})
	} else if !a.renamed {
		c.trace(won(a.cred, a.rep))
	}
}

// retrySkew asks the open question again with the KDC's time, once.
func (c *tgsCore) retrySkew(e *messages.KRBError) (*Request, error) {
	if e.ErrorCode != messages.KRB_AP_ERR_SKEW || !c.learnOffset(c.open.realm, e) {
		return nil, e
	}
	c.trace(AskedAgain{c.open.realm, "with the KDC's time"})
	return c.ask(c.open.tgsSpec)
}
