package kdctest

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Authorization data types of this KDC's own; negative ones are for local use
// (RFC 4120 5.2.6). Together they stand for what a PAC says.
const (
	adFiller    messages.ADType = -64 // as many octets as the account's groups would take
	adUser      messages.ADType = -65 // for whom the client of a referral ticket acts
	adSensitive messages.ADType = -66 // the client must not be delegated
)

// lifetimes computes when a ticket ends and until when it can be renewed
// (RFC 4120 3.1.3 and 3.3.3). No bound is the far future.
type lifetimes struct {
	end, renewTill time.Time
}

func (r *Realm) lifetimes(now time.Time, body *messages.KDCReqBody, accounts ...*view) lifetimes {
	r.mu.RLock()
	life, renewable := r.lifetime, r.renewable
	r.mu.RUnlock()
	for _, v := range accounts {
		if v == nil {
			continue
		}
		if v.lifetime > 0 {
			life = min(life, v.lifetime)
		}
		if v.renewable > 0 {
			renewable = min(renewable, v.renewable)
		}
		if v.has(Protected) {
			life, renewable = min(life, 4*time.Hour), 0
		}
	}
	now = now.Truncate(time.Second)
	// A till of the year 1970 asks for as long as may be.
	l := lifetimes{end: earliest(now.Add(life), laterThanEpoch(body.Till))}
	wantsUntil := laterThanEpoch(body.RTime)
	wants := body.KDCOptions&messages.KDC_OPT_RENEWABLE != 0
	if !wants && body.KDCOptions&messages.KDC_OPT_RENEWABLE_OK != 0 && body.Till.After(l.end) {
		wants, wantsUntil = true, body.Till
	}
	if wants && renewable > 0 {
		l.renewTill = earliest(now.Add(renewable), wantsUntil)
	}
	return l
}

func laterThanEpoch(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// earliest ignores zero times.
func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// issue is a ticket in the making and the reply around it.
type issue struct {
	kdc     *KDC
	realm   *Realm
	req     *messages.KDCReq
	alter   alteration
	part    messages.EncTicketPart
	server  *view
	sname   messages.PrincipalName // in ticket and reply
	padata  messages.MethodData    // of the reply
	encPA   messages.MethodData    // inside its encrypted part
	keyKVNO uint32                 // kvno to state with the reply's encrypted part; 0 for none
	fast    *fastState             // armor of the reply
}

// sessionKey draws a key of the first type asked for that the service takes.
func (i *issue) sessionKey() error {
	id, ok := i.server.sessionType(i.req.Body.EType)
	if !ok {
		return refuse(messages.KDC_ERR_ETYPE_NOSUPP, "%s takes no session key type asked for", i.server.name)
	}
	key, err := enctype.GenerateKey(id, i.kdc.rand)
	if err != nil {
		return err
	}
	i.part.Key = key
	return nil
}

// seal encrypts the ticket with the newest key of the service.
func (i *issue) seal() (messages.Ticket, error) {
	if len(i.server.keys) == 0 || len(i.server.keys[0].keys) == 0 {
		return messages.Ticket{}, refuse(messages.KDC_ERR_NULL_KEY, "%s has no key", i.server.name)
	}
	set := i.server.keys[0]
	key := set.keys[0]
	cipher, err := key.Encrypt(i.kdc.rand, enctype.KEY_USAGE_TICKET, i.part.Marshal())
	if err != nil {
		return messages.Ticket{}, err
	}
	return messages.Ticket{
		Realm: i.realm.name, SName: i.sname,
		EncPart: messages.EncryptedData{EType: key.EType(), KVNO: set.kvno, HasKVNO: true, Cipher: cipher},
	}, nil
}

// reply seals the ticket and wraps it, for a client that holds the given key.
func (i *issue) reply(msgType messages.MsgType, key enctype.Key, usage enctype.Usage) ([]byte, error) {
	if i.alter.client != "" {
		p := i.realm.Principal(i.alter.client)
		if p == nil {
			return nil, refuse(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, "no other user %q", i.alter.client)
		}
		i.part.CName, i.part.CRealm = p.principalName(), i.realm.name
	}
	ticket, err := i.seal()
	if err != nil {
		return nil, err
	}
	enc := messages.EncKDCRepPart{
		Tag: messages.EncTGSRepPartTag,
		Key: i.part.Key, Nonce: i.req.Body.Nonce ^ i.alter.nonce,
		LastReq: messages.LastReq{{Type: messages.LR_NONE, Value: i.part.AuthTime}},
		Flags:   i.part.Flags, AuthTime: i.part.AuthTime, StartTime: i.part.StartTime,
		EndTime: i.part.EndTime, RenewTill: i.part.RenewTill,
		SRealm: i.realm.name, SName: i.sname, CAddr: i.part.CAddr, EncryptedPAData: i.encPA,
	}
	if msgType == messages.KRB_AS_REP && !i.kdc.cfg.MITStyle {
		enc.Tag = messages.EncASRepPartTag
	}
	cipher, err := key.Encrypt(i.kdc.rand, usage, enc.Marshal())
	if err != nil {
		return nil, err
	}
	rep := messages.KDCRep{
		MsgType: msgType, PAData: i.padata, CRealm: i.part.CRealm, CName: i.part.CName, Ticket: ticket,
		EncPart: messages.EncryptedData{EType: key.EType(), KVNO: i.keyKVNO, HasKVNO: i.keyKVNO != 0, Cipher: cipher},
	}
	if err := i.fast.wrapReply(i.kdc, &rep, i.kdc.Now()); err != nil {
		return nil, err
	}
	return rep.Marshal(), nil
}

// authorization is what tickets of a client carry from its first login on.
func (v *view) authorization() messages.AuthorizationData {
	var inner []messages.AuthorizationDataElement
	if v.authData > 0 {
		filler := make([]byte, v.authData)
		for i := range filler {
			filler[i] = byte(i)
		}
		inner = append(inner, messages.AuthorizationDataElement{Type: adFiller, Value: filler})
	}
	if v.sensitive() {
		inner = append(inner, messages.AuthorizationDataElement{Type: adSensitive})
	}
	if inner == nil {
		return nil
	}
	return messages.AuthorizationData{messages.IfRelevant(inner...)}
}

// findAuthorization looks for one of this KDC's own elements.
func findAuthorization(data messages.AuthorizationData, t messages.ADType) (value []byte, ok bool) {
	for _, outer := range data {
		if outer.Type != messages.AD_IF_RELEVANT {
			continue
		}
		inner, err := messages.ParseAuthorizationData(outer.Value)
		if err != nil {
			continue
		}
		for _, e := range inner {
			if e.Type == t {
				return e.Value, true
			}
		}
	}
	return nil, false
}
