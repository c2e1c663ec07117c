package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// asAnswer is an AS-REP that has passed every check.
type asAnswer struct {
	rep      *messages.KDCRep
	part     *messages.EncKDCRepPart
	info     KeyInfo // of the reply key
	named    bool    // the reply names type and salt
	verified bool    // the KDC confirmed the request
}

// WrongKeyError means that a reply does not decrypt with the client's key, which names the key for people to compare.
type WrongKeyError struct {
	EType   enctype.ID
	KVNO    uint32 // 0 if the KDC gave none
	Salt    string
	HasSalt bool // the KDC named the salt
}

// Error says what the key was made with.
func (e *WrongKeyError) Error() string {
	key := e.EType.String()
	if e.KVNO != 0 {
		key += fmt.Sprintf(", version %d", e.KVNO)
	}
	from := "the default, for the KDC named none"
	if e.HasSalt {
		from = "named by the KDC"
	}
	return fmt.Sprintf("does not decrypt with our key (%s; salt %q, %s): the password is wrong, or the keytab's key was made "+
		"of another password, version or salt", key, e.Salt, from)
}

// judge checks a reply to the open question and changes nothing.
func (a *AS) judge(reply []byte) (*asAnswer, *messages.KRBError, error) {
	rep, krbErr, err := readReply(reply, messages.KRB_AS_REP)
	switch {
	case err != nil:
		return nil, nil, err
	case krbErr != nil:
		if krbErr, err = a.open.armor.openError(krbErr, a.open.nonce); err != nil {
			return nil, nil, err
		}
		return nil, krbErr, a.checkError(krbErr, reply)
	}
	answer, err := a.checkReply(rep)
	return answer, nil, err
}

func (a *AS) checkError(e *messages.KRBError, reply []byte) error {
	asks := e.ErrorCode == messages.KDC_ERR_PREAUTH_REQUIRED || e.ErrorCode == messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED
	if asks && a.stale(reply) {
		return mismatch("error-code", "an answer to the latest request", "a copy of an earlier answer")
	}
	canonicalize := a.options&messages.KDC_OPT_CANONICALIZE != 0
	return checkError(e, a.cfg.Client.Name, canonicalize, a.open.service)
}

func (a *AS) checkReply(rep *messages.KDCRep) (*asAnswer, error) {
	rep, strengthen, err := a.open.armor.openReply(rep, a.open.nonce, false)
	if err != nil {
		return nil, err
	}
	if err := a.checkClient(rep); err != nil {
		return nil, err
	}
	key, answer, err := a.openReply(rep, strengthen)
	if err != nil {
		return nil, err
	}
	part := answer.part
	// The nonce has shown the reply to be fresh, so authtime is the KDC's clock: it decides, not ours (RFC 4120 3.1.5).
	if err := a.checkTicket(rep, part, a.open.nonce, part.AuthTime); err != nil {
		return nil, err
	}
	if err := a.checkService(part); err != nil {
		return nil, err
	}
	answer.verified, err = checkEncPARep(part, key, a.open.message)
	if err != nil {
		return nil, err
	}
	return answer, a.checkProof(rep)
}

// checkProof verifies the KDC's own proof, where the mechanism has one.
func (a *AS) checkProof(rep *messages.KDCRep) error {
	pre := a.open.proof
	if pre == nil || pre.mechanism.verify == nil {
		return nil
	}
	return pre.mechanism.verify(a.open.armor.key, pre.key, rep.PAData)
}

// checkClient holds the reply's client against the one asked for, unless the KDC was asked to correct it.
func (a *AS) checkClient(rep *messages.KDCRep) error {
	if a.options&messages.KDC_OPT_CANONICALIZE != 0 {
		if rep.CRealm == "" || !named(rep.CName) {
			return mismatch("cname", "present", "absent")
		}
		return nil
	}
	if rep.CRealm != a.realm {
		return mismatch("crealm", a.realm, rep.CRealm)
	}
	if !rep.CName.Equal(a.cfg.Client.Name) {
		return mismatch("cname", a.cfg.Client.Name, rep.CName)
	}
	return nil
}

// checkService holds the ticket's service against the one asked for. A KDC that was asked to correct names may put its own
// realm in krbtgt/REALM (RFC 6806 6), nothing else.
func (a *AS) checkService(part *messages.EncKDCRepPart) error {
	if part.SName.Equal(a.open.service) && part.SRealm == a.realm {
		return nil
	}
	if a.options&messages.KDC_OPT_CANONICALIZE != 0 {
		_, asked := a.open.service.IsTGS()
		if got, ok := part.SName.IsTGS(); asked && ok && strings.EqualFold(got, part.SRealm) {
			return nil
		}
		if !asked && foldEqual(part.SName, a.open.service) {
			return nil
		}
	}
	if !part.SName.Equal(a.open.service) {
		return mismatch("sname", a.open.service, part.SName)
	}
	return mismatch("srealm", a.realm, part.SRealm)
}

// openReply finds the reply key, which the armor may strengthen, and decrypts. What the reply says of salt and parameters wins over what an error said
// (RFC 4120 5.2.7.5).
func (a *AS) openReply(rep *messages.KDCRep, strengthen enctype.Key) (enctype.Key, *asAnswer, error) {
	id := rep.EncPart.EType
	if !slices.Contains(a.offered, id) {
		return enctype.Key{}, nil, mismatch("enc-part.etype", fmt.Sprint("one of ", a.offered), id)
	}
	answer := &asAnswer{rep: rep}
	answer.info, answer.named = a.replyInfo(rep)
	opens := func(key enctype.Key) (enctype.Key, error) {
		key, err := strengthened(strengthen, key)
		if err != nil {
			return key, malformed("strengthen-key", err)
		}
		answer.part, err = decrypt(key, enctype.KEY_USAGE_AS_REP, rep.EncPart)
		return key, err
	}
	info := answer.info
	if pre := a.open.proof; pre != nil {
		own := pre.key
		if !a.open.replyKey.IsZero() {
			own = a.open.replyKey
		}
		key, err := opens(own)
		if err != errWrongKey {
			return key, answer, err
		}
		if !a.open.replyKey.IsZero() { // no other key will do
			return enctype.Key{}, nil, malformed("enc-part", &WrongKeyError{id, rep.EncPart.KVNO, pre.info.Salt, pre.info.HasSalt})
		}
	}
	if err := a.afford(info); err != nil {
		return enctype.Key{}, nil, malformed("enc-part", fmt.Errorf("%s: %w", id, err))
	}
	var lookup error
	for _, kvno := range versions(rep.EncPart) {
		info.KVNO = kvno
		key, err := a.cfg.Keys.Key(info)
		if err != nil {
			lookup = err
			if local(err) {
				return enctype.Key{}, nil, fmt.Errorf("looking up the key of type %s: %w", id, err)
			}
			continue
		}
		if key, err = opens(key); err != errWrongKey {
			return key, answer, err
		}
		lookup = nil
	}
	if lookup != nil {
		return enctype.Key{}, nil, malformed("enc-part", fmt.Errorf("%s: %w", id, lookup))
	}
	wrong := &WrongKeyError{id, rep.EncPart.KVNO, info.Salt, info.HasSalt}
	return enctype.Key{}, nil, malformed("enc-part", wrong)
}

// replyIterations is how many iterations all keys together may take that only replies describe: a tenth of a second's
// work. No KDC is known that asks for more than the default of the type, 32768 at most.
const replyIterations = 1 << 17

// afford counts the iterations that a key made of a password takes, if a reply describes it otherwise than the KDC did
// before: anybody can make up replies, each with a salt of its own.
func (a *AS) afford(info KeyInfo) error {
	known := func(i KeyInfo) bool {
		return i.EType == info.EType && i.Salt == info.Salt && bytes.Equal(i.Params, info.Params)
	}
	if a.cfg.Keys.ETypes() != nil || slices.ContainsFunc(a.infos, known) {
		return nil
	}
	n, err := enctype.Iterations(info.EType, info.Params)
	if err != nil {
		return err
	}
	if spent := a.iterations.Add(int64(n)); spent > replyIterations {
		a.iterations.Add(-int64(n))
		return fmt.Errorf("%w: with this reply's %d iterations all replies together ask for %d, more than %d; somebody on the way "+
			"may forge them: use_tcp, or take a keytab, whose keys are made already", enctype.ErrParams, n, spent, replyIterations)
	}
	return nil
}

// local tells a failure of the key source itself from what a reply can bring about.
func local(err error) bool {
	for _, e := range []error{ErrNoKey, enctype.ErrParams, enctype.ErrUnsupported, enctype.ErrNotApproved} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// versions lists the key versions to try: the one that the KDC names, then the newest, for keytabs are often made with a
// version of their maker's own.
func versions(e messages.EncryptedData) []uint32 {
	if e.HasKVNO && e.KVNO != 0 {
		return []uint32{e.KVNO, 0}
	}
	return []uint32{0}
}

// replyInfo describes the reply key: by the reply's padata, else by what the KDC said before, else by default.
func (a *AS) replyInfo(rep *messages.KDCRep) (info KeyInfo, named bool) {
	id := rep.EncPart.EType
	salt := defaultSalt(messages.Principal{Name: rep.CName, Realm: rep.CRealm})
	ofType := func(i KeyInfo) bool { return i.EType == id }
	infos, named := keyInfos(rep.PAData, []enctype.ID{id}, salt)
	if i := slices.IndexFunc(infos, ofType); named && i >= 0 {
		return infos[i], true
	}
	if i := slices.IndexFunc(a.infos, ofType); i >= 0 {
		return a.infos[i], false
	}
	return KeyInfo{EType: id, Salt: salt}, false
}

// checkEncPARep verifies the KDC's checksum over the request, if the KDC says that it makes one (RFC 6806 11). It reports
// whether there was one.
func checkEncPARep(part *messages.EncKDCRepPart, key enctype.Key, request []byte) (bool, error) {
	if part.Flags&messages.TKT_FLG_ENC_PA_REP == 0 {
		return false, nil
	}
	const field = "encrypted-pa-data PA-REQ-ENC-PA-REP"
	value, ok := part.EncryptedPAData.Find(messages.PA_REQ_ENC_PA_REP)
	if !ok {
		return false, mismatch(field, "present, for the ticket has the flag enc-pa-rep", "absent")
	}
	sum, err := messages.ParseChecksum(value)
	if err != nil {
		return false, malformed(field, err)
	}
	if err := verifySum(key, sum, request); err != nil {
		return false, malformed(field, err)
	}
	return true, nil
}

// verifySum verifies the KDC's checksum over the request. Heimdal's is without a key where that is of type des-cbc-crc; it
// stands in an encrypted part, so that it is worth as much as the type.
func verifySum(key enctype.Key, sum *messages.Checksum, request []byte) error {
	if key.EType() != enctype.DES_CBC_CRC || sum.Type != enctype.CKSUMTYPE_CRC32 {
		return key.VerifyChecksum(sum.Type, enctype.KEY_USAGE_AS_REQ, request, sum.Value)
	}
	want, err := enctype.Digest(sum.Type, request)
	if err == nil && !bytes.Equal(want, sum.Value) {
		err = enctype.ErrIntegrity
	}
	return err
}

// accept takes an answer that has passed every check.
func (a *AS) accept(answer *asAnswer) {
	part, r := answer.part, &a.result
	r.Credential = messages.NewCredential(answer.rep, part)
	r.LastReq, r.KeyExpiration = part.LastReq, keyExpiration(part)
	if answer.named {
		i := answer.info
		r.Hint = &PreAuthHint{EType: i.EType, Salt: i.Salt, HasSalt: i.HasSalt, Params: i.Params}
	}
	if pre := a.open.proof; pre != nil && r.Hint != nil {
		hint := *r.Hint
		hint.PAType = pre.mechanism.padata
		r.Hint = &hint
	}
	if answer.verified {
		a.trace(EncPARepVerified{a.realm})
	}
	a.confirmOffset(a.realm, part.AuthTime, a.open.sent)
	a.trace(won(r.Credential, answer.rep))
}

func won(cred *messages.Credential, rep *messages.KDCRep) TicketWon {
	return TicketWon{cred.Client, cred.Service, cred.Key.EType(), rep.Ticket.EncPart.EType, cred.Flags, cred.EndTime}
}

// keyExpiration is key-expiration, or the earliest such time in last-req, which has replaced it (RFC 4120 5.4.2). Types
// are negative where they are about the answering KDC only.
func keyExpiration(part *messages.EncKDCRepPart) time.Time {
	t := part.KeyExpiration
	for _, e := range part.LastReq {
		switch e.Type {
		case messages.LR_PW_EXPTIME, -messages.LR_PW_EXPTIME, messages.LR_ACCT_EXPTIME, -messages.LR_ACCT_EXPTIME:
			if !e.Value.IsZero() && e.Value.Unix() > 0 && (t.IsZero() || e.Value.Before(t)) {
				t = e.Value
			}
		}
	}
	return t
}
