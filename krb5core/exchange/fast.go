package exchange

import (
	"fmt"
	"io"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// armor protects the messages of one exchange by the session key of a ticket that is held already:
// FAST (RFC 6113, Section 5.4). The methods of a nil armor leave messages as they are.
type armor struct {
	key enctype.Key
	req *messages.KrbFastArmor // nil in a TGS-REQ: the PA-TGS-REQ beside it does the same (RFC 6113, Section 5.4.1.1)
}

// newArmor derives armor from a TGT for the KDC that is asked (RFC 6113, Section 5.4.1.1).
func newArmor(tgt *messages.Credential, now time.Time, rand io.Reader) (*armor, error) {
	subkey, err := enctype.GenerateKey(tgt.Key.EType(), rand)
	if err != nil {
		return nil, fmt.Errorf("making a subkey for FAST: %w", err)
	}
	req, err := apReq(tgt, messages.Authenticator{CTime: now, Subkey: subkey}, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, rand)
	if err != nil {
		return nil, fmt.Errorf("FAST armor: %w", err)
	}
	a, err := implicitArmor(tgt, subkey)
	if err != nil {
		return nil, err
	}
	a.req = &messages.KrbFastArmor{ArmorType: messages.FX_FAST_ARMOR_AP_REQUEST, ArmorValue: req}
	return a, nil
}

// implicitArmor is the armor of a TGS-REQ with this TGT and subkey.
func implicitArmor(tgt *messages.Credential, subkey enctype.Key) (*armor, error) {
	key, err := enctype.CF2(subkey, tgt.Key, "subkeyarmor", "ticketarmor")
	if err != nil {
		return nil, fmt.Errorf("making the armor key: %w", err)
	}
	return &armor{key: key}, nil
}

// wrap builds PA-FX-FAST with the inner request. The checksum ties it to what is outside: the outer
// KDC-REQ-BODY (AS) or the AP-REQ (TGS).
func (a *armor) wrap(rand io.Reader, inner *messages.KrbFastReq, outside []byte) (messages.PAData, error) {
	sum, err := a.key.Checksum(enctype.KEY_USAGE_FAST_REQ_CHKSUM, outside)
	if err != nil {
		return messages.PAData{}, fmt.Errorf("summing the armored request: %w", err)
	}
	cipher, err := a.key.Encrypt(rand, enctype.KEY_USAGE_FAST_ENC, inner.Marshal())
	if err != nil {
		return messages.PAData{}, fmt.Errorf("encrypting the armored request: %w", err)
	}
	req := messages.KrbFastArmoredReq{
		Armor:       a.req,
		ReqChecksum: messages.Checksum{Type: a.key.ChecksumType(), Value: sum},
		EncFastReq:  messages.EncryptedData{EType: a.key.EType(), Cipher: cipher},
	}
	return messages.PAData{Type: messages.PA_FX_FAST, Value: req.Marshal()}, nil
}

// open decrypts the value of PA-FX-FAST in a reply to the request with this nonce.
func (a *armor) open(value []byte, nonce uint32) (*messages.KrbFastResponse, error) {
	const field = "PA-FX-FAST"
	rep, err := messages.ParseKrbFastArmoredRep(value)
	if err != nil {
		return nil, malformed(field, err)
	}
	if rep.EncFastRep.EType != a.key.EType() {
		return nil, mismatch(field+" etype", a.key.EType(), rep.EncFastRep.EType)
	}
	plain, err := a.key.Decrypt(enctype.KEY_USAGE_FAST_REP, rep.EncFastRep.Cipher)
	if err != nil {
		return nil, malformed(field, fmt.Errorf("%w with the armor key", errWrongKey))
	}
	response, err := messages.ParseKrbFastResponse(plain)
	if err != nil {
		return nil, malformed(field, err)
	}
	if response.Nonce != nonce {
		return nil, mismatch(field+" nonce", nonce, response.Nonce)
	}
	return response, nil
}

// openReply returns the inner reply: the armored padata and client. strengthen is to be combined
// with the reply key; zero if the KDC sends none. A reply without PA-FX-FAST is refused unless
// optional.
func (a *armor) openReply(rep *messages.KDCRep, nonce uint32, optional bool) (opened *messages.KDCRep, strengthen enctype.Key, err error) {
	if a == nil {
		return rep, enctype.Key{}, nil
	}
	value, ok := rep.PAData.Find(messages.PA_FX_FAST)
	if !ok {
		if optional {
			return rep, enctype.Key{}, nil
		}
		return nil, enctype.Key{}, mismatch("PA-FX-FAST", "present, for the request was armored", "absent")
	}
	response, err := a.open(value, nonce)
	if err != nil {
		return nil, enctype.Key{}, err
	}
	if err := a.checkFinished(response.Finished, &rep.Ticket); err != nil {
		return nil, enctype.Key{}, err
	}
	inner := *rep
	inner.PAData, inner.CRealm, inner.CName = response.PAData, response.Finished.CRealm, response.Finished.CName
	return &inner, response.StrengthenKey, nil
}

// checkFinished verifies what ties the ticket to the armor (RFC 6113, Section 5.4.3).
func (a *armor) checkFinished(f *messages.KrbFastFinished, ticket *messages.Ticket) error {
	const field = "KrbFastFinished"
	if f == nil {
		return mismatch(field, "present", "absent")
	}
	sum := f.TicketChecksum
	if err := a.key.VerifyChecksum(sum.Type, enctype.KEY_USAGE_FAST_FINISHED, ticket.Raw, sum.Value); err != nil {
		return malformed(field+" ticket-checksum", err)
	}
	return nil
}

// openError returns the inner error of PA-FX-ERROR, with the armored padata as its METHOD-DATA (RFC
// 6113, Section 5.4.4). An error without armor is returned as it is; see armored.
func (a *armor) openError(e *messages.KRBError, nonce uint32) (*messages.KRBError, error) {
	if a == nil {
		return e, nil
	}
	value, ok := e.Data().PAData.Find(messages.PA_FX_FAST)
	if !ok {
		return e, nil
	}
	response, err := a.open(value, nonce)
	if err != nil {
		return nil, err
	}
	value, ok = response.PAData.Find(messages.PA_FX_ERROR)
	if !ok {
		return nil, mismatch("PA-FX-ERROR", "present", "absent")
	}
	inner, err := messages.ParseKRBError(value)
	if err != nil {
		return nil, malformed("PA-FX-ERROR", err)
	}
	inner.EData = response.PAData.Marshal()
	return inner, nil
}

// strengthened combines the reply key with the strengthen-key of the armor (RFC 6113, Section
// 5.4.3).
func strengthened(strengthen, reply enctype.Key) (enctype.Key, error) {
	if strengthen.IsZero() {
		return reply, nil
	}
	return enctype.CF2(strengthen, reply, "strengthenkey", "replykey")
}
