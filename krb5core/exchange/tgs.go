package exchange

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TGSConfig says which ticket to get.
type TGSConfig struct {
	Session

	// Service is the service of the ticket: krbtgt/REALM of a foreign realm for a TGT for it,
	// krbtgt of the TGT's own realm with KDC_OPT_FORWARDED for a TGT to forward. Zero with Renew:
	// the TGT's own. KDCs refer only for names of type KRB_NT_SRV_HST or KRB_NT_SRV_INST (MIT).
	Service messages.PrincipalName
	Realm   string // the service's realm, "" if unknown: our own KDC is asked and referrals are followed

	Options messages.KDCOptions
	Renew   bool // renew the TGT instead; it must be renewable and not have ended
}

// TGS is the machine of the Ticket-Granting Service exchange (RFC 4120, Section 3.3): with a TGT it
// gets a ticket for a service in our realm or another.
//
// It reaches a named realm by TGTs, requesting the farthest realm first, and nearer ones of the
// path if the KDC does not know that. The service is requested with the option canonicalize, and
// referrals are followed (RFC 6806, Section 8). As MIT's client does, it falls back once to a
// request without that option: if the first request fails with KDC_ERR_S_PRINCIPAL_UNKNOWN or
// KDC_ERR_BADOPTION (a KDC that knows no referrals), if the answer is for another service (old
// versions of Active Directory), or if it is a referral to the realm just asked.
type TGS struct {
	tgsCore
	cfg     TGSConfig
	route   route
	goal    string // realm whose TGT is still needed, "" if the service itself can be requested
	plain   bool   // the request without canonicalize was sent
	started bool
	result  TGSResult
}

// NewTGS prepares an exchange. It fails if the TGT cannot serve for it.
func NewTGS(cfg TGSConfig) (*TGS, error) {
	if err := checkTGT(cfg.TGT); err != nil {
		return nil, err
	}
	t := &TGS{
		tgsCore: tgsCore{common: newCommon(cfg.Env)},
		cfg:     cfg,
		route:   newRoute(cfg.TGT, cfg.Known, cfg.CAPath),
	}
	t.fast = cfg.FAST
	if cfg.Renew {
		return t, t.prepareRenewal()
	}
	if len(cfg.Service.NameString) == 0 {
		return nil, errors.New("no service to get a ticket for")
	}
	if cfg.Options&messages.KDC_OPT_FORWARDED != 0 && cfg.TGT.Flags&messages.TKT_FLG_FORWARDABLE == 0 {
		return nil, fmt.Errorf("%s cannot be forwarded: it was got without the option forwardable, or the KDC does not allow it", cfg.TGT)
	}
	own := tgtRealm(cfg.TGT)
	if realm, ok := cfg.Service.IsTGS(); ok && realm != own {
		t.goal = realm
	} else if !strings.EqualFold(cfg.Realm, own) {
		t.goal = cfg.Realm
	}
	return t, nil
}

func (t *TGS) prepareRenewal() error {
	if t.cfg.TGT.Flags&messages.TKT_FLG_RENEWABLE == 0 {
		return fmt.Errorf("%s is not renewable", t.cfg.TGT)
	}
	t.cfg.Service = t.cfg.TGT.Service.Name
	t.cfg.Options |= messages.KDC_OPT_RENEW | messages.KDC_OPT_RENEWABLE
	return nil
}

// Result returns the state so far, also after a failure.
func (t *TGS) Result() *TGSResult {
	r := t.result
	r.Referrals = t.route.got
	return t.learnt(r)
}

func (t *TGS) Step(reply []byte) (*Request, error) { return t.turn(reply, t.step) }

func (t *TGS) step(reply []byte) (*Request, error) {
	if !t.started {
		t.started = true
		if t.goal != "" {
			t.route.start(t.goal)
			return t.next()
		}
		return t.askService()
	}
	return t.onAnswer(reply, t.onReply, t.onError)
}

// next requests a TGT on the way to the goal, or the service if the goal is reached.
func (t *TGS) next() (*Request, error) {
	if !strings.EqualFold(t.route.realm(), t.goal) {
		spec := t.spec(messages.TGSName(t.route.aim()), t.cfg.Options&^messages.KDC_OPT_FORWARDED)
		spec.onward = true
		return t.ask(spec)
	}
	if realm, ok := t.cfg.Service.IsTGS(); ok && realm == t.goal {
		t.result.Credential = t.route.tgt
		return nil, nil
	}
	t.goal = ""
	return t.askService()
}

func (t *TGS) askService() (*Request, error) {
	options := t.cfg.Options
	if _, isTGS := t.cfg.Service.IsTGS(); !isTGS && !t.plain {
		options |= messages.KDC_OPT_CANONICALIZE
	}
	return t.ask(t.spec(t.cfg.Service, options))
}

func (t *TGS) spec(service messages.PrincipalName, options messages.KDCOptions) tgsSpec {
	return tgsSpec{
		tgt: t.route.tgt, service: service, options: options,
		till: tgsTill(t.now(), t.cfg.Lifetime, t.cfg.TGT, t.cfg.Renew), rtime: t.cfg.TGT.RenewTill,
	}
}

func (t *TGS) onReply(a *tgsReply) (*Request, error) {
	switch {
	case t.goal != "":
		if err := t.route.hop(a.cred, a.referral); err != nil {
			return nil, err
		}
		return t.next()
	case a.renamed:
		return t.askPlain(fmt.Sprintf("the answer was for another service, %s", a.cred.Service))
	case a.referral == t.route.realm():
		return t.askPlain("it referred to itself")
	case a.referral != "":
		if err := t.route.hop(a.cred, a.referral); err != nil {
			return nil, err
		}
		return t.askService()
	}
	t.result.Credential = a.cred
	return nil, nil
}

func (t *TGS) onError(e *messages.KRBError) (*Request, error) {
	code := e.ErrorCode
	switch {
	case code == messages.KRB_AP_ERR_SKEW:
		return t.retrySkew(e)
	case t.goal != "":
		if code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN && t.route.nearer() {
			return t.next()
		}
		return nil, e
	case t.open.options&messages.KDC_OPT_CANONICALIZE == 0 || len(t.route.referred) > 0:
		return nil, e
	case code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, code == messages.KDC_ERR_BADOPTION:
		return t.askPlain("it may know no referrals: " + code.String())
	}
	return nil, e
}

func (t *TGS) askPlain(reason string) (*Request, error) {
	t.plain = true
	t.traceAgain(t.route.realm(), "without canonicalize: "+reason)
	return t.askService()
}
