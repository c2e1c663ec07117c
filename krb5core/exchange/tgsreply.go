package exchange

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

func (c *tgsCore) Check(reply []byte) error {
	if c.open == nil || c.ended {
		return ErrFinished
	}
	_, _, err := c.judge(reply)
	return err
}

// judge checks a reply to the open request and changes nothing.
func (c *tgsCore) judge(reply []byte) (*tgsReply, *messages.KRBError, error) {
	return judged(reply, messages.KRB_TGS_REP, c.open.armor, c.open.nonce, c.checkError, c.checkReply)
}

// checkError also checks the authenticator's time, which some KDCs repeat (Heimdal): another time
// belongs to an earlier request. A ctime without cusec is not that time (old versions of MIT put
// the nonce there).
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

// checkReply decrypts a TGS-REP and checks it (RFC 4120, Section 3.3.4).
func (c *tgsCore) checkReply(rep *messages.KDCRep) (*tgsReply, error) {
	q := c.open
	abroad := q.realm != q.tgt.Client.Realm
	rep, strengthen, err := q.armor.openReply(rep, q.nonce, abroad || q.plainWithout())
	if err != nil {
		return nil, err
	}
	a := &tgsReply{rep: rep}
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
	a.cred.Account = a.account
	// ok-as-delegate of a foreign KDC counts only if all KDCs on the path have it.
	if abroad && q.tgt.Flags&messages.TKT_FLG_OK_AS_DELEGATE == 0 && a.cred.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0 {
		a.cred.Flags &^= messages.TKT_FLG_OK_AS_DELEGATE
		a.distrusted = true
	}
	return a, nil
}

// plainWithout reports whether a reply without armor says no less than one with it. RFC 6113, Section
// 5.4.1.1 makes the armor of the authenticator's subkey, which encrypts the reply too, so only the
// KDC can have made either; Heimdal 7 overlooks the armor of TGS-REQs. With S4U the armor alone
// shows that the padata in the request was read, and for whom the ticket is.
func (q *tgsRequest) plainWithout() bool { return len(q.extra) == 0 && q.client == nil }

// decrypt opens the reply with the subkey, usage 9, or for KDCs that ignore the subkey with the
// session key, usage 8. (With RC4 the enctype package tries both usages, for KDCs that follow RFC
// 4757 to the letter.)
func (q *tgsRequest) decrypt(e messages.EncryptedData, strengthen enctype.Key) (part *messages.EncKDCRepPart, sessionKey bool, err error) {
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

// classify distinguishes the requested ticket, a referral, and a ticket for another service. The
// realm of a service may differ from the one asked: Active Directory corrects it.
func (q *tgsRequest) classify(a *tgsReply) error {
	got := a.part.SName
	if got.Equal(q.service) && !q.onward {
		return nil
	}
	canonicalize := q.options&messages.KDC_OPT_CANONICALIZE != 0
	realm, isTGS := got.IsTGS()
	switch {
	case isTGS && realm != "" && (canonicalize || q.onward):
		// RFC 6806, Section 8 for services; RFC 4120, Section 3.3.3.2 for a TGT of a realm closer
		// to the one asked.
		a.referral = realm
		return nil
	case canonicalize && !isTGS:
		a.renamed = !foldEqual(got, q.service)
		return nil
	}
	return mismatch("sname", q.service, got)
}

func (q *tgsRequest) checkClient(rep *messages.KDCRep, final bool) error {
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

// onAnswer judges a reply and passes it to one of the functions.
func (c *tgsCore) onAnswer(
	reply []byte, onReply func(*tgsReply) (*Request, error), onError func(*messages.KRBError) (*Request, error),
) (*Request, error) {
	answer, krbErr, err := c.judge(reply)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil:
		return onError(krbErr)
	}
	c.take(answer)
	return onReply(answer)
}

// take reports a reply that a machine uses, and learns from its times.
func (c *tgsCore) take(a *tgsReply) {
	q := c.open
	if a.sessionKey {
		c.tracef("realm %s ignored our subkey and used the session key", q.realm)
	}
	if a.distrusted {
		c.tracef("ok-as-delegate of %s is not believed: the ticket for its realm lacks it", a.cred.Service)
	}
	if c.skewed && !a.part.StartTime.IsZero() {
		c.confirmOffset(q.realm, a.part.StartTime, q.sent)
	}
	if a.referral != "" {
		c.Trace(Referral{q.realm, a.referral})
	} else if !a.renamed && !a.unproven {
		c.traceTicket(a.cred, a.rep)
	}
}

// retrySkew repeats the open request with the KDC's time, once.
func (c *tgsCore) retrySkew(e *messages.KRBError) (*Request, error) {
	if e.ErrorCode != messages.KRB_AP_ERR_SKEW || !c.learnOffset(c.open.realm, e) {
		return nil, e
	}
	c.traceAgain(c.open.realm, "with the KDC's time")
	return c.ask(c.open.tgsSpec)
}
