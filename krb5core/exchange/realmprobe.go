package exchange

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// realmProbe finds a user's realm by bare AS-REQs, which prove and lock nothing: the KDC that does not refer to another
// realm is the one (RFC 6806 7).
type realmProbe struct {
	*common
	user  messages.PrincipalName
	via   []string // realms asked; the last is asked now
	nonce uint32
}

// realm is the one asked last.
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
		EType:      p.etypes,
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
	return nil, nil // a user who needs no pre-authentication
}

func (p *realmProbe) check(reply []byte) error {
	_, err := p.judge(reply)
	return err
}

// step returns nil, nil when the realm is found. All it is told is a hint: whoever misleads it gets a request for a ticket
// that another KDC will refuse.
func (p *realmProbe) step(reply []byte) (*Request, error) {
	e, err := p.judge(reply)
	if err != nil || e == nil {
		return nil, err
	}
	switch e.ErrorCode {
	case messages.KDC_ERR_PREAUTH_REQUIRED, messages.KDC_ERR_ETYPE_NOSUPP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_POLICY:
		return nil, nil // he has an account there; whether he may be acted for is said later
	case messages.KDC_ERR_WRONG_REALM:
	default:
		return nil, e
	}
	failure := &ReferralError{Realm: e.CRealm, Via: p.via}
	switch {
	case e.CRealm == "":
		failure.Reason = "the KDC names no realm"
	case slices.ContainsFunc(p.via, func(r string) bool { return strings.EqualFold(r, e.CRealm) }):
		failure.Reason = "loop"
	case len(p.via) > MaxHops:
		failure.Reason = "too many hops"
	default:
		p.trace(ClientReferral{p.realm(), e.CRealm})
		p.via = append(p.via, e.CRealm)
		return p.ask()
	}
	return nil, fmt.Errorf("%w: %w", e, failure)
}
