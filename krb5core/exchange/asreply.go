package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

type asReply struct {
	rep      *messages.KDCRep
	part     *messages.EncKDCRepPart
	info     KeyInfo // of the reply key
	named    bool    // the reply names type and salt
	verified bool    // the KDC confirmed the request

	kdc *KDCCertificate // nil without PKINIT
}

// WrongKeyError means that a reply does not decrypt with the client's key. It describes the key for
// comparison.
type WrongKeyError struct {
	EType   enctype.ID
	KVNO    uint32 // 0 if the KDC gave none
	Salt    string
	HasSalt bool // the KDC named the salt
}

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

// judge checks a reply to the open request and changes nothing.
func (a *AS) judge(reply []byte) (*asReply, *messages.KRBError, error) {
	onError := func(e *messages.KRBError) error { return a.checkError(e, reply) }
	return judged(reply, messages.KRB_AS_REP, a.open.armor, a.open.nonce, onError, a.checkReply)
}

func (a *AS) checkError(e *messages.KRBError, reply []byte) error {
	asks := e.ErrorCode == messages.KDC_ERR_PREAUTH_REQUIRED || e.ErrorCode == messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED
	if asks && a.stale(reply) {
		return mismatch("error-code", "an answer to the latest request", "a copy of an earlier answer")
	}
	canonicalize := a.options&messages.KDC_OPT_CANONICALIZE != 0
	return checkError(e, a.cfg.Client.Name, canonicalize, a.service())
}

func (a *AS) checkReply(rep *messages.KDCRep) (*asReply, error) {
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
	// The nonce has shown the reply to be fresh, so authtime is the KDC's clock: it decides, not
	// ours (RFC 4120, Section 3.1.5).
	if err := a.checkTicket(rep, part, a.open.nonce, part.AuthTime); err != nil {
		return nil, err
	}
	if err := a.checkService(part); err != nil {
		return nil, err
	}
	if err := a.checkRealm(rep, part); err != nil {
		return nil, err
	}
	answer.verified, err = checkEncPARep(part, key, a.open.message)
	if err != nil {
		return nil, err
	}
	if pre := a.open.proof; pre != nil && pre.mechanism.verify != nil {
		err = pre.mechanism.verify(a.open.armor.key, pre.key, rep.PAData)
	}
	return answer, err
}

// checkClient compares the reply's client with the requested one, unless the KDC may correct it.
func (a *AS) checkClient(rep *messages.KDCRep) error {
	if a.anonymous {
		return sameClient(rep, AnonymousClient(anonymousRealm))
	}
	if a.options&messages.KDC_OPT_CANONICALIZE != 0 {
		if rep.CRealm == "" || !named(rep.CName) {
			return mismatch("cname", "present", "absent")
		}
		return nil
	}
	return sameClient(rep, messages.Principal{Name: a.cfg.Client.Name, Realm: a.realm})
}

// checkService compares the ticket's service with the requested one. A KDC that may correct names
// may put its own realm in krbtgt/REALM (RFC 6806, Section 6), nothing else.
func (a *AS) checkService(part *messages.EncKDCRepPart) error {
	service := a.service()
	if part.SName.Equal(service) && part.SRealm == a.realm {
		return nil
	}
	if got, ok := part.SName.IsTGS(); ok && a.cfg.Service.IsZero() && a.options&messages.KDC_OPT_CANONICALIZE != 0 && strings.EqualFold(got, part.SRealm) {
		return nil
	}
	if !part.SName.Equal(service) {
		return mismatch("sname", service, part.SName)
	}
	return mismatch("srealm", a.realm, part.SRealm)
}

// checkRealm requires that the client belongs to the realm that was asked, or that the encrypted part
// names. A KDC issues initial tickets to its own clients only: it refers to another realm by an
// error (RFC 6806, Section 7), and outside the encrypted part anyone can write one.
func (a *AS) checkRealm(rep *messages.KDCRep, part *messages.EncKDCRepPart) error {
	if a.anonymous || strings.EqualFold(rep.CRealm, a.realm) || rep.CRealm == part.SRealm {
		return nil
	}
	return mismatch("crealm", a.realm, rep.CRealm)
}

// openReply finds the reply key, which the armor may strengthen, and decrypts. Salt and parameters in
// the reply take precedence over those in an error (RFC 4120, Section 5.2.7.5).
func (a *AS) openReply(rep *messages.KDCRep, strengthen enctype.Key) (enctype.Key, *asReply, error) {
	id := rep.EncPart.EType
	if !slices.Contains(a.offered, id) {
		return enctype.Key{}, nil, mismatch("enc-part.etype", fmt.Sprint("one of ", a.offered), id)
	}
	if a.open.agreement != nil {
		return a.openAgreed(rep, strengthen)
	}
	answer := &asReply{rep: rep}
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
		own := a.open.replyKey
		if own.IsZero() {
			own = pre.key
		}
		key, err := opens(own)
		if err != errWrongKey {
			return key, answer, err
		}
		if !a.open.replyKey.IsZero() { // no other key is possible
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

// replyIterations bounds the iterations of all keys together that only replies describe: a tenth of
// a second of work. No KDC is known that requires more than the default of the type, 32768 at most.
const replyIterations = 1 << 17

// afford counts the iterations of a key derived from a password, if a reply describes it
// differently from earlier messages: forged replies could each name another salt.
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
		return fmt.Errorf("%w: with this reply's %d iterations all replies together ask for %d, more than %d; they may be "+
			"forged: set use_tcp, or use a keytab, whose keys are derived already", enctype.ErrParams, n, spent, replyIterations)
	}
	return nil
}

// local reports whether the key source itself failed, rather than because of what the reply names.
func local(err error) bool {
	for _, e := range []error{ErrNoKey, enctype.ErrParams, enctype.ErrUnsupported, enctype.ErrNotApproved} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// replyInfo describes the reply key: by the reply's padata, else by an earlier error, else by
// default.
func (a *AS) replyInfo(rep *messages.KDCRep) (info KeyInfo, named bool) {
	id := rep.EncPart.EType
	salt := DefaultSalt(messages.Principal{Name: rep.CName, Realm: rep.CRealm})
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

// checkEncPARep verifies the KDC's checksum over the request, if the KDC says that it sends one
// (RFC 6806, Section 11). It reports whether there was one.
func checkEncPARep(part *messages.EncKDCRepPart, key enctype.Key, request []byte) (bool, error) {
	if part.Flags&messages.TKT_FLG_ENC_PA_REP == 0 {
		return false, nil
	}
	const field = "encrypted-pa-data PA-REQ-ENC-PA-REP"
	value, ok := part.EncryptedPAData.Find(messages.PA_REQ_ENC_PA_REP)
	if !ok {
		// No KDC is known to do so: the request was changed on its way.
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

// verifySum verifies the KDC's checksum over the request. Heimdal's has no key if the key is of
// type des-cbc-crc; it is in the encrypted part, so it protects as well as that type does.
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

// accept uses a reply that passed every check.
func (a *AS) accept(answer *asReply) {
	part, r := answer.part, &a.result
	r.Credential = messages.NewCredential(answer.rep, part)
	r.KVNO = answer.rep.EncPart.KVNO
	if i := answer.info; answer.named {
		r.Hint = &PreAuthHint{EType: i.EType, Salt: i.Salt, HasSalt: i.HasSalt, Params: i.Params}
	}
	if pre := a.open.proof; pre != nil && r.Hint != nil {
		hint := *r.Hint
		hint.PAType = pre.mechanism.padata
		r.Hint = &hint
	}
	if answer.kdc != nil {
		a.Trace(*answer.kdc)
	}
	if answer.verified {
		a.Trace(EncPARepVerified{a.realm})
	}
	a.confirmOffset(a.realm, part.AuthTime, a.open.sent)
	a.traceTicket(r.Credential, answer.rep)
}
