package exchange

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

func (a *AS) Check(reply []byte) error {
	if a.open == nil || a.ended {
		return ErrFinished
	}
	_, _, err := a.judge(reply)
	if a.plainer(err) {
		return nil
	}
	return err
}

func (a *AS) Step(reply []byte) (*Request, error) { return a.turn(reply, a.step) }

func (a *AS) step(reply []byte) (*Request, error) {
	if a.open == nil {
		return a.begin()
	}
	answer, krbErr, err := a.judge(reply)
	switch {
	case a.plainer(err):
		return a.askPlainly(reply)
	case err != nil:
		return nil, err
	case krbErr != nil:
		a.note(reply)
		if a.fast && !armored(reply) && krbErr.ErrorCode != messages.KRB_AP_ERR_SKEW {
			return nil, krbErr // it may be forged; a forged time is dropped unless a reply confirms it
		}
		return a.onError(krbErr)
	}
	a.accept(answer)
	return nil, nil
}

// begin builds the first request, with pre-authentication if a hint describes the key.
func (a *AS) begin() (*Request, error) {
	h := a.cfg.Hint
	if h == nil || a.cfg.AskFirst || a.cfg.Budget.Left() <= 0 {
		return a.ask(nil)
	}
	info := KeyInfo{EType: h.EType, Salt: h.Salt, HasSalt: h.HasSalt, Params: h.Params}
	info, key, err := pickKey([]KeyInfo{info}, a.offered, a.cfg.Keys, a.Trace)
	if err != nil {
		return a.ask(nil)
	}
	m, err := unasked(a.mechanisms, h.PAType)
	if err != nil {
		return a.ask(nil)
	}
	a.infos, a.result.Hint = []KeyInfo{info}, h
	return a.ask(&proof{mechanism: m, info: info, key: key, hinted: true})
}

// onError returns the next request after a KRB-ERROR, or the error if it is final.
func (a *AS) onError(e *messages.KRBError) (*Request, error) {
	pre := a.open.proof
	if a.public.answers(e.ErrorCode) {
		return a.onPublicKeyError(e)
	}
	switch e.ErrorCode {
	case messages.KDC_ERR_PREAUTH_REQUIRED:
		return a.onPreAuthRequired(e)
	case messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED:
		return a.onMorePreAuth(e)
	case messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_ETYPE_NOSUPP:
		if pre == nil {
			return nil, e
		}
		a.refused = e
		a.tracef("the KDC refused the key of type %s with salt %q: %s (%d pre-authenticated requests so far)",
			pre.info.EType, pre.info.Salt, e.ErrorCode, a.cfg.Budget.Sent())
		if !pre.hinted {
			return nil, e
		}
		a.traceAgain(a.realm, "type and salt known from an earlier login may have changed")
		return a.ask(nil)
	case messages.KRB_AP_ERR_SKEW:
		if a.cfg.Budget.Left() <= 0 || !a.learnOffset(a.realm, e) {
			return nil, e
		}
		a.armor = nil // its authenticator has the time too
		a.traceAgain(a.realm, "with the KDC's time")
		return a.ask(pre)
	case messages.KDC_ERR_WRONG_REALM:
		return a.onWrongRealm(e)
	default:
		return nil, e
	}
}

// onMorePreAuth continues a mechanism that takes several rounds (RFC 6113, Section 5.2).
func (a *AS) onMorePreAuth(e *messages.KRBError) (*Request, error) {
	if a.open.proof == nil || !a.open.proof.mechanism.rounds { // else the same key would be proved again and again
		return nil, e
	}
	next := *a.open.proof
	offer := e.Data().PAData
	value, ok := offer.Find(next.mechanism.padata)
	if !ok {
		return nil, e
	}
	a.keepCookie(offer)
	next.value, next.said, next.round = value, a.open.said, next.round+1
	return a.ask(&next)
}

// keepCookie keeps the cookie to return to the KDC (RFC 6113, Section 5.2).
func (a *AS) keepCookie(offer messages.MethodData) {
	if cookie, ok := offer.Find(messages.PA_FX_COOKIE); ok {
		a.cookie = cookie
	}
}

// onPreAuthRequired proves the key that the error's METHOD-DATA describes, unless that key was
// refused already. Without a proof left it makes no key: the error may ask for a million iterations.
func (a *AS) onPreAuthRequired(e *messages.KRBError) (*Request, error) {
	offer, infos, named := a.described(e)
	a.keepCookie(offer)
	m, value, err := choose(a.mechanisms, offer)
	if err != nil {
		return nil, err
	}
	if a.public != nil {
		return a.prove(e, m, offer)
	}
	final := e
	if a.refused != nil {
		final = a.refused
	}
	if a.begun++; a.begun > MaxProofs || a.cfg.Budget.Left() <= 0 {
		return nil, final
	}
	a.infos = infos
	info, key, err := pickKey(infos, a.offered, a.cfg.Keys, a.Trace)
	if err != nil {
		return nil, err
	}
	if named {
		a.result.Hint = &PreAuthHint{info.EType, info.Salt, info.HasSalt, info.Params, m.padata}
	}
	if slices.ContainsFunc(a.tried, key.Equal) {
		return nil, final
	}
	if a.refused != nil {
		a.traceAgain(a.realm, "the KDC names another type or salt than before")
	}
	return a.ask(&proof{mechanism: m, value: value, info: info, key: key})
}

// described returns the METHOD-DATA of an error and the keys that it describes; named reports
// whether it names them.
func (a *AS) described(e *messages.KRBError) (offer messages.MethodData, infos []KeyInfo, named bool) {
	data := e.Data()
	offer = data.PAData
	if data.Status != 0 { // PA-PW-SALT then holds no salt
		offer = slices.DeleteFunc(slices.Clone(offer), func(p messages.PAData) bool { return p.Type == messages.PA_PW_SALT })
	}
	infos, named = keyInfos(offer, a.offered, DefaultSalt(messages.Principal{Name: a.cfg.Client.Name, Realm: a.realm}))
	return offer, infos, named
}

// onWrongRealm follows a client referral (RFC 6806, Section 7).
func (a *AS) onWrongRealm(e *messages.KRBError) (*Request, error) {
	next := e.CRealm
	reason := notFollowed(a.via, next)
	switch {
	case a.options&messages.KDC_OPT_CANONICALIZE == 0:
		reason = "the name is not one that may be referred; log in with a user principal name or in that realm"
	case reason == "" && a.fast:
		reason = "the FAST armor is for the realm before; log in with the name that the account has in that realm, and with armor of it"
	}
	if reason != "" {
		return nil, fmt.Errorf("%w: %w", e, &ReferralError{Realm: next, Via: a.via, Reason: reason})
	}
	if a.password() && (a.cfg.Configured == nil || !a.cfg.Configured(next)) {
		return nil, fmt.Errorf("%w: %w", e, &UnconfiguredRealmError{next})
	}
	a.traceClientReferral(a.realm, next)
	a.realm, a.via = next, append(a.via, next)
	a.cookie, a.infos, a.tried = nil, nil, nil // the account is another, its key has not been proved
	return a.ask(nil)
}

// claim is what a KRB-ERROR has the client do on its word: ask another realm, or make a key of a
// password with a salt or with iterations that no login has used.
type claim struct {
	realm string    // of KDC_ERR_WRONG_REALM
	infos []KeyInfo // of KDC_ERR_PREAUTH_REQUIRED
}

func (c *claim) equal(other *claim) bool {
	return other != nil && c.realm == other.realm && slices.EqualFunc(c.infos, other.infos, func(a, b KeyInfo) bool {
		return a.EType == b.EType && a.Salt == b.Salt && a.HasSalt == b.HasSalt && bytes.Equal(a.Params, b.Params)
	})
}

// maxClaims bounds the claims of datagrams that are asked about again in one exchange. It matters
// only for a realm without a KDC that speaks TCP.
const maxClaims = 4

// StepUDP is Step for a reply that came over UDP. A KRB-ERROR is not authenticated, and anyone can
// forge a datagram (RFC 4120, Section 10), so what it claims is not followed at once: a request
// without pre-authentication, and all that follow, ask to be sent over TCP. If they are sent over
// UDP nevertheless, because no KDC speaks TCP, a claim is followed after the reply to
// another request has made it too.
func (a *AS) StepUDP(reply []byte) (*Request, error) {
	return a.turn(reply, func(reply []byte) (*Request, error) {
		if a.open == nil || messages.TypeOf(reply) != messages.KRB_ERROR {
			return a.step(reply)
		}
		_, krbErr, err := a.judge(reply)
		if err != nil {
			return nil, err
		}
		before := a.claim
		a.claim = a.claimOf(krbErr)
		switch {
		case a.claim == nil:
			return a.step(reply)
		case !a.claim.equal(before):
			return a.confirm(krbErr)
		}
		if err := a.affordClaim(); err != nil {
			return nil, fmt.Errorf("%w: %w", krbErr, err)
		}
		return a.step(reply)
	})
}

// confirm asks again as a new login does. A refusal that came before, over UDP, counts no longer:
// it may be forged too.
func (a *AS) confirm(e *messages.KRBError) (*Request, error) {
	if a.claims++; a.claims > maxClaims {
		return nil, fmt.Errorf("%w: each reply over UDP names another realm, salt or iteration count, so they may be forged; "+
			"let the KDC be asked over TCP", e)
	}
	a.tcp = true
	a.cookie, a.tried, a.refused = nil, nil, nil
	a.traceAgain(a.realm, "a datagram names a realm, salt or iteration count that is to be confirmed over TCP")
	return a.ask(nil)
}

// affordClaim counts the iterations of the key that a claim leads to. That two datagrams make it
// does not rule out that both are forged.
func (a *AS) affordClaim() error {
	for _, info := range a.claim.infos {
		if _, err := enctype.Iterations(info.EType, info.Params); err == nil && slices.Contains(a.offered, info.EType) {
			return a.afford(info)
		}
	}
	return nil
}

// claimOf returns what is to be confirmed of an error that came in a datagram, nil for nothing.
func (a *AS) claimOf(e *messages.KRBError) *claim {
	switch {
	case a.fast: // an error without armor is not followed, and one with armor is authenticated
	case e.ErrorCode == messages.KDC_ERR_WRONG_REALM && a.options&messages.KDC_OPT_CANONICALIZE != 0:
		return &claim{realm: e.CRealm}
	case e.ErrorCode == messages.KDC_ERR_PREAUTH_REQUIRED && a.password():
		_, infos, _ := a.described(e)
		allowed := func(i KeyInfo) bool { return slices.Contains(a.offered, i.EType) }
		if slices.ContainsFunc(infos, func(i KeyInfo) bool { return allowed(i) && !a.usual(i) }) {
			return &claim{infos: infos}
		}
	}
	return nil
}

// usual reports whether a key has the salt of the last login, or the default salt if there was
// none, and no more iterations than that or the type's default.
func (a *AS) usual(info KeyInfo) bool {
	last := PreAuthHint{Salt: DefaultSalt(messages.Principal{Name: a.cfg.Client.Name, Realm: a.realm})}
	if h := a.cfg.Hint; h != nil {
		last = *h
	}
	if info.Salt != last.Salt {
		return false
	}
	if last.EType == info.EType && bytes.Equal(last.Params, info.Params) {
		return true
	}
	most, err := enctype.Iterations(info.EType, nil)
	if err != nil {
		return true // of a type that has no key
	}
	n, err := enctype.Iterations(info.EType, info.Params)
	return err != nil || n <= most // what is out of bounds makes no key
}

// password reports whether keys are made of a password, so that salt, iterations and realm matter.
func (a *AS) password() bool { return a.cfg.Keys != nil && a.cfg.Keys.ETypes() == nil }
