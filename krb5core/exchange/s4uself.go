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

// S4U2SelfConfig says for which user a service wants a ticket to itself.
type S4U2SelfConfig struct {
	Session                        // its TGT is our own, of our own realm
	Service messages.PrincipalName // ourselves: the account's name or one of its service principal names

	// User is the user to impersonate. A user principal name is of type KRB_NT_ENTERPRISE, and the
	// KDCs are asked for its realm, beginning with Realm. Realm "" is our own.
	User messages.Principal

	// Keys are our own, with which the ticket is decrypted to verify its client, and Hint describes
	// them as our login learnt. Both may be nil; then the KDC's PA-S4U-X509-USER alone proves whose
	// the ticket is.
	Keys KeySource
	Hint *PreAuthHint

	Options messages.KDCOptions // KDC_OPT_FORWARDABLE for a ticket that S4U2Proxy accepts without resource-based delegation
}

// S4U2Self is the machine by which a service gets a ticket to itself in a user's name ([MS-SFU]
// 3.1.5.1.1). The ticket may come back not forwardable; that is no refusal.
//
// It finds the user's realm, gets a TGT for it, asks its KDC, and follows its referrals until they
// lead back to our realm, whose KDC issues the ticket. Every request names the user in PA-FOR-USER
// and in PA-S4U-X509-USER.
//
// The credential's Client is the user as named by the KDC, its Account the user's account as the
// ticket's PAC describes it. The referrals in the result are those
// got on the way to the user's realm, never those on the way back: these have our name and the
// user's authorization data ([MS-SFU] 3.2.5.1.1), so any other request with them would be made as
// the user.
type S4U2Self struct {
	s4uCore
	cfg   S4U2SelfConfig
	user  messages.Principal
	probe *realmProbe // while looking for the user's realm
	route route
}

// ErrUserNotProven is returned for an S4U2Self reply that is the KDC's own, and that nothing ties to
// the requested user: an attacker on the network may have put an older PA-FOR-USER in the place of
// ours.
var ErrUserNotProven = errors.New("the KDC does not confirm the user, and no key of ours opens a ticket that proves it")

// NewS4U2Self prepares an exchange. It fails if the TGT cannot serve for it.
func NewS4U2Self(cfg S4U2SelfConfig) (*S4U2Self, error) {
	core, err := newS4U(cfg.Session)
	switch {
	case err != nil:
		return nil, err
	case !named(cfg.Service):
		return nil, errors.New("impersonating a user: no name of our own")
	case !named(cfg.User.Name):
		return nil, errors.New("no user to impersonate")
	}
	s := &S4U2Self{s4uCore: core, cfg: cfg, user: cfg.User}
	if s.user.Realm == "" {
		s.user.Realm = s.home()
	}
	return s, nil
}

func (s *S4U2Self) Check(reply []byte) error {
	if s.probe != nil && !s.ended {
		_, err := s.probe.judge(reply)
		return err
	}
	return s.s4uCore.Check(reply)
}

func (s *S4U2Self) Step(reply []byte) (*Request, error) { return s.turn(reply, s.step) }

func (s *S4U2Self) step(reply []byte) (*Request, error) {
	switch {
	case s.inner != nil:
		return s.stepInner(reply, s.gotTGT)
	case s.probe != nil:
		return s.stepProbe(reply)
	case s.open == nil && s.user.Name.NameType == messages.KRB_NT_ENTERPRISE:
		s.probe = &realmProbe{common: s.common, user: s.user.Name, via: []string{s.user.Realm}}
		return s.probe.ask()
	case s.open == nil:
		return s.getTGT()
	}
	return s.onAnswer(reply, s.onReply, s.retrySkew)
}

func (s *S4U2Self) stepProbe(reply []byte) (*Request, error) {
	req, err := s.probe.step(reply)
	if err != nil || req != nil {
		return req, err
	}
	s.user.Realm = s.probe.realm()
	s.tracef("user %s has an account in realm %s", s.user.Name, s.user.Realm)
	s.probe = nil
	return s.getTGT()
}

// getTGT gets a TGT for the user's realm, unless that is ours.
func (s *S4U2Self) getTGT() (*Request, error) {
	s.fast = s.cfg.FAST // the probe has no ticket for armor
	if strings.EqualFold(s.user.Realm, s.home()) {
		return s.gotTGT(s.cfg.TGT)
	}
	return s.startInner(s.cfg.Session, s.user.Realm, s.cfg.Options, s.gotTGT)
}

func (s *S4U2Self) gotTGT(tgt *messages.Credential) (*Request, error) {
	s.route = newRoute(tgt, nil, nil)
	return s.askUser()
}

// askUser asks the realm reached so far. In our own realm the service has our own name, elsewhere
// an enterprise name with the realm, so that the KDC can refer ([MS-SFU] 3.1.5.1.1.2).
func (s *S4U2Self) askUser() (*Request, error) {
	service := s.cfg.Service
	if s.route.realm() != s.home() {
		self := messages.Principal{Name: service, Realm: s.home()}
		service = messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, self.String())
	}
	return s.ask(tgsSpec{
		tgt: s.route.tgt, service: service, options: s.cfg.Options | messages.KDC_OPT_CANONICALIZE,
		till:  tgsTill(s.now(), s.cfg.Lifetime, s.cfg.TGT, false),
		rtime: s.cfg.TGT.RenewTill, padata: s.padata, client: s.checkUser, verify: s.verify,
	})
}

func (s *S4U2Self) onReply(a *tgsReply) (*Request, error) {
	if a.referral != "" {
		// The path back to our own realm is no loop.
		if err := s.route.hop(a.cred, a.referral); err != nil {
			return nil, err
		}
		return s.askUser()
	}
	if a.unproven {
		return nil, fmt.Errorf("%w; the ticket is encrypted with %s", ErrUserNotProven, a.rep.Ticket.EncPart.EType)
	}
	s.result.Credential = a.cred
	return nil, nil
}

// padata builds PA-S4U-X509-USER and PA-FOR-USER ([MS-SFU] 2.2.1 and 2.2.2).
func (s *S4U2Self) padata(nonce uint32, subkey enctype.Key) (messages.MethodData, error) {
	id := messages.S4UUserID{
		Nonce: nonce, CName: s.user.Name, CRealm: s.user.Realm,
		Options: messages.KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE,
	}
	id.Raw = id.Marshal()
	x509 := messages.PAS4UX509User{UserID: id}
	var err error
	if subkey.EType() == enctype.RC4_HMAC {
		// As in Windows 2008: without a key; the encrypted padata of the reply makes up for it.
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

// checkUser compares the client of a reply with the requested user. A referral is for us or for the
// user. The ticket itself is for the user: by the requested name, whose letter case the KDC may
// correct, or, if that was an enterprise name, by the account's name. verify makes sure of it.
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

// ourselves reports whether an enterprise name may be our own account's: the part before the at
// sign is our name.
func (s *S4U2Self) ourselves() bool {
	name, _, _ := strings.Cut(strings.Join(s.user.Name.NameString, "/"), "@")
	return strings.EqualFold(name, s.cfg.TGT.Client.Name.String())
}

// verify finds out whether the final ticket is of the requested user, by one of three: the KDC's
// PA-S4U-X509-USER, which is bound to this request; the ticket, opened, names the requested client,
// which checkUser has compared; or, for a user principal name, its PAC has that name. Any reply's
// PA-S4U-X509-USER is checked.
func (s *S4U2Self) verify(a *tgsReply, q *tgsRequest) error {
	if a.renamed || a.referral == "" && q.realm != s.home() { // only our own KDC issues tickets for us
		return mismatch("sname", s.cfg.Service, a.part.SName)
	}
	confirmed, err := s.verifyX509(a, q)
	if err != nil || a.referral != "" {
		return err
	}
	p, opened, err := openUsersTicket(a, s.cfg.Keys, s.cfg.Hint, s.cfg.TGT.Client)
	if err != nil {
		return err
	}
	if opened {
		a.account = accountIn(p)
	}
	plain := s.user.Name.NameType != messages.KRB_NT_ENTERPRISE
	a.unproven = !confirmed && (!opened || !plain) && !hasUPN(p, s.user.Name)
	return nil
}

// verifyX509 checks the KDC's PA-S4U-X509-USER, which binds its reply to the requested user, and
// reports whether there is one. KDCs that do not support it answer PA-FOR-USER and send none.
func (s *S4U2Self) verifyX509(a *tgsReply, q *tgsRequest) (present bool, err error) {
	const field = "PA-S4U-X509-USER"
	enc, hasEnc := a.part.EncryptedPAData.Find(messages.PA_S4U_X509_USER)
	value, ok := a.rep.PAData.Find(messages.PA_S4U_X509_USER)
	if !ok {
		if hasEnc {
			return false, mismatch(field, "present, as inside of the reply", "absent")
		}
		return false, nil
	}
	got, err := messages.ParsePAS4UX509User(value)
	if err != nil {
		return false, malformed(field, err)
	}
	if got.UserID.Nonce != q.nonce {
		return false, mismatch(field+" nonce", q.nonce, got.UserID.Nonce)
	}
	usage := enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST
	if got.UserID.Options&messages.KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE != 0 {
		usage = enctype.KEY_USAGE_PA_S4U_X509_USER_REPLY
	}
	if err := s.verifySum(got, usage, q, enc, hasEnc); err != nil {
		return false, malformed(field+" checksum", err)
	}
	return true, s.checkUserID(&got.UserID, a)
}

// verifySum verifies the checksum of a PA-S4U-X509-USER. If it has no key, the encrypted padata
// must hold the checksums of request and reply.
func (s *S4U2Self) verifySum(got *messages.PAS4UX509User, usage enctype.Usage, q *tgsRequest, enc []byte, hasEnc bool) error {
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

// checkUserID compares the user in the KDC's PA-S4U-X509-USER with the requested one and the
// reply's client. Some KDCs repeat the requested name, others send the account's.
func (s *S4U2Self) checkUserID(id *messages.S4UUserID, a *tgsReply) error {
	asAsked := foldEqual(id.CName, s.user.Name) && strings.EqualFold(id.CRealm, s.user.Realm)
	asReplied := a.referral == "" && foldEqual(id.CName, a.rep.CName) && strings.EqualFold(id.CRealm, a.rep.CRealm)
	// The realm of a UPN's account names it; checkUser checks the client of the final ticket.
	asFound := a.referral != "" && s.user.Name.NameType == messages.KRB_NT_ENTERPRISE && strings.EqualFold(id.CRealm, s.user.Realm)
	if !asAsked && !asReplied && !asFound {
		return mismatch("PA-S4U-X509-USER user", s.user, messages.Principal{Name: id.CName, Realm: id.CRealm})
	}
	return nil
}
