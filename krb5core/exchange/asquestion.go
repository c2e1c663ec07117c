package exchange

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// asQuestion is an AS-REQ that waits for its answer.
type asQuestion struct {
	nonce   uint32
	service messages.PrincipalName
	message []byte // as sent: PA-REQ-ENC-PA-REP covers it
	sent    time.Time
	proof   *proof // nil in a bare request
	armor   *armor // nil without

	said     []byte      // to be continued, if the KDC has more to ask
	replyKey enctype.Key // that the proof led to, zero for the client's
}

// proof is a key and how it is proved.
type proof struct {
	mechanism mechanism
	value     []byte
	info      KeyInfo
	key       enctype.Key
	hinted    bool
	said      []byte // what the KDC's value answers
	round     int
}

// ask makes an AS-REQ, with a proof or bare, with armor or without.
func (a *AS) ask(pre *proof) (*Request, error) {
	nonce, err := a.nonce()
	if err != nil {
		return nil, err
	}
	now := a.now()
	body := messages.KDCReqBody{
		KDCOptions: a.options,
		CName:      a.cfg.Client.Name,
		Realm:      a.realm,
		SName:      a.cfg.Service,
		Till:       till(now, a.cfg.Lifetime),
		Nonce:      nonce,
		EType:      a.offered,
	}
	if body.SName.IsZero() {
		body.SName = messages.TGSName(a.realm)
	}
	if a.cfg.RenewLifetime > 0 {
		body.RTime = now.Add(a.cfg.RenewLifetime)
	}
	body.Raw = body.Marshal()
	if a.fast && a.armor == nil {
		if a.armor, err = newArmor(a.cfg.Armor, now, a.rand); err != nil {
			return nil, err
		}
	}
	said, err := a.say(pre, body.Raw, now)
	if err != nil {
		return nil, err
	}
	req := messages.KDCReq{MsgType: messages.KRB_AS_REQ, PAData: a.padata(said.padata), Body: body}
	if a.fast {
		if req, err = a.armored(req); err != nil {
			return nil, err
		}
	}
	a.open = &asQuestion{
		nonce: nonce, service: body.SName, message: req.Marshal(), sent: a.nowFunc(), proof: pre, armor: a.armor,
		said: said.said, replyKey: said.replyKey,
	}
	return &Request{Realm: a.realm, Message: a.open.message, PreAuth: said.proves}, nil
}

// armored puts a request into one that shows who asks what (RFC 6113 5.4.2). Like MIT's client, we leave the outer nonce at
// zero: the inner one counts.
func (a *AS) armored(req messages.KDCReq) (messages.KDCReq, error) {
	outer := req.Body
	outer.Nonce, outer.Raw = 0, nil
	outer.Raw = outer.Marshal()
	fast, err := a.armor.wrap(a.rand, &messages.KrbFastReq{PAData: req.PAData, ReqBody: req.Body}, outer.Raw)
	if err != nil {
		return messages.KDCReq{}, err
	}
	return messages.KDCReq{MsgType: req.MsgType, PAData: messages.MethodData{fast}, Body: outer}, nil
}

// say has the mechanism answer to what the KDC said last.
func (a *AS) say(pre *proof, body []byte, now time.Time) (response, error) {
	if pre == nil {
		return response{}, nil
	}
	c := challenge{key: pre.key, value: pre.value, said: pre.said, round: pre.round, body: body, now: now, rand: a.rand}
	if a.armor != nil {
		c.armor = a.armor.key
	}
	said, err := pre.mechanism.respond(c)
	if err != nil {
		return response{}, err
	}
	if pre.round == 0 {
		a.trace(KeyChosen{pre.info.EType, pre.info.Salt, pre.info.HasSalt, pre.hinted})
	}
	if said.proves {
		a.result.PreAuthRequests++
		a.tried = append(a.tried, pre.key)
	}
	return said, nil
}

func (a *AS) padata(said messages.MethodData) messages.MethodData {
	var padata messages.MethodData
	if a.cookie != nil {
		padata = append(padata, messages.PAData{Type: messages.PA_FX_COOKIE, Value: a.cookie})
	}
	padata = append(padata, said...)
	if a.cfg.PAC != nil {
		value := messages.PACRequest{IncludePAC: *a.cfg.PAC}.Marshal()
		padata = append(padata, messages.PAData{Type: messages.PA_PAC_REQUEST, Value: value})
	}
	return append(padata, messages.PAData{Type: messages.PA_REQ_ENC_PA_REP})
}

// till is the end to ask for. 1970 means as late as may be (RFC 4120 5.4.1).
func till(now time.Time, lifetime time.Duration) time.Time {
	if lifetime == 0 {
		return time.Unix(0, 0).UTC()
	}
	return now.Add(lifetime)
}
