package exchange

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// armor protects the messages of one conversation by the session of a ticket that is held already: FAST (RFC 6113 5.4).
// The methods of a nil armor leave messages as they are.
type armor struct {
	key enctype.Key
	req *messages.KrbFastArmor // nil in a TGS-REQ: the PA-TGS-REQ beside it does the same (RFC 6113 5.4.1.1)
}

// UnarmoredError is the answer of a KDC that was asked with FAST and refused without. Nothing shows that it is the KDC's,
// so it is a hint and no verdict, and nothing is sent unarmored because of it. It is final.
type UnarmoredError struct{ Err *messages.KRBError }

// Error tells what may be the matter.
func (e *UnarmoredError) Error() string {
	return fmt.Sprintf("the KDC answered without FAST armor, so the answer may be forged, and nothing is sent without: %v; "+
		"does the KDC do FAST, is the armor's ticket of its realm and still good?", e.Err)
}

// Unwrap returns the KRB-ERROR.
func (e *UnarmoredError) Unwrap() error { return e.Err }

// newArmor makes armor of a TGT for the KDC that is to be asked (RFC 6113 5.4.1.1).
func newArmor(tgt *messages.Credential, now time.Time, rand io.Reader) (*armor, error) {
	subkey, err := enctype.GenerateKey(tgt.Key.EType(), rand)
	if err != nil {
		return nil, fmt.Errorf("making a subkey for FAST: %w", err)
	}
	auth := messages.Authenticator{
		CRealm: tgt.Client.Realm,
		CName:  tgt.Client.Name,
		CTime:  now.Truncate(time.Second),
		CUSec:  int32(now.Nanosecond() / int(time.Microsecond)),
		Subkey: subkey,
	}
	cipher, err := tgt.Key.Encrypt(rand, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, auth.Marshal())
	if err != nil {
		return nil, fmt.Errorf("encrypting the authenticator for FAST: %w", err)
	}
	a, err := implicitArmor(tgt, subkey)
	if err != nil {
		return nil, err
	}
	req := messages.APReq{
		Ticket:        messages.Ticket{Raw: tgt.Ticket},
		Authenticator: messages.EncryptedData{EType: tgt.Key.EType(), Cipher: cipher},
	}
	a.req = &messages.KrbFastArmor{ArmorType: messages.FX_FAST_ARMOR_AP_REQUEST, ArmorValue: req.Marshal()}
	return a, nil
}

// implicitArmor is that of a TGS-REQ with this TGT and subkey.
func implicitArmor(tgt *messages.Credential, subkey enctype.Key) (*armor, error) {
	key, err := enctype.CF2(subkey, tgt.Key, "subkeyarmor", "ticketarmor")
	if err != nil {
		return nil, fmt.Errorf("making the armor key: %w", err)
	}
	return &armor{key: key}, nil
}

// wrap makes PA-FX-FAST with the true request inside. The checksum ties it to what is outside: the outer KDC-REQ-BODY
// (AS) or the AP-REQ (TGS).
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

// open decrypts the value of PA-FX-FAST in an answer to the request with this nonce.
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

// openReply gives the true reply: its padata, and the client as the armor vouches for him. strengthen is to be combined
// with the reply key; zero if the KDC does not. Without PA-FX-FAST the reply is refused, unless it need not have one.
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

// checkFinished verifies what ties the ticket to the armor (RFC 6113 5.4.3).
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

// openError gives the true error, which stands in PA-FX-ERROR, with the armored padata for its METHOD-DATA (RFC 6113
// 5.4.4). An error without armor is returned as it is; armored tells them apart.
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

// armored tells whether an answer bears armor. If it is one that judge has passed, the armor is good.
func armored(reply []byte) bool {
	e, err := messages.ParseKRBError(reply)
	if err != nil {
		return false
	}
	_, ok := e.Data().PAData.Find(messages.PA_FX_FAST)
	return ok
}

// strengthened combines the key of a reply with what the KDC gave in the armor (RFC 6113 5.4.3).
func strengthened(strengthen, reply enctype.Key) (enctype.Key, error) {
	if strengthen.IsZero() {
		return reply, nil
	}
	return enctype.CF2(strengthen, reply, "strengthenkey", "replykey")
}

// hint marks the error that ends an exchange if it answers an armored request and bears no armor itself.
func (c *common) hint(reply []byte, err error) error {
	var (
		e      *messages.KRBError
		marked *UnarmoredError
	)
	if !c.fast || !errors.As(err, &e) || errors.As(err, &marked) || armored(reply) {
		return err
	}
	return &UnarmoredError{e}
}

// encryptedChallenge proves knowledge of the key by encrypting the time with it and the armor key (RFC 6113 5.4.6).
var encryptedChallenge = mechanism{
	padata:  messages.PA_ENCRYPTED_CHALLENGE,
	assumed: true,
	respond: func(c challenge) (response, error) {
		key, err := enctype.CF2(c.armor, c.key, "clientchallengearmor", "challengelongterm")
		if err != nil {
			return response{}, fmt.Errorf("making the challenge key: %w", err)
		}
		stamp := messages.NewPAEncTSEnc(c.now).Marshal()
		cipher, err := key.Encrypt(c.rand, enctype.KEY_USAGE_ENC_CHALLENGE_CLIENT, stamp)
		if err != nil {
			return response{}, fmt.Errorf("encrypting the challenge: %w", err)
		}
		value := messages.EncryptedData{EType: key.EType(), Cipher: cipher}.Marshal()
		return response{
			padata: messages.MethodData{{Type: messages.PA_ENCRYPTED_CHALLENGE, Value: value}}, proves: true,
		}, nil
	},
	// The KDC proves the same with a key of its own. Its time need not be right (RFC 6113 5.4.6).
	verify: func(armor, key enctype.Key, padata messages.MethodData) error {
		const field = "PA-ENCRYPTED-CHALLENGE"
		value, ok := padata.Find(messages.PA_ENCRYPTED_CHALLENGE)
		if !ok {
			return mismatch(field, "present", "absent")
		}
		data, err := messages.ParseEncryptedData(value)
		if err != nil {
			return malformed(field, err)
		}
		kdcs, err := enctype.CF2(armor, key, "kdcchallengearmor", "challengelongterm")
		if err != nil {
			return malformed(field, err)
		}
		plain, err := kdcs.Decrypt(enctype.KEY_USAGE_ENC_CHALLENGE_KDC, data.Cipher)
		if err != nil {
			return malformed(field, errWrongKey)
		}
		if _, err := messages.ParsePAEncTSEnc(plain); err != nil {
			return malformed(field, err)
		}
		return nil
	},
}
