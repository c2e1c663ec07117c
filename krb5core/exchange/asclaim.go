package exchange

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

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
// UDP nevertheless, for want of a KDC that speaks TCP, a claim is followed after the reply to
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
