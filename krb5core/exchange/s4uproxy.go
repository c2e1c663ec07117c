package exchange

import (
	"errors"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// S4U2ProxyConfig says for which service and user.
type S4U2ProxyConfig struct {
	Session                         // its TGT is our own, of our own realm
	Evidence *messages.Credential   // the user's ticket to us, from S4U2Self or from the user
	Service  messages.PrincipalName // the target
	Realm    string                 // its realm, "" if unknown: our own KDC is asked and referrals are followed
	Options  messages.KDCOptions
}

// S4U2Proxy is the machine by which a service gets a ticket to another service in a user's name, by
// evidence, the user's ticket to itself ([MS-SFU] 3.1.5.2). Both kinds of constrained delegation
// are requested at once: PA-PAC-OPTIONS permits the resource-based one, for which the evidence need
// not be forwardable, so it is sent as it is.
//
// A target in another realm is reached by referrals: our KDC replies with a TGT of the user for the
// next realm, which is the evidence there, together with a TGT of our own for that realm. The
// credential's Client is the user, its Account that of the evidence.
type S4U2Proxy struct {
	s4uCore
	cfg      S4U2ProxyConfig
	tgt      *messages.Credential // ours, for the realm reached so far
	evidence []byte               // the user's ticket for it
	via      []string
}

// NewS4U2Proxy prepares an exchange. It fails if the tickets cannot serve for it.
func NewS4U2Proxy(cfg S4U2ProxyConfig) (*S4U2Proxy, error) {
	core, err := newS4U(cfg.Session)
	switch {
	case err != nil:
		return nil, err
	case cfg.Evidence == nil || len(cfg.Evidence.Ticket) == 0 || !named(cfg.Evidence.Client.Name):
		return nil, errors.New("impersonating a user: no ticket of the user's as evidence")
	case !named(cfg.Service):
		return nil, errors.New("impersonating a user: no service to get a ticket for")
	}
	core.fast = cfg.FAST
	return &S4U2Proxy{s4uCore: core, cfg: cfg, tgt: cfg.TGT, evidence: cfg.Evidence.Ticket, via: []string{core.home()}}, nil
}

func (s *S4U2Proxy) Step(reply []byte) (*Request, error) { return s.turn(reply, s.step) }

func (s *S4U2Proxy) step(reply []byte) (*Request, error) {
	switch {
	case s.inner != nil:
		return s.stepInner(reply, s.gotTGT)
	case s.open == nil:
		return s.askProxy()
	}
	return s.onAnswer(reply, s.onReply, s.retrySkew)
}

// askProxy asks the realm reached so far: for the service, or for the user's TGT to its realm if
// that is known to be another.
func (s *S4U2Proxy) askProxy() (*Request, error) {
	service := s.cfg.Service
	abroad := s.cfg.Realm != "" && !strings.EqualFold(s.cfg.Realm, tgtRealm(s.tgt))
	if abroad {
		service = messages.TGSName(s.cfg.Realm)
	}
	return s.ask(tgsSpec{
		tgt: s.tgt, service: service, onward: abroad,
		options: s.cfg.Options | messages.KDC_OPT_CNAME_IN_ADDL_TKT | messages.KDC_OPT_CANONICALIZE,
		till:    tgsTill(s.now(), s.cfg.Lifetime, s.cfg.TGT, false), rtime: s.cfg.TGT.RenewTill,
		tickets: []messages.Ticket{{Raw: s.evidence}},
		padata: func(uint32, enctype.Key) (messages.MethodData, error) {
			value := messages.PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION.Marshal()
			return messages.MethodData{{Type: messages.PA_PAC_OPTIONS, Value: value}}, nil
		},
		client: s.checkUser, verify: s.verify,
	})
}

// checkUser compares the client of a reply with the evidence's. A TGT for another realm may be in
// our own name, with the user inside; the service's ticket names the user.
func (s *S4U2Proxy) checkUser(rep *messages.KDCRep, final bool) error {
	if !final && sameClient(rep, s.cfg.TGT.Client) == nil {
		return nil
	}
	return sameClient(rep, s.cfg.Evidence.Client)
}

// verify refuses a ticket that is neither for the service nor a referral to it.
func (s *S4U2Proxy) verify(a *tgsReply, q *tgsRequest) error {
	if a.renamed {
		return mismatch("sname", q.service, a.part.SName)
	}
	return nil
}

// onReply moves to the realm that a user's TGT is for, by a TGT of our own.
func (s *S4U2Proxy) onReply(a *tgsReply) (*Request, error) {
	next := a.referral
	if next == "" {
		s.result.Credential = a.cred
		a.cred.Account = s.cfg.Evidence.Account
		return nil, nil
	}
	if reason := notFollowed(s.via, next); reason != "" {
		return nil, &ReferralError{Realm: next, Via: s.via, Reason: reason}
	}
	s.via, s.evidence = append(s.via, next), a.cred.Ticket
	session := s.cfg.Session
	session.TGT = s.tgt
	return s.startInner(session, next, s.cfg.Options, s.gotTGT)
}

func (s *S4U2Proxy) gotTGT(tgt *messages.Credential) (*Request, error) {
	s.tgt = tgt
	return s.askProxy()
}
