package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// S4U2SelfConfig says for which user a service wants a ticket to itself.
type S4U2SelfConfig struct {
	TGT     *messages.Credential   // our own, of our own realm
	Service messages.PrincipalName // ourselves: the account's name or one of its service principal names

	// User is whom to act for. A user principal name is a name of type KRB_NT_ENTERPRISE, and the KDCs are asked for its
	// realm, beginning with Realm. Realm "" is our own.
	User messages.Principal

	// Keys are our own, with which the ticket is opened to see that it is the user's, and Hint tells of them what our login
	// did. What no key fits is taken on the KDC's word, which is good only with FAST. Both may be nil.
	Keys KeySource
	Hint *PreAuthHint

	// Bound demands the KDC's PA-S4U-X509-USER, which binds its answer to the user that this very request names. To be set
	// once our realm's KDCs have sent one (S4U2Self.Bound): without, somebody on the way can have an older PA-FOR-USER
	// answered, and who a user principal name stands for is the KDC's to say.
	Bound bool

	ETypes   []enctype.ID        // allowed types of the session key in order of preference, nil for enctype.Strong
	Options  messages.KDCOptions // KDC_OPT_FORWARDABLE for a ticket that serves S4U2Proxy without resource-based delegation
	Lifetime time.Duration       // 0 for as long as the TGT

	// FAST, Known and CAPath are as in TGSConfig.
	FAST   bool
	Known  func(realm string) *messages.Credential
	CAPath func(client, server string) []string

	Now     func() time.Time // the realm's time as far as known; nil for time.Now
	Rand    io.Reader        // nil for crypto/rand
	MaxSkew time.Duration    // 0 for DefaultMaxSkew
	Trace   func(Event)      // called for each decision; nil for none
}

// S4U2Self is the machine by which a service gets a ticket to itself in a user's name ([MS-SFU] 3.1.5.1.1). The ticket may
// come back not forwardable; that is no verdict.
//
// The user's realm is found first, then a TGT for it is got, then its KDC is asked, and its referrals are followed until
// they have led back to our realm, whose KDC issues the ticket. Every request names the user in PA-FOR-USER and in
// PA-S4U-X509-USER.
type S4U2Self struct {
	tgsCore
	cfg    S4U2SelfConfig
	home   string // our realm
	user   messages.Principal
	probe  *realmProbe // while the user's realm is being looked for
	inner  *TGS        // while a TGT for it is being got
	route  route
	bound  bool // by the KDC's PA-S4U-X509-USER, the answer at the end
	result TGSResult
}

// NewS4U2Self prepares an exchange. It fails if the TGT cannot serve for it.
func NewS4U2Self(cfg S4U2SelfConfig) (*S4U2Self, error) {
	if err := checkTGT(cfg.TGT); err != nil {
		return nil, err
	}
	s := &S4U2Self{
		tgsCore: tgsCore{common: newCommon(cfg.ETypes, cfg.Now, cfg.Rand, cfg.MaxSkew, cfg.Trace)},
		cfg:     cfg,
		home:    cfg.TGT.Client.Realm,
		user:    cfg.User,
	}
	switch {
	case tgtRealm(cfg.TGT) != s.home:
		return nil, fmt.Errorf("acting for a user takes a ticket-granting ticket of our own realm %s, not %s", s.home, cfg.TGT.Service)
	case !named(cfg.Service):
		return nil, errors.New("acting for a user: no name of our own")
	case !named(cfg.User.Name):
		return nil, errors.New("no user to act for")
	}
	if s.user.Realm == "" {
		s.user.Realm = s.home
	}
	return s, nil
}

// Result is what is known so far, also after a failure. The credential's Client is the user as the KDC names him. The
// referrals are those won on the way to the user's realm, never those on the way back: they bear our name and the user's
// authorization data ([MS-SFU] 3.2.5.1.1), and whoever used them for anything else would be taken for him.
func (s *S4U2Self) Result() *TGSResult {
	return s.learnt(s.result)
}

// Bound tells whether the KDC has bound the ticket to the user asked for by a PA-S4U-X509-USER.
func (s *S4U2Self) Bound() bool { return s.bound }

// Check implements Machine.
func (s *S4U2Self) Check(reply []byte) error {
	switch {
	case s.inner != nil:
		return s.inner.Check(reply)
	case s.probe != nil && !s.ended:
		return s.probe.check(reply)
	}
	return s.tgsCore.Check(reply)
}

// Step implements Machine.
func (s *S4U2Self) Step(reply []byte) (*Request, error) { return s.turn(reply, s.step) }

func (s *S4U2Self) step(reply []byte) (*Request, error) {
	switch {
	case s.inner != nil:
		return s.stepInner(reply)
	case s.probe != nil:
		return s.stepProbe(reply)
	case s.open == nil && s.user.Name.NameType == messages.KRB_NT_ENTERPRISE:
		s.probe = &realmProbe{common: s.common, user: s.user.Name, via: []string{s.user.Realm}}
		return s.probe.ask()
	case s.open == nil:
		return s.getTGT()
	}
	answer, krbErr, err := s.judge(reply)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil:
		return s.retrySkew(krbErr)
	}
	s.take(answer)
	return s.onAnswer(answer)
}

func (s *S4U2Self) stepProbe(reply []byte) (*Request, error) {
	req, err := s.probe.step(reply)
	if err != nil || req != nil {
		return req, err
	}
	s.user.Realm = s.probe.realm()
	s.trace(UserRealmFound{s.user.Name.String(), s.user.Realm})
	s.probe = nil
	return s.getTGT()
}

// getTGT gets a TGT for the user's realm, unless that is ours.
func (s *S4U2Self) getTGT() (*Request, error) {
	s.fast = s.cfg.FAST // the probe before has no ticket to armor itself with
	if strings.EqualFold(s.user.Realm, s.home) {
		s.route = newRoute(s.cfg.TGT, nil, nil)
		return s.askUser()
	}
	inner, err := NewTGS(TGSConfig{
		TGT: s.cfg.TGT, Service: messages.TGSName(s.user.Realm), ETypes: s.etypes, Options: s.cfg.Options,
		Known: s.cfg.Known, CAPath: s.cfg.CAPath,
	})
	if err != nil {
		return nil, err
	}
	inner.common, s.inner = s.common, inner
	return s.stepInner(nil)
}

func (s *S4U2Self) stepInner(reply []byte) (*Request, error) {
	req, err := s.inner.step(reply)
	if err != nil || req != nil {
		return req, err
	}
	r := s.inner.Result()
	s.result.Referrals = append(s.result.Referrals, r.Referrals...)
	s.route = newRoute(r.Credential, nil, nil)
	s.inner = nil
	return s.askUser()
}

// askUser asks the realm that we have come to. At home we go by our own name, abroad by an enterprise name that holds the
// realm, so that the KDC can refer ([MS-SFU] 3.1.5.1.1.2).
func (s *S4U2Self) askUser() (*Request, error) {
	service := s.cfg.Service
	if s.route.realm() != s.home {
		self := messages.Principal{Name: service, Realm: s.home}
		service = messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, self.String())
	}
	return s.ask(tgsSpec{
		tgt: s.route.tgt, service: service, options: s.cfg.Options | messages.KDC_OPT_CANONICALIZE,
		till:  tgsTill(s.now(), s.cfg.Lifetime, s.cfg.TGT, false),
		rtime: s.cfg.TGT.RenewTill, padata: s.padata, client: s.checkUser, verify: s.verify,
	})
}

func (s *S4U2Self) onAnswer(a *tgsAnswer) (*Request, error) {
	if a.referral != "" {
		return s.follow(a)
	}
	s.result.Credential = a.cred
	_, s.bound = a.rep.PAData.Find(messages.PA_S4U_X509_USER) // which verify has passed
	return nil, nil
}

func (s *S4U2Self) follow(a *tgsAnswer) (*Request, error) {
	// The way back to our own realm is no loop.
	if err := s.route.hop(a.cred, a.referral); err != nil {
		return nil, err
	}
	return s.askUser()
}

// padata makes PA-S4U-X509-USER and PA-FOR-USER ([MS-SFU] 2.2.1 and 2.2.2).
func (s *S4U2Self) padata(nonce uint32, subkey enctype.Key) (messages.MethodData, error) {
	id := messages.S4UUserID{
		Nonce: nonce, CName: s.user.Name, CRealm: s.user.Realm,
		Options: messages.KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE,
	}
	id.Raw = id.Marshal()
	x509 := messages.PAS4UX509User{UserID: id}
	var err error
	if subkey.EType() == enctype.RC4_HMAC {
		// As in Windows 2008: unkeyed, which the reply makes good in its encrypted padata.
		x509.Checksum.Type = enctype.CKSUMTYPE_RSA_MD4
		x509.Checksum.Value, err = enctype.Digest(enctype.CKSUMTYPE_RSA_MD4, id.Raw)
	} else {
		x509.Checksum.Type = subkey.ChecksumType()
		x509.Checksum.Value, err = subkey.Checksum(enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST, id.Raw)
	}
	if err != nil {
		return nil, fmt.Errorf("summing PA-S4U-X509-USER: %w", err)
	}
	forUser := messages.PAForUser{UserName: s.user.Name, UserRealm: s.user.Realm, AuthPackage: messages.S4UAuthPackage}
	forUser.Cksum.Type = enctype.KERB_CHECKSUM_HMAC_MD5
	forUser.Cksum.Value, err = enctype.HMACMD5(s.route.tgt.Key, enctype.KEY_USAGE_PA_FOR_USER, forUser.ChecksumInput())
	if err != nil {
		return nil, fmt.Errorf("summing PA-FOR-USER: %w", err)
	}
	return messages.MethodData{
		{Type: messages.PA_S4U_X509_USER, Value: x509.Marshal()},
		{Type: messages.PA_FOR_USER, Value: forUser.Marshal()},
	}, nil
}

// checkUser holds the client of a reply against the user asked for. A referral is for us or for the user. The ticket
// itself is for him: by the name asked for, whose letter case the KDC may correct, or, if that was an enterprise name, by
// the one that the KDC knows him by. Neither is authenticated unless the reply has a PA-S4U-X509-USER; the ticket itself,
// which checkUsersTicket opens, names whom the KDC meant.
func (s *S4U2Self) checkUser(rep *messages.KDCRep, final bool) error {
	if !final && sameClient(rep, s.cfg.TGT.Client) == nil {
		return nil
	}
	if s.user.Name.NameType == messages.KRB_NT_ENTERPRISE {
		if !named(rep.CName) || rep.CRealm == "" {
			return mismatch("cname", "present", "absent")
		}
		if final && sameClient(rep, s.cfg.TGT.Client) == nil && !s.ourselves() {
			return mismatch("cname", s.user.Name, rep.CName)
		}
		return nil
	}
	if !strings.EqualFold(rep.CRealm, s.user.Realm) {
		return mismatch("crealm", s.user.Realm, rep.CRealm)
	}
	if !foldEqual(rep.CName, s.user.Name) {
		return mismatch("cname", s.user.Name, rep.CName)
	}
	return nil
}

// ourselves tells whether an enterprise name may well be our own account's: the part before the at sign is our name.
func (s *S4U2Self) ourselves() bool {
	name, _, _ := strings.Cut(strings.Join(s.user.Name.NameString, "/"), "@")
	return strings.EqualFold(name, s.cfg.TGT.Client.Name.String())
}

// verify checks the KDC's PA-S4U-X509-USER, by which it binds its reply to the user that we named. KDCs that do not know
// that element answer to PA-FOR-USER and send none.
func (s *S4U2Self) verify(a *tgsAnswer, q *tgsQuestion) error {
	if a.renamed || a.referral == "" && q.realm != s.home { // only our own KDC issues tickets to us
		return mismatch("sname", s.cfg.Service, a.part.SName)
	}
	if a.referral == "" {
		if err := s.checkUsersTicket(a); err != nil {
			return err
		}
	}
	const field = "PA-S4U-X509-USER"
	enc, hasEnc := a.part.EncryptedPAData.Find(messages.PA_S4U_X509_USER)
	value, ok := a.rep.PAData.Find(messages.PA_S4U_X509_USER)
	if !ok {
		if hasEnc || s.cfg.Bound && a.referral == "" {
			return mismatch(field, "present, as in earlier answers", "absent")
		}
		return nil
	}
	got, err := messages.ParsePAS4UX509User(value)
	if err != nil {
		return malformed(field, err)
	}
	if got.UserID.Nonce != q.nonce {
		return mismatch(field+" nonce", q.nonce, got.UserID.Nonce)
	}
	usage := enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST
	if got.UserID.Options&messages.KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE != 0 {
		usage = enctype.KEY_USAGE_PA_S4U_X509_USER_REPLY
	}
	if err := s.verifySum(got, usage, q, enc, hasEnc); err != nil {
		return malformed(field+" checksum", err)
	}
	return s.checkUserID(&got.UserID, a)
}

// verifySum verifies the checksum of a PA-S4U-X509-USER. Where it has no key, the encrypted padata must hold the
// checksums of request and reply.
func (s *S4U2Self) verifySum(got *messages.PAS4UX509User, usage enctype.Usage, q *tgsQuestion, enc []byte, hasEnc bool) error {
	if got.Checksum.Type != enctype.CKSUMTYPE_RSA_MD4 {
		return q.subkey.VerifyChecksum(got.Checksum.Type, usage, got.UserID.Raw, got.Checksum.Value)
	}
	digest, err := enctype.Digest(enctype.CKSUMTYPE_RSA_MD4, got.UserID.Raw)
	if err != nil {
		return err
	}
	value, _ := q.extra.Find(messages.PA_S4U_X509_USER)
	asked, err := messages.ParsePAS4UX509User(value)
	if err != nil {
		return err
	}
	if q.subkey.EType() != enctype.RC4_HMAC || !hasEnc || !bytes.Equal(digest, got.Checksum.Value) ||
		!bytes.Equal(enc, append(slices.Clone(asked.Checksum.Value), digest...)) {
		return enctype.ErrIntegrity
	}
	return nil
}

// checkUserID holds the user that the KDC names in PA-S4U-X509-USER against the one asked for and the reply's client.
// Some KDCs repeat the name asked for, others tell the one they know.
func (s *S4U2Self) checkUserID(id *messages.S4UUserID, a *tgsAnswer) error {
	asAsked := foldEqual(id.CName, s.user.Name) && strings.EqualFold(id.CRealm, s.user.Realm)
	asReplied := a.referral == "" && foldEqual(id.CName, a.rep.CName) && strings.EqualFold(id.CRealm, a.rep.CRealm)
	// The realm of a UPN's owner tells his name; whose ticket it is in the end, checkUser looks at.
	asFound := a.referral != "" && s.user.Name.NameType == messages.KRB_NT_ENTERPRISE && strings.EqualFold(id.CRealm, s.user.Realm)
	if !asAsked && !asReplied && !asFound {
		return mismatch("PA-S4U-X509-USER user", s.user, messages.Principal{Name: id.CName, Realm: id.CRealm})
	}
	return nil
}
