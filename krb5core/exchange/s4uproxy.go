package exchange

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// S4U2ProxyConfig says for which service, in whose name.
type S4U2ProxyConfig struct {
	TGT      *messages.Credential   // our own, of our own realm
	Evidence *messages.Credential   // the user's ticket to us, from S4U2Self or from himself
	Service  messages.PrincipalName // the target
	Realm    string                 // its realm, "" if unknown: our own KDC is asked and referrals are followed

	ETypes   []enctype.ID // allowed types of the session key in order of preference, nil for enctype.Strong
	Options  messages.KDCOptions
	Lifetime time.Duration // 0 for as long as the TGT
	FAST     bool          // as in TGSConfig

	// Known and CAPath are as in TGSConfig.
	Known  func(realm string) *messages.Credential
	CAPath func(client, server string) []string

	Now     func() time.Time // the realm's time as far as known; nil for time.Now
	Rand    io.Reader        // nil for crypto/rand
	MaxSkew time.Duration    // 0 for DefaultMaxSkew
	Trace   func(Event)      // called for each decision; nil for none
}

// S4U2Proxy is the machine by which a service gets a ticket to another service in a user's name, on the evidence of his
// ticket to itself ([MS-SFU] 3.1.5.2). Both kinds of constrained delegation are asked for at once: PA-PAC-OPTIONS allows the
// KDC the resource-based one, for which the evidence need not be forwardable, so it is sent as it is.
//
// A target in another realm is reached by referrals: our KDC answers with a TGT of the user for the next realm, which is
// the evidence there, beside a TGT of our own for that realm.
type S4U2Proxy struct {
	tgsCore
	cfg      S4U2ProxyConfig
	home     string
	tgt      *messages.Credential // ours, for the realm that we have come to
	evidence []byte               // the ticket that stands for the user there
	via      []string
	inner    *TGS // while a TGT of our own for the next realm is being got
	result   TGSResult
}

// NewS4U2Proxy prepares an exchange. It fails if the tickets cannot serve for it.
func NewS4U2Proxy(cfg S4U2ProxyConfig) (*S4U2Proxy, error) {
	if err := checkTGT(cfg.TGT); err != nil {
		return nil, err
	}
	s := &S4U2Proxy{
		tgsCore: tgsCore{common: newCommon(cfg.ETypes, cfg.Now, cfg.Rand, cfg.MaxSkew, cfg.Trace)},
		cfg:     cfg,
		home:    cfg.TGT.Client.Realm,
		tgt:     cfg.TGT,
		via:     []string{cfg.TGT.Client.Realm},
	}
	s.fast = cfg.FAST
	switch {
	case tgtRealm(cfg.TGT) != s.home:
		return nil, fmt.Errorf("acting for a user takes a ticket-granting ticket of our own realm %s, not %s", s.home, cfg.TGT.Service)
	case cfg.Evidence == nil || len(cfg.Evidence.Ticket) == 0 || !named(cfg.Evidence.Client.Name):
		return nil, errors.New("acting for a user: no ticket of the user's as evidence")
	case !named(cfg.Service):
		return nil, errors.New("acting for a user: no service to get a ticket for")
	}
	s.evidence = cfg.Evidence.Ticket
	return s, nil
}

// Result is what is known so far, also after a failure. The credential's Client is the user.
func (s *S4U2Proxy) Result() *TGSResult {
	return s.learnt(s.result)
}

// Check implements Machine.
func (s *S4U2Proxy) Check(reply []byte) error {
	if s.inner != nil {
		return s.inner.Check(reply)
	}
	return s.tgsCore.Check(reply)
}

// Step implements Machine.
func (s *S4U2Proxy) Step(reply []byte) (*Request, error) { return s.turn(reply, s.step) }

func (s *S4U2Proxy) step(reply []byte) (*Request, error) {
	switch {
	case s.inner != nil:
		return s.stepInner(reply)
	case s.open == nil:
		return s.askProxy()
	}
	answer, krbErr, err := s.judge(reply)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil:
		return s.retrySkew(krbErr)
	}
	s.take(answer)
	if answer.referral != "" {
		return s.follow(answer)
	}
	s.result.Credential = answer.cred
	return nil, nil
}

// askProxy asks the realm that we have come to: for the service, or for the user's TGT to its realm if that is known to be
// another.
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

// checkUser holds the client of a reply against the evidence's. A TGT to another realm may be in our own name, with the
// user inside; the service's ticket is in his.
func (s *S4U2Proxy) checkUser(rep *messages.KDCRep, final bool) error {
	if !final && sameClient(rep, s.cfg.TGT.Client) == nil {
		return nil
	}
	return sameClient(rep, s.cfg.Evidence.Client)
}

// verify refuses what is neither the service's ticket nor a way to it.
func (s *S4U2Proxy) verify(a *tgsAnswer, q *tgsQuestion) error {
	if a.renamed {
		return mismatch("sname", q.service, a.part.SName)
	}
	return nil
}

// follow goes to the realm that a user's TGT is for, by a TGT of our own.
func (s *S4U2Proxy) follow(a *tgsAnswer) (*Request, error) {
	next := a.referral
	failure := &ReferralError{Realm: next, Via: s.via}
	switch {
	case slices.ContainsFunc(s.via, func(r string) bool { return strings.EqualFold(r, next) }):
		failure.Reason = "loop"
		return nil, failure
	case len(s.via) > MaxHops:
		failure.Reason = "too many hops"
		return nil, failure
	}
	s.via, s.evidence = append(s.via, next), a.cred.Ticket
	inner, err := NewTGS(TGSConfig{
		TGT: s.tgt, Service: messages.TGSName(next), ETypes: s.etypes, Options: s.cfg.Options,
		Known: s.cfg.Known, CAPath: s.cfg.CAPath,
	})
	if err != nil {
		return nil, err
	}
	inner.common, s.inner = s.common, inner
	return s.stepInner(nil)
}

func (s *S4U2Proxy) stepInner(reply []byte) (*Request, error) {
	req, err := s.inner.step(reply)
	if err != nil || req != nil {
		return req, err
	}
	r := s.inner.Result()
	s.tgt, s.inner = r.Credential, nil
	s.result.Referrals = append(s.result.Referrals, r.Referrals...)
	return s.askProxy()
}
