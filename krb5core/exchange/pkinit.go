package exchange

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// PKINIT is how a client logs in by public-key cryptography (RFC 4556): by Diffie-Hellman, with keys
// for one exchange. There is no fallback to another kind of pre-authentication.
type PKINIT struct {
	// Identity is the client's certificate, nil for an anonymous client (RFC 8062).
	Identity *pkinit.Identity
	// Roots are the CAs that may issue certificates of KDCs, nil for the system's.
	Roots *x509.CertPool
	// WeakGroups permits MODP group 2 if a KDC accepts no other.
	WeakGroups bool
}

// AnonymousClient is the client of anonymous logins at a realm (RFC 8062, Section 3).
func AnonymousClient(realm string) messages.Principal {
	return messages.Principal{Name: anonymousName, Realm: realm}
}

var anonymousName = messages.NewPrincipalName(messages.KRB_NT_WELLKNOWN, "WELLKNOWN", "ANONYMOUS")

// anonymousRealm is the realm of anonymous clients in tickets (RFC 8062, Section 3).
const anonymousRealm = "WELLKNOWN:ANONYMOUS"

// CertificateChosen is reported when the client signs with its certificate; Certificate is nil if it
// is anonymous.
type CertificateChosen struct {
	Certificate *x509.Certificate
	Group       string // of the Diffie-Hellman keys
}

// KDCCertificate is the certificate by which a KDC has proved to be the realm's.
type KDCCertificate struct {
	Realm       string
	Certificate *x509.Certificate
	Root        *x509.Certificate // that its chain ends in
	Digest      crypto.Hash       // of its signature
	KDF         string            // "RFC 8636" or "RFC 4556"
}

func (e CertificateChosen) String() string {
	if e.Certificate == nil {
		return fmt.Sprintf("logging in anonymously, %s", e.Group)
	}
	return fmt.Sprintf("logging in with the certificate %q, valid until %s, %s",
		e.Certificate.Subject, e.Certificate.NotAfter.UTC().Format(time.RFC3339), e.Group)
}

func (e KDCCertificate) String() string {
	return fmt.Sprintf("the KDC of realm %s has proved its certificate %q, issued by %q, valid until %s (digest %s, key derivation of %s)",
		e.Realm, e.Certificate.Subject, e.Certificate.Issuer, e.Certificate.NotAfter.UTC().Format(time.RFC3339), e.Digest, e.KDF)
}

// publicKey is the state of a login by PKINIT.
type publicKey struct {
	*PKINIT
	group     *pkinit.Group
	regrouped bool
	freshness []byte // the KDC's token (RFC 8070)
	expired   bool   // a token was once
	plain     bool   // the KDC cannot read paChecksum2
}

// usePublicKey makes the machine one of PKINIT.
func (a *AS) usePublicKey() {
	a.public = &publicKey{PKINIT: a.cfg.PKINIT, group: pkinit.DefaultGroup()}
	a.mechanisms = []mechanism{certificate(a.public)}
	a.offered = a.ETypes
	if a.public.Identity == nil {
		a.anonymous = true
		a.options |= messages.KDC_OPT_REQUEST_ANONYMOUS
	}
}

// hello asks for a freshness token (RFC 8070, Section 2).
func (p *publicKey) hello() messages.MethodData {
	if p == nil || p.Identity == nil {
		return nil
	}
	return messages.MethodData{{Type: messages.PA_AS_FRESHNESS}}
}

// answers reports whether onPublicKeyError is to answer an error.
func (p *publicKey) answers(code messages.ErrorCode) bool {
	if p == nil {
		return false
	}
	switch code {
	case messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_ETYPE_NOSUPP, messages.KDC_ERR_PREAUTH_EXPIRED,
		messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED:
		return true
	}
	return false
}

// certificate proves possession of the key of a certificate, or asks for an anonymous ticket.
func certificate(p *publicKey) mechanism {
	return mechanism{padata: messages.PA_PK_AS_REQ, assumed: true, respond: p.respond}
}

// respond signs an AuthPack.
func (p *publicKey) respond(c challenge) (response, error) {
	key, err := p.group.Generate(c.rand)
	if err != nil {
		return response{}, err
	}
	pack := messages.AuthPack{
		// MIT's KDC returns the nonce of the request, so both must be one.
		PKAuthenticator: messages.PKAuthenticator{
			CTime: c.now.Truncate(time.Second), CUSec: int32(c.now.Nanosecond() / int(time.Microsecond)),
			Nonce: c.nonce, FreshnessToken: p.freshness,
		},
		ClientPublicValue: &key.Public,
		SupportedCMSTypes: pkinit.SupportedCMSTypes(),
		SupportedKDFs:     pkinit.SupportedKDFs(),
	}
	pack.PKAuthenticator.PAChecksum, pack.PKAuthenticator.PAChecksum2 = pkinit.Checksums(c.body)
	if p.plain || p.Identity == nil {
		pack.PKAuthenticator.PAChecksum2 = nil
	}
	signed, err := pkinit.Sign(pkinit.AuthData, pack.Marshal(), p.Identity, c.rand)
	if err != nil {
		return response{}, err
	}
	req := messages.PAPKASReq{SignedAuthPack: signed}
	return response{
		padata: messages.MethodData{{Type: messages.PA_PK_AS_REQ, Value: req.Marshal()}},
		proves: p.Identity != nil, agreement: key,
	}, nil
}

// chosen is what is reported of a signature.
func (p *publicKey) chosen() CertificateChosen {
	e := CertificateChosen{Group: p.group.String()}
	if p.Identity != nil {
		e.Certificate = p.Identity.Leaf()
	}
	return e
}

// prove signs, unless that was refused already, with the freshness token of the KDC's offer.
func (a *AS) prove(e *messages.KRBError, m mechanism, offer messages.MethodData) (*Request, error) {
	a.public.freshness, _ = offer.Find(messages.PA_AS_FRESHNESS)
	a.begun++
	if a.begun > MaxProofs || a.cfg.Budget.Left() <= 0 {
		return nil, e
	}
	return a.ask(&proof{mechanism: m})
}

// onPublicKeyError returns the next request after an error that a login by PKINIT may answer in
// another way than one with a key.
func (a *AS) onPublicKeyError(e *messages.KRBError) (*Request, error) {
	p := a.public
	switch {
	case a.open.proof == nil || a.cfg.Budget.Left() <= 0:
		return nil, e
	case e.ErrorCode == messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED && !p.regrouped:
		p.regrouped = true
		value, _ := e.Data().PAData.Find(messages.TD_DH_PARAMETERS)
		list, err := messages.ParseTDDHParameters(value)
		if err != nil {
			return nil, e
		}
		group, err := pkinit.Demanded(list, p.WeakGroups)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", e, err)
		}
		p.group = group
		a.traceAgain(a.realm, "the KDC demands "+group.String())
		return a.ask(a.open.proof)
	case e.ErrorCode == messages.KDC_ERR_PREAUTH_EXPIRED && !p.expired:
		p.expired = true
		a.traceAgain(a.realm, "the freshness token has expired")
		return a.ask(nil)
	default:
		return nil, e
	}
}

// plainer reports whether a reply that was not accepted shows that the KDC cannot read paChecksum2,
// and with it what follows: Heimdal 7 overlooks the client's Diffie-Hellman value then, and
// transports a key. A forged reply achieves no more than that SHA-1 alone ties the signature to the
// request.
func (a *AS) plainer(err error) bool {
	return a.public != nil && !a.public.plain && a.cfg.Budget.Left() > 0 && errors.Is(err, errKeyTransport)
}

// askPlainly signs again without paChecksum2.
func (a *AS) askPlainly(reply []byte) (*Request, error) {
	a.note(reply)
	a.public.plain = true
	a.traceAgain(a.realm, "the KDC cannot read paChecksum2")
	return a.ask(a.open.proof)
}

// openAgreed opens a reply that is encrypted with the key agreed on. Its signer must be a KDC of the
// realm.
func (a *AS) openAgreed(rep *messages.KDCRep, strengthen enctype.Key) (enctype.Key, *asReply, error) {
	const field = "PA-PK-AS-REP"
	value, ok := rep.PAData.Find(messages.PA_PK_AS_REP)
	if !ok {
		return enctype.Key{}, nil, mismatch(field, "present", "absent")
	}
	agreed, from, err := a.agree(value, rep.EncPart.EType)
	if err != nil {
		return enctype.Key{}, nil, malformed(field, err)
	}
	key, err := strengthened(strengthen, agreed)
	if err != nil {
		return enctype.Key{}, nil, malformed("strengthen-key", err)
	}
	answer := &asReply{rep: rep, info: KeyInfo{EType: key.EType()}, kdc: from}
	if answer.part, err = decrypt(key, enctype.KEY_USAGE_AS_REP, rep.EncPart); err == errWrongKey {
		err = malformed("enc-part", errAgreedKey)
	}
	if err == nil {
		err = a.checkContribution(rep, answer.part, agreed)
	}
	return key, answer, err
}

var (
	errAgreedKey    = errors.New("does not decrypt with the key agreed on with the KDC")
	errKeyTransport = errors.New("it is of RSA key transport, which was not asked for")
	errServerNonce  = errors.New("it has a serverDHNonce, although the client's key is for one exchange")
)

// agree returns the reply key that PA-PK-AS-REP agrees on, and who signed it.
func (a *AS) agree(value []byte, etype enctype.ID) (enctype.Key, *KDCCertificate, error) {
	rep, err := messages.ParsePAPKASRep(value)
	switch {
	case err != nil:
		return enctype.Key{}, nil, err
	case rep.DHInfo == nil:
		return enctype.Key{}, nil, errKeyTransport
	case rep.DHInfo.ServerDHNonce != nil:
		return enctype.Key{}, nil, errServerNonce
	}
	signed, err := pkinit.Verify(pkinit.DHKeyData, rep.DHInfo.DHSignedData)
	if err != nil {
		return enctype.Key{}, nil, err
	}
	root, err := signed.CheckKDC(a.realm, a.public.Roots, a.now())
	if err != nil {
		return enctype.Key{}, nil, err
	}
	info, err := messages.ParseKDCDHKeyInfo(signed.Content)
	if err != nil {
		return enctype.Key{}, nil, err
	}
	if info.Nonce != a.open.nonce {
		return enctype.Key{}, nil, mismatch("KDCDHKeyInfo nonce", a.open.nonce, info.Nonce)
	}
	secret, err := a.open.agreement.Shared(info.SubjectPublicKey)
	if err != nil {
		return enctype.Key{}, nil, err
	}
	client := messages.Principal{Name: a.cfg.Client.Name, Realm: a.realm}
	if a.anonymous {
		client.Realm = anonymousRealm // MIT's KDC derives the key for the name in the ticket
	}
	kdf := pkinit.KDF{
		ID: rep.DHInfo.KDF, EType: etype,
		Client: client,
		TGS:    messages.Principal{Name: messages.TGSName(a.realm), Realm: a.realm},
		ASReq:  a.open.message, PASRep: value,
	}
	from := &KDCCertificate{Realm: a.realm, Certificate: signed.Signer, Root: root, Digest: signed.Digest, KDF: "RFC 4556"}
	if kdf.ID != nil {
		from.KDF = "RFC 8636"
	}
	key, err := kdf.ReplyKey(secret)
	return key, from, err
}

// checkContribution verifies that the session key is made of the KDC's contribution and the agreed
// key (RFC 8062, Section 4): a client who is anonymous cannot know otherwise that the KDC which
// signed also made the ticket. Other clients verify it if the KDC sends it.
func (a *AS) checkContribution(rep *messages.KDCRep, part *messages.EncKDCRepPart, agreed enctype.Key) error {
	const field = "PA-PKINIT-KX"
	value, ok := rep.PAData.Find(messages.PA_PKINIT_KX)
	switch {
	case !ok && a.anonymous:
		return mismatch(field, "present, for the client is anonymous", "absent")
	case !ok:
		return nil
	}
	data, err := messages.ParseEncryptedData(value)
	if err != nil {
		return malformed(field, err)
	}
	if data.EType != agreed.EType() {
		return mismatch(field+" etype", agreed.EType(), data.EType)
	}
	plain, err := agreed.Decrypt(enctype.KEY_USAGE_PA_PKINIT_KX, data.Cipher)
	if err != nil {
		return malformed(field, errWrongKey)
	}
	contribution, err := messages.ParseEncryptionKey(plain)
	if err != nil {
		return malformed(field, err)
	}
	session, err := enctype.CF2(contribution, agreed, "PKINIT", "KEYEXCHANGE")
	if err != nil {
		return malformed(field, err)
	}
	if !session.Equal(part.Key) {
		return mismatch("key", "made of the KDC's contribution and the agreed key", "another")
	}
	return nil
}
