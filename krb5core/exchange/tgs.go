package exchange

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TGSConfig says which ticket to get, and with which.
type TGSConfig struct {
	TGT *messages.Credential

	// Service is what the ticket is for. krbtgt/REALM of a foreign realm gets a TGT for it, krbtgt of the TGT's own realm
	// with KDC_OPT_FORWARDED a TGT to forward. Zero with Renew: the TGT's own. KDCs refer only for names of type
	// KRB_NT_SRV_HST or KRB_NT_SRV_INST (MIT).
	Service messages.PrincipalName
	Realm   string // the service's realm, "" if unknown: our own KDC is asked and referrals are followed

	ETypes   []enctype.ID // allowed types of the session key in order of preference, nil for enctype.Strong
	Options  messages.KDCOptions
	Lifetime time.Duration // 0 for as long as the TGT
	Renew    bool          // renew the TGT instead; it must be renewable and not have ended

	// FAST armors the requests with the TGT that they bear (RFC 6113 5.4.1.1). The KDCs of the client's own realm must
	// then answer with armor; those of other realms may not know it, and their tickets are accepted without.
	FAST bool

	// Known returns the TGT for a foreign realm that is held already, or nil.
	Known func(realm string) *messages.Credential
	// CAPath returns the realms between client and server ([capaths]); nil if nothing is configured for the two, empty if
	// they trust each other directly. A configured path is the only one that is taken to a realm that is named.
	CAPath func(client, server string) []string

	Now     func() time.Time // the realm's time as far as known; nil for time.Now
	Rand    io.Reader        // nil for crypto/rand
	MaxSkew time.Duration    // 0 for DefaultMaxSkew
	Trace   func(Event)      // called for each decision; nil for none
}

// TGSResult is what a TGS exchange has shown so far.
type TGSResult struct {
	Credential *messages.Credential   // nil until the exchange is done
	Referrals  []*messages.Credential // TGTs for other realms, won on the way from the KDC of the realm that they are of

	// Realm is whose KDC was asked last, empty if none was. The realm in a ticket's service is only what that one says.
	Realm string

	// Offset is to be added to what Now said to get the time of the KDC of OffsetRealm, 0 if nothing was learnt. Unless
	// OffsetConfirmed, it comes from a KRB-ERROR that anybody can have forged.
	Offset          time.Duration
	OffsetConfirmed bool
	OffsetRealm     string
}

// TGS is the machine of the Ticket-Granting Service exchange (RFC 4120 3.3): with a TGT it gets a ticket for a service in
// our realm or another.
//
// To a realm that is named it goes by TGTs, asking for the farthest realm first, and nearer ones of the path if that is
// unknown. The service is asked for with the option canonicalize, and referrals are followed (RFC 6806 8). As MIT's
// client does, it falls back once to a request without that option: if the first request fails with
// KDC_ERR_S_PRINCIPAL_UNKNOWN or KDC_ERR_BADOPTION (a KDC that knows no referrals), if the answer is for another service
// (old versions of Active Directory), or if it is a referral to the realm just asked.
type TGS struct {
	tgsCore
	cfg     TGSConfig
	route   route
	goal    string // realm whose TGT is still wanted, "" if the service itself can be asked for
	plain   bool   // the request without canonicalize was made
	started bool
	result  TGSResult
}

// NewTGS prepares an exchange. It fails if the TGT cannot serve for it.
func NewTGS(cfg TGSConfig) (*TGS, error) {
	if err := checkTGT(cfg.TGT); err != nil {
		return nil, err
	}
	t := &TGS{
		tgsCore: tgsCore{common: newCommon(cfg.ETypes, cfg.Now, cfg.Rand, cfg.MaxSkew, cfg.Trace)},
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

// Result is what is known so far, also after a failure.
func (t *TGS) Result() *TGSResult {
	r := t.result
	r.Referrals = t.route.won
	return t.learnt(r)
}

// Step implements Machine.
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
	answer, krbErr, err := t.judge(reply)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil:
		return t.onError(krbErr)
	}
	t.take(answer)
	return t.onAnswer(answer)
}

// next asks for a TGT on the way to the goal, or for the service if the goal is reached.
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

// tgsTill is the end to ask for: the TGT's, or earlier. A renewed ticket lasts as long as the old one did, whatever is asked.
func tgsTill(now time.Time, lifetime time.Duration, tgt *messages.Credential, renew bool) time.Time {
	switch {
	case renew || tgt.EndTime.IsZero() && lifetime == 0:
		return till(now, 0)
	case lifetime == 0 || !tgt.EndTime.IsZero() && now.Add(lifetime).After(tgt.EndTime):
		return tgt.EndTime
	}
	return now.Add(lifetime)
}

func (t *TGS) onAnswer(a *tgsAnswer) (*Request, error) {
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
	t.trace(AskedAgain{t.route.realm(), "without canonicalize: " + reason})
	return t.askService()
}
