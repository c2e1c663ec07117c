package kdctest

import (
	"crypto/sha256"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// proof is the result of pre-authentication: the reply key, the key set that contains
// it, and whether the client has proved that it holds the key.
type proof struct {
	key    enctype.Key
	set    *keySet
	proved bool

	padata messages.MethodData // for the reply
}

// mechanism is one kind of pre-authentication.
type mechanism struct {
	padata messages.PADataType
	armor  armorNeed
	// verify checks what the client sent.
	verify func(x *asExchange, value []byte) (proof, error)
}

// armorNeed says whether a mechanism requires or excludes FAST armor.
type armorNeed int

const (
	either armorNeed = iota
	armored
	unarmored
)

func mechanisms() []mechanism {
	return []mechanism{
		{messages.PA_ENC_TIMESTAMP, unarmored, (*asExchange).verifyTimestamp},
		{messages.PA_ENCRYPTED_CHALLENGE, armored, (*asExchange).verifyChallenge},
		{messages.PA_SPAKE, either, (*asExchange).verifySPAKE},
		{messages.PA_PK_AS_REQ, either, (*asExchange).verifyPublicKey},
	}
}

// SetPreAuth chooses which proofs the realm accepts of PA_ENC_TIMESTAMP,
// PA_ENCRYPTED_CHALLENGE (both are the default) and PA_SPAKE. EnablePKINIT adds
// PA_PK_AS_REQ.
func (r *Realm) SetPreAuth(types ...messages.PADataType) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.preauth = slices.Clone(types)
}

// mechanisms returns those that the client may use, with or without armor.
func (x *asExchange) mechanisms() []mechanism {
	x.realm.mu.RLock()
	takes := x.realm.preauth
	x.realm.mu.RUnlock()
	if takes == nil {
		takes = []messages.PADataType{messages.PA_ENC_TIMESTAMP, messages.PA_ENCRYPTED_CHALLENGE}
	}
	if x.publicKey() != nil {
		takes = append(slices.Clip(takes), messages.PA_PK_AS_REQ)
	}
	without := armored
	if x.fast != nil {
		without = unarmored
	}
	return slices.DeleteFunc(mechanisms(), func(m mechanism) bool {
		return m.armor == without || !slices.Contains(takes, m.padata)
	})
}

// carriesPreAuth reports whether a request carries proof of a key, which a KDC may
// count against the account.
func carriesPreAuth(req *messages.KDCReq) bool {
	return slices.ContainsFunc(mechanisms(), func(m mechanism) bool {
		value, ok := req.PAData.Find(m.padata)
		switch {
		case ok && m.padata == messages.PA_SPAKE:
			s, err := messages.ParsePASPAKE(value)
			return err == nil && s.Response != nil
		case ok && m.padata == messages.PA_PK_AS_REQ: // an anonymous client has no key
			return req.Body.KDCOptions&messages.KDC_OPT_REQUEST_ANONYMOUS == 0
		}
		return ok
	})
}

func hasAny(data messages.MethodData, types ...messages.PADataType) bool {
	return slices.ContainsFunc(data, func(p messages.PAData) bool { return slices.Contains(types, p.Type) })
}

// authenticate verifies the proof, or refuses with the hints that the client needs
// to make one.
func (x *asExchange) authenticate() error {
	if cookie, ok := x.req.PAData.Find(messages.PA_FX_COOKIE); ok && !slices.Equal(cookie, x.cookie()) {
		if x.conversation = x.kdc.conversations.find(cookie); x.conversation == nil {
			return refuse(messages.KDC_ERR_PREAUTH_FAILED, "unknown cookie")
		}
	}
	if x.client.has(ArmoredOnly) && x.fast == nil {
		return refuse(messages.KDC_ERR_POLICY, "unarmored requests are refused")
	}
	key, set := x.replyKey()
	if set == nil {
		return refuse(messages.KDC_ERR_ETYPE_NOSUPP, "client has no key of the types asked for")
	}
	x.proof = proof{key: key, set: set}
	for _, m := range x.mechanisms() {
		value, ok := x.req.PAData.Find(m.padata)
		if !ok {
			continue
		}
		p, err := m.verify(x, value)
		if err != nil {
			return err
		}
		x.client.attempt(true)
		x.proof = p
		return nil
	}
	if x.client.has(NoPreAuth) {
		return nil
	}
	return &refusal{
		code: messages.KDC_ERR_PREAUTH_REQUIRED, text: "pre-authentication is required",
		edata: x.hints().Marshal(),
	}
}

// replyKey returns the newest key of the first requested type that the client has.
func (x *asExchange) replyKey() (enctype.Key, *keySet) {
	if len(x.client.keys) == 0 {
		return enctype.Key{}, nil
	}
	for _, id := range x.req.Body.EType {
		if key, set := x.client.key(id, x.client.keys[0].kvno); set != nil {
			return key, set
		}
	}
	return enctype.Key{}, nil
}

// verifyTimestamp checks PA-ENC-TIMESTAMP (RFC 4120, Section 5.2.7.2) with every key of
// its type, including kept old ones.
func (x *asExchange) verifyTimestamp(value []byte) (proof, error) {
	asItIs := func(key enctype.Key) (enctype.Key, error) { return key, nil }
	return x.verifyTime(value, enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, asItIs)
}

// verifyTime checks a time that is encrypted with a key derived by derive.
func (x *asExchange) verifyTime(value []byte, usage enctype.Usage, derive func(enctype.Key) (enctype.Key, error)) (proof, error) {
	data, err := messages.ParseEncryptedData(value)
	if err != nil {
		return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	}
	for i := range x.client.keys {
		set := &x.client.keys[i]
		for _, key := range set.keys {
			proving, err := derive(key)
			if err != nil || proving.EType() != data.EType {
				continue
			}
			plain, err := proving.Decrypt(usage, data.Cipher)
			if err != nil {
				continue
			}
			ts, err := messages.ParsePAEncTSEnc(plain)
			if err != nil {
				continue
			}
			if ts.PATimestamp.Sub(x.now).Abs() > x.kdc.cfg.MaxSkew {
				return proof{}, refuse(messages.KRB_AP_ERR_SKEW, "clock skew too great")
			}
			return proof{key: key, set: set, proved: true}, nil
		}
	}
	x.client.attempt(false)
	return proof{}, &refusal{
		code: messages.KDC_ERR_PREAUTH_FAILED, text: "pre-authentication failed", edata: x.hints().Marshal(),
	}
}

// hints returns the METHOD-DATA of PREAUTH_REQUIRED: the requested types that the
// client has keys of, in its order, their salts, and the accepted proofs.
func (x *asExchange) hints() messages.MethodData {
	set := &x.client.keys[0]
	var info messages.ETypeInfo2
	for _, id := range x.req.Body.EType {
		if key, _ := x.client.key(id, set.kvno); !key.IsZero() {
			info = append(info, etypeInfo2Entry(id, set))
		}
	}
	data := messages.MethodData{{Type: messages.PA_ETYPE_INFO2, Value: info.Marshal()}}
	if !slices.ContainsFunc(x.req.Body.EType, isNewer) {
		// RFC 4120, Section 3.1.3: PW-SALT is for clients without newer types.
		data = append(data, messages.PAData{Type: messages.PA_PW_SALT, Value: []byte(set.salt)})
	}
	if x.realm.fastEnabled() {
		data = append(data, messages.PAData{Type: messages.PA_FX_FAST})
	}
	cookie := x.cookie()
	for _, m := range x.mechanisms() {
		offer := messages.PAData{Type: m.padata}
		if how := x.realm.spakeConfig(); m.padata == messages.PA_SPAKE && how.Optimistic {
			if value, c, err := x.challengeSPAKE(how.Groups[0], nil); err == nil {
				offer.Value, cookie = value, c
			}
		}
		data = append(data, offer)
	}
	if _, asked := x.req.PAData.Find(messages.PA_AS_FRESHNESS); asked && x.publicKey() != nil {
		if token, err := x.freshness(); err == nil {
			data = append(data, messages.PAData{Type: messages.PA_AS_FRESHNESS, Value: token})
		}
	}
	return append(data, messages.PAData{Type: messages.PA_FX_COOKIE, Value: cookie})
}

// isNewer reports whether ETYPE-INFO2 is the only hint for a type.
func isNewer(id enctype.ID) bool {
	switch id {
	case enctype.DES_CBC_CRC, enctype.DES_CBC_MD5, enctype.DES3_CBC_SHA1, enctype.RC4_HMAC:
		return false
	}
	return true
}

// cookie returns the state that the client sends back (RFC 6113, Section 5.2).
func (x *asExchange) cookie() []byte {
	sum := sha256.Sum256([]byte("kdctest cookie of " + requestedClient(x.req)))
	return sum[:16]
}

func etypeInfo2(id enctype.ID, set *keySet) messages.PAData {
	return messages.PAData{
		Type:  messages.PA_ETYPE_INFO2,
		Value: messages.ETypeInfo2{etypeInfo2Entry(id, set)}.Marshal(),
	}
}

func etypeInfo2Entry(id enctype.ID, set *keySet) messages.ETypeInfo2Entry {
	e := messages.ETypeInfo2Entry{EType: id, S2KParams: set.params}
	if id != enctype.RC4_HMAC { // has no salt
		e.Salt, e.HasSalt = set.salt, true
	}
	return e
}

// Hint is a fault that answers every AS-REQ without proof with PREAUTH_REQUIRED and
// this ETYPE-INFO2, which any attacker on the network can forge.
func Hint(entries ...messages.ETypeInfo2Entry) Fault {
	bare := func(q *Question) bool {
		req, err := messages.ParseKDCReq(q.Message)
		return err == nil && req.MsgType == messages.KRB_AS_REQ && !carriesPreAuth(req)
	}
	data := messages.MethodData{
		{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2(entries).Marshal()},
		{Type: messages.PA_ENC_TIMESTAMP},
	}
	return Only(bare, func(Handler) Handler {
		return func(q *Question) Answer {
			req, _ := messages.ParseKDCReq(q.Message)
			e := krbError(req, q.kdc.Now(), messages.KDC_ERR_PREAUTH_REQUIRED)
			e.EData = data.Marshal()
			return Answer{Messages: [][]byte{e.Marshal()}}
		}
	})
}
