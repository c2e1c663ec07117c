package kdctest

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// fastState is the result of a request's armor (RFC 6113, Section 5.4). All methods accept
// nil, which means no armor.
type fastState struct {
	armor      enctype.Key
	nonce      uint32      // of the request inside
	strengthen enctype.Key // for the reply, made when it is needed
}

// DisableFAST makes the realm ignore armor like a KDC without RFC 6113.
func (r *Realm) DisableFAST() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noFAST = true
}

func (r *Realm) fastEnabled() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return !r.noFAST
}

// armored reads PA-FX-FAST, if the request has it.
func (r *Realm) armored(req *messages.KDCReq) (*messages.KrbFastArmoredReq, error) {
	value, ok := req.PAData.Find(messages.PA_FX_FAST)
	if !ok || len(value) == 0 || !r.fastEnabled() {
		return nil, nil
	}
	fast, err := messages.ParseKrbFastArmoredReq(value)
	if err != nil {
		return nil, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	}
	return fast, nil
}

// unarmor replaces the outer request by the inner one.
func (x *asExchange) unarmor() error {
	fast, err := x.realm.armored(x.req)
	if err != nil || fast == nil {
		return err
	}
	if fast.Armor == nil || fast.Armor.ArmorType != messages.FX_FAST_ARMOR_AP_REQUEST {
		return refuse(messages.KDC_ERR_PREAUTH_FAILED, "armor of no known type")
	}
	ticket, auth, err := x.openArmor(fast.Armor.ArmorValue)
	if err != nil {
		return err
	}
	inner, state, err := openFAST(fast, auth.Subkey, ticket.Key, x.req.Body.Raw)
	if err != nil {
		return err
	}
	x.req = &messages.KDCReq{MsgType: x.req.MsgType, PAData: inner.PAData, Body: inner.ReqBody}
	x.fast = state
	proof := carriesPreAuth(x.req)
	x.kdc.counter.add(func(n *Counts) {
		n.Armored++
		if proof {
			c := n.Clients[requestedClient(x.req)]
			c.ASReqPreAuth++
			n.ASReqPreAuth++
			n.Clients[requestedClient(x.req)] = c
		}
	})
	return nil
}

// openArmor decrypts the armor's AP-REQ, which must carry a ticket for this KDC.
func (x *asExchange) openArmor(apReq []byte) (*messages.EncTicketPart, *messages.Authenticator, error) {
	ap, err := messages.ParseAPReq(apReq)
	if err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
	}
	realm, isTGS := ap.Ticket.SName.IsTGS()
	p := x.realm.issuer(&ap.Ticket)
	if p == nil || !isTGS || realm != x.realm.name {
		return nil, nil, refuse(messages.KDC_ERR_PREAUTH_FAILED, "armor's ticket is for %s@%s", ap.Ticket.SName, ap.Ticket.Realm)
	}
	ticket, err := openTicket(p.view(), &ap.Ticket)
	if err != nil {
		return nil, nil, err
	}
	if !ticket.EndTime.After(x.now) {
		return nil, nil, refuse(messages.KRB_AP_ERR_TKT_EXPIRED, "armor's ticket has expired")
	}
	plain, err := ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, ap.Authenticator.Cipher)
	if err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "armor's authenticator does not decrypt")
	}
	auth, err := messages.ParseAuthenticator(plain)
	if err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	if auth.CTime.Sub(x.now).Abs() > x.kdc.cfg.MaxSkew {
		return nil, nil, refuse(messages.KRB_AP_ERR_SKEW, "clock skew too great")
	}
	if auth.Subkey.IsZero() {
		return nil, nil, refuse(messages.KDC_ERR_PREAUTH_FAILED, "armor has no subkey")
	}
	return ticket, auth, nil
}

// unarmor does the same for a TGS-REQ, whose armor is its own ticket and subkey.
func (x *tgsExchange) unarmor() error {
	fast, err := x.realm.armored(x.req)
	if err != nil || fast == nil {
		return err
	}
	if fast.Armor != nil || x.auth.Subkey.IsZero() {
		return refuse(messages.KDC_ERR_PREAUTH_FAILED, "a TGS-REQ takes the armor of its subkey")
	}
	header, _ := x.req.PAData.Find(messages.PA_TGS_REQ)
	inner, state, err := openFAST(fast, x.auth.Subkey, x.header.Key, header)
	if err != nil {
		return err
	}
	padata := append(messages.MethodData{{Type: messages.PA_TGS_REQ, Value: header}}, inner.PAData...)
	x.req = &messages.KDCReq{MsgType: x.req.MsgType, PAData: padata, Body: inner.ReqBody}
	x.fast = state
	x.kdc.counter.add(func(n *Counts) { n.Armored++ })
	return nil
}

// openFAST decrypts the inner request and verifies its checksum over the outer one.
func openFAST(fast *messages.KrbFastArmoredReq, subkey, session enctype.Key, outside []byte) (*messages.KrbFastReq, *fastState, error) {
	key, err := enctype.CF2(subkey, session, "subkeyarmor", "ticketarmor")
	if err != nil {
		return nil, nil, refuse(messages.KDC_ERR_ETYPE_NOSUPP, "%v", err)
	}
	sum := fast.ReqChecksum
	if err := key.VerifyChecksum(sum.Type, enctype.KEY_USAGE_FAST_REQ_CHKSUM, outside, sum.Value); err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "checksum of the armored request: %v", err)
	}
	plain, err := key.Decrypt(enctype.KEY_USAGE_FAST_ENC, fast.EncFastReq.Cipher)
	if err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "armored request does not decrypt")
	}
	inner, err := messages.ParseKrbFastReq(plain)
	if err != nil {
		return nil, nil, refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	state := &fastState{armor: key, nonce: inner.ReqBody.Nonce}
	if critical := inner.FastOptions &^ messages.FAST_OPT_HIDE_CLIENT_NAMES; critical&0xffff0000 != 0 {
		return inner, state, refuse(messages.KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS, "options %08x", uint32(critical))
	}
	return inner, state, nil
}

// replyKey strengthens the key of a reply.
func (f *fastState) replyKey(k *KDC, key enctype.Key) (enctype.Key, error) {
	if f == nil {
		return key, nil
	}
	var err error
	if f.strengthen, err = enctype.GenerateKey(key.EType(), k.rand); err != nil {
		return key, err
	}
	return enctype.CF2(f.strengthen, key, "strengthenkey", "replykey")
}

// wrapReply puts the padata of a reply into armor, with the checksum that binds the
// ticket to it.
func (f *fastState) wrapReply(k *KDC, rep *messages.KDCRep, now time.Time) error {
	if f == nil {
		return nil
	}
	sum, err := f.armor.Checksum(enctype.KEY_USAGE_FAST_FINISHED, rep.Ticket.Marshal())
	if err != nil {
		return err
	}
	response := messages.KrbFastResponse{
		PAData: rep.PAData, StrengthenKey: f.strengthen, Nonce: f.nonce,
		Finished: &messages.KrbFastFinished{
			Timestamp: now.Truncate(time.Second), USec: microseconds(now), CRealm: rep.CRealm, CName: rep.CName,
			TicketChecksum: messages.Checksum{Type: f.armor.ChecksumType(), Value: sum},
		},
	}
	rep.PAData, err = f.wrap(k, &response)
	return err
}

// wrapError puts an error into armor; only its code is visible outside.
func (f *fastState) wrapError(k *KDC, e *messages.KRBError) {
	if f == nil {
		return
	}
	padata, err := messages.ParseMethodData(e.EData)
	if err != nil {
		padata = messages.MethodData{}
	}
	inner := *e
	inner.EData = nil
	padata = append(padata, messages.PAData{Type: messages.PA_FX_ERROR, Value: inner.Marshal()})
	if data, err := f.wrap(k, &messages.KrbFastResponse{PAData: padata, Nonce: f.nonce}); err == nil {
		e.EText, e.EData = "", data.Marshal()
	}
}

func (f *fastState) wrap(k *KDC, response *messages.KrbFastResponse) (messages.MethodData, error) {
	cipher, err := f.armor.Encrypt(k.rand, enctype.KEY_USAGE_FAST_REP, response.Marshal())
	if err != nil {
		return nil, err
	}
	rep := messages.KrbFastArmoredRep{EncFastRep: messages.EncryptedData{EType: f.armor.EType(), Cipher: cipher}}
	return messages.MethodData{{Type: messages.PA_FX_FAST, Value: rep.Marshal()}}, nil
}

// verifyChallenge checks PA-ENCRYPTED-CHALLENGE (RFC 6113, Section 5.4.6) with every key
// of its type, and adds the KDC's own challenge to the reply.
func (x *asExchange) verifyChallenge(value []byte) (proof, error) {
	derive := func(key enctype.Key) (enctype.Key, error) {
		return enctype.CF2(x.fast.armor, key, "clientchallengearmor", "challengelongterm")
	}
	p, err := x.verifyTime(value, enctype.KEY_USAGE_ENC_CHALLENGE_CLIENT, derive)
	if err != nil {
		return proof{}, err
	}
	kdcs, err := enctype.CF2(x.fast.armor, p.key, "kdcchallengearmor", "challengelongterm")
	if err != nil {
		return proof{}, err
	}
	stamp := messages.NewPAEncTSEnc(x.now).Marshal()
	cipher, err := kdcs.Encrypt(x.kdc.rand, enctype.KEY_USAGE_ENC_CHALLENGE_KDC, stamp)
	if err != nil {
		return proof{}, err
	}
	p.padata = messages.MethodData{{
		Type: messages.PA_ENCRYPTED_CHALLENGE, Value: messages.EncryptedData{EType: kdcs.EType(), Cipher: cipher}.Marshal(),
	}}
	return p, nil
}
