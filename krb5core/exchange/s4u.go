package exchange

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
)

// s4uCore is what the machines for impersonated users have in common: an inner machine gets TGTs of
// our own for other realms.
type s4uCore struct {
	tgsCore
	own    *messages.Credential // our TGT
	inner  *TGS                 // nil unless it is running
	result TGSResult
}

func newS4U(session Session) (s4uCore, error) {
	s := s4uCore{own: session.TGT}
	if err := checkTGT(s.own); err != nil {
		return s, err
	}
	if tgtRealm(s.own) != s.home() {
		return s, fmt.Errorf("impersonating a user takes a ticket-granting ticket of our own realm %s, not %s", s.home(), s.own.Service)
	}
	s.tgsCore = tgsCore{common: newCommon(session.Env)}
	return s, nil
}

func (s *s4uCore) home() string { return s.own.Client.Realm }

// Result returns the state so far, also after a failure.
func (s *s4uCore) Result() *TGSResult { return s.learnt(s.result) }

func (s *s4uCore) Check(reply []byte) error {
	if s.inner != nil {
		return s.inner.Check(reply)
	}
	return s.tgsCore.Check(reply)
}

// startInner gets a TGT for the realm, with which done continues.
func (s *s4uCore) startInner(
	session Session, realm string, options messages.KDCOptions, done func(*messages.Credential) (*Request, error),
) (req *Request, err error) {
	session.Lifetime = 0 // the lifetime is for the final ticket only
	s.inner, err = NewTGS(TGSConfig{Session: session, Service: messages.TGSName(realm), Options: options})
	if err != nil {
		return nil, err
	}
	s.inner.common = s.common
	return s.stepInner(nil, done)
}

func (s *s4uCore) stepInner(reply []byte, done func(*messages.Credential) (*Request, error)) (*Request, error) {
	req, err := s.inner.step(reply)
	if err != nil || req != nil {
		return req, err
	}
	r := s.inner.Result()
	s.inner = nil
	s.result.Referrals = append(s.result.Referrals, r.Referrals...)
	return done(r.Credential)
}

// openUsersTicket decrypts the ticket to ourselves, if we hold its key, and verifies that it is the
// one that the reply describes, and that it and its PAC are of the reply's client. Without FAST
// nothing else shows that: the ticket and cname are outside of the encrypted part of a reply (RFC
// 4120, Section 5.4.2), nothing ties PA-FOR-USER to one request ([MS-SFU] 2.2.1), and S4U2Proxy
// accepts whatever ticket is its evidence. So an attacker between client and KDC could substitute
// another user's ticket. The PAC is nil if there is none; opened is false if none of the keys fits.
func openUsersTicket(a *tgsReply, keys KeySource, hint *PreAuthHint, self messages.Principal) (p *pac.PAC, opened bool, err error) {
	part, key, err := openTicket(&a.rep.Ticket, keys, hint, self)
	if part == nil {
		return nil, false, err
	}
	if !part.Key.Equal(a.part.Key) {
		return nil, false, mismatch("ticket", "the one that the reply is about", "another")
	}
	if !strings.EqualFold(part.CRealm, a.rep.CRealm) || !foldEqual(part.CName, a.rep.CName) {
		return nil, false, mismatch("ticket's client", messages.Principal{Name: a.rep.CName, Realm: a.rep.CRealm},
			messages.Principal{Name: part.CName, Realm: part.CRealm})
	}
	if p, err = pac.OfTicket(part, key); err != nil {
		return nil, false, malformed("ticket's PAC", err)
	}
	return p, true, nil
}

// accountIn is the account that a PAC, which may be nil, describes.
func accountIn(p *pac.PAC) *messages.Account {
	if p == nil || p.Logon == nil {
		return &messages.Account{}
	}
	return &messages.Account{Name: p.Logon.EffectiveName, Machine: p.Logon.UserAccountControl.Machine()}
}

// hasUPN reports whether a PAC, which may be nil, says that the account has the user principal name.
func hasUPN(p *pac.PAC, upn messages.PrincipalName) bool {
	return p != nil && p.UPN != nil && strings.EqualFold(p.UPN.UPN, strings.Join(upn.NameString, "/"))
}

// openTicket decrypts a ticket to ourselves, and returns the key that fits. It returns nil without
// an error if none does: a keytab may lack the account's newest one.
func openTicket(ticket *messages.Ticket, keys KeySource, hint *PreAuthHint, self messages.Principal) (*messages.EncTicketPart, enctype.Key, error) {
	if keys == nil {
		return nil, enctype.Key{}, nil
	}
	enc := ticket.EncPart
	info := KeyInfo{EType: enc.EType, Salt: DefaultSalt(self)}
	if hint != nil {
		if hint.HasSalt {
			info.Salt, info.HasSalt = hint.Salt, true
		}
		if hint.EType == enc.EType {
			info.Params = hint.Params
		}
	}
	for _, info.KVNO = range versions(enc) {
		key, err := keys.Key(info)
		if err != nil {
			continue
		}
		plain, err := key.Decrypt(enctype.KEY_USAGE_TICKET, enc.Cipher)
		if err != nil {
			continue
		}
		part, err := messages.ParseEncTicketPart(plain)
		if err != nil {
			return nil, key, malformed("ticket", err)
		}
		return part, key, nil
	}
	return nil, enctype.Key{}, nil
}

// realmProbe finds a user's realm by AS-REQs without pre-authentication, which prove and lock
// nothing: it is the realm whose KDC does not refer to another (RFC 6806, Section 7).
type realmProbe struct {
	*common
	user  messages.PrincipalName
	via   []string // realms asked; the last is asked now
	nonce uint32
}

// realm is the realm asked last.
func (p *realmProbe) realm() string { return p.via[len(p.via)-1] }

func (p *realmProbe) ask() (*Request, error) {
	var err error
	if p.nonce, err = p.common.nonce(); err != nil {
		return nil, err
	}
	req := messages.KDCReq{MsgType: messages.KRB_AS_REQ, Body: messages.KDCReqBody{
		KDCOptions: messages.KDC_OPT_CANONICALIZE,
		CName:      p.user,
		Realm:      p.realm(),
		SName:      messages.TGSName(p.realm()),
		Till:       till(p.now(), 10*time.Minute),
		Nonce:      p.nonce,
		EType:      p.ETypes,
	}}
	return &Request{Realm: p.realm(), Message: req.Marshal()}, nil
}

func (p *realmProbe) judge(reply []byte) (*messages.KRBError, error) {
	rep, krbErr, err := readReply(reply, messages.KRB_AS_REP)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil:
		return krbErr, checkError(krbErr, p.user, true, messages.TGSName(p.realm()))
	case !strings.EqualFold(rep.Ticket.Realm, p.realm()):
		return nil, mismatch("ticket.realm", p.realm(), rep.Ticket.Realm)
	}
	return nil, nil // a user without pre-authentication
}

// step returns nil, nil when the realm is found. A forged reply only leads to a request that
// another KDC refuses.
func (p *realmProbe) step(reply []byte) (*Request, error) {
	e, err := p.judge(reply)
	if err != nil || e == nil {
		return nil, err
	}
	switch e.ErrorCode {
	case messages.KDC_ERR_PREAUTH_REQUIRED, messages.KDC_ERR_ETYPE_NOSUPP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_POLICY:
		return nil, nil // the account exists; a later request shows whether it may be impersonated
	case messages.KDC_ERR_WRONG_REALM:
	default:
		return nil, e
	}
	if reason := notFollowed(p.via, e.CRealm); reason != "" {
		return nil, fmt.Errorf("%w: %w", e, &ReferralError{Realm: e.CRealm, Via: p.via, Reason: reason})
	}
	p.traceClientReferral(p.realm(), e.CRealm)
	p.via = append(p.via, e.CRealm)
	return p.ask()
}
