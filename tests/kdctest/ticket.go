package kdctest

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Authorization data types of this KDC, in place of a PAC. Negative types are for local
// use (RFC 4120, Section 5.2.6).
const (
	adFiller    messages.ADType = -64 // filler of the size of the account's groups
	adUser      messages.ADType = -65 // the user impersonated by the client of a referral ticket
	adSensitive messages.ADType = -66 // the client must not be delegated
)

// lifetimes is the end of a ticket and the end of its renewable life
// (RFC 4120, Sections 3.1.3 and 3.3.3). Without a bound
// both are in the far future.
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
	// A till of the year 1970 requests the maximum.
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

// issue holds the fields of a ticket to issue and of its reply.
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
	keyKVNO uint32                 // kvno of the reply's encrypted part; 0 for none
	fast    *fastState             // armor of the reply
}

// sessionKey makes a random key of the first requested type that the service accepts.
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
	part := i.part
	var err error
	if part.AuthorizationData, err = i.withPAC(key); err != nil {
		return messages.Ticket{}, err
	}
	cipher, err := key.Encrypt(i.kdc.rand, enctype.KEY_USAGE_TICKET, part.Marshal())
	if err != nil {
		return messages.Ticket{}, err
	}
	return messages.Ticket{
		Realm: i.realm.name, SName: i.sname,
		EncPart: messages.EncryptedData{EType: key.EType(), KVNO: set.kvno, HasKVNO: true, Cipher: cipher},
	}, nil
}

// reply returns the sealed ticket in a reply, which is encrypted with the given key.
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

// authorization returns the authorization data of all tickets of a client.
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

// findAuthorization returns an element of one of this KDC's own types.
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
