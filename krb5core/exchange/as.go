package exchange

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// maxPreAuth bounds the pre-authenticated requests of one exchange, whatever the answers: one, one more after a clock
// offset was learnt, one more after salt or type have changed.
const maxPreAuth = 3

// ASConfig says what to log in as and for.
type ASConfig struct {
	Client  messages.Principal     // its Realm is asked first
	Service messages.PrincipalName // zero for the TGT of the realm asked

	// Canonicalize lets the KDC correct the client's name and refer to another realm (RFC 6806). It is implied by a name
	// of type KRB_NT_ENTERPRISE.
	Canonicalize bool

	ETypes        []enctype.ID // allowed types in order of preference, nil for enctype.Strong
	Keys          KeySource
	Options       messages.KDCOptions
	Lifetime      time.Duration // 0 for as long as the KDC gives
	RenewLifetime time.Duration // 0 for a ticket that need not be renewable
	PAC           *bool         // PA-PAC-REQUEST ([MS-KILE] 2.2.3); nil sends none, the KDC decides

	// MaxPreAuth bounds the pre-authenticated requests further than the exchange does by itself, each of which may count
	// towards lockout; 0 for no further bound.
	MaxPreAuth int

	// Hint is the type and salt of an earlier login. With it the first request is pre-authenticated at once.
	Hint *PreAuthHint

	// Armor is a TGT of the client's realm, of whatever client, to protect the exchange with (FAST, RFC 6113 5.4). With it
	// nothing is sent or believed without. Nil for none.
	Armor *messages.Credential

	Now     func() time.Time // the realm's time as far as known; nil for time.Now
	Rand    io.Reader        // nil for crypto/rand
	MaxSkew time.Duration    // 0 for DefaultMaxSkew
	Trace   func(Event)      // called for each decision; nil for none
}

// PreAuthHint is what a KDC said about the client's key. It holds no secret.
type PreAuthHint struct {
	EType   enctype.ID
	Salt    string
	HasSalt bool   // the KDC named the salt
	Params  []byte // string-to-key parameters, nil for the type's default

	// PAType is how the key was proved, 0 if that is not known.
	PAType messages.PADataType
}

// ASResult is what an AS exchange has shown so far.
type ASResult struct {
	Credential *messages.Credential // nil until the exchange is done
	Hint       *PreAuthHint         // the type and salt that the KDC named last, nil if it named none

	// Offset is to be added to what Now said to get the KDC's time, 0 if the clocks agree within MaxSkew. Unless
	// OffsetConfirmed, it comes from a KRB-ERROR that anybody can have forged.
	Offset          time.Duration
	OffsetConfirmed bool

	KeyExpiration   time.Time // when the client's key or account expires, zero if the KDC does not say
	LastReq         messages.LastReq
	PreAuthRequests int // requests that carried proof of a key
}

// AS is the machine of the Authentication Service exchange (RFC 4120 3.1), by which a client logs in.
//
// The first request is bare, and the KDC's KDC_ERR_PREAUTH_REQUIRED names type and salt, unless a hint makes that round
// trip needless. No key is proved twice in one exchange, but for one repetition after KRB_AP_ERR_SKEW, which is no verdict
// on the key. If a hint led to KDC_ERR_PREAUTH_FAILED, one bare request asks for type and salt again, and only if that
// yields another key there is another try.
type AS struct {
	*common
	cfg        ASConfig
	options    messages.KDCOptions
	offered    []enctype.ID // types in the request: those with keys come first
	mechanisms []mechanism  // of pre-authentication, in order of preference
	armor      *armor       // nil if there is none, or if it has to be made

	realm   string   // asked now
	via     []string // realms asked
	cookie  []byte   // PA-FX-COOKIE to be echoed
	infos   []KeyInfo
	tried   []enctype.Key
	begun   int                // conversations about a key
	refused *messages.KRBError // the last verdict on a key

	iterations atomic.Int64 // spent on keys that only replies have named; Check may be called by several goroutines

	open   *asQuestion // nil before the first Step
	result ASResult
}

// NewAS prepares an exchange. It fails if the configuration cannot lead to a login.
func NewAS(cfg ASConfig) (*AS, error) {
	switch {
	case len(cfg.Client.Name.NameString) == 0 || cfg.Client.Realm == "":
		return nil, fmt.Errorf("logging in as %q: a client needs a name and a realm", cfg.Client)
	case cfg.Keys == nil:
		return nil, fmt.Errorf("logging in as %s: no key source", cfg.Client)
	case cfg.Armor != nil && checkTGT(cfg.Armor) != nil:
		return nil, fmt.Errorf("logging in as %s: FAST armor: %w", cfg.Client, checkTGT(cfg.Armor))
	case cfg.Armor != nil && tgtRealm(cfg.Armor) != cfg.Client.Realm:
		return nil, fmt.Errorf("logging in as %s: FAST armor: %s is for another realm", cfg.Client, cfg.Armor.Service)
	}
	a := &AS{
		common:     newCommon(cfg.ETypes, cfg.Now, cfg.Rand, cfg.MaxSkew, cfg.Trace),
		cfg:        cfg,
		options:    cfg.Options,
		mechanisms: mechanisms(cfg.Armor != nil),
		realm:      cfg.Client.Realm,
		via:        []string{cfg.Client.Realm},
	}
	if cfg.MaxPreAuth <= 0 || cfg.MaxPreAuth > maxPreAuth {
		a.cfg.MaxPreAuth = maxPreAuth
	}
	a.fast = cfg.Armor != nil
	if cfg.Canonicalize || cfg.Client.Name.NameType == messages.KRB_NT_ENTERPRISE {
		a.options |= messages.KDC_OPT_CANONICALIZE
	}
	if cfg.RenewLifetime > 0 {
		a.options |= messages.KDC_OPT_RENEWABLE
	}
	held := cfg.Keys.ETypes()
	if held == nil {
		a.offered = a.etypes
		return a, nil
	}
	// The KDC takes the first type of the list for which it has a key, so those for which we have one come first.
	other := func(id enctype.ID) bool { return !slices.Contains(held, id) }
	a.offered = slices.DeleteFunc(slices.Clone(a.etypes), other)
	if len(a.offered) == 0 {
		return nil, fmt.Errorf("logging in as %s: %w of an allowed type: held are %v, allowed %v", cfg.Client, ErrNoKey, held, a.etypes)
	}
	for _, id := range a.etypes {
		if other(id) {
			a.offered = append(a.offered, id)
		}
	}
	return a, nil
}

// Result is what is known so far, also after a failure.
func (a *AS) Result() *ASResult {
	r := a.result
	r.Offset, r.OffsetConfirmed = a.offset, a.confirmed
	return &r
}

// Check implements Machine.
func (a *AS) Check(reply []byte) error {
	if a.open == nil || a.ended {
		return ErrFinished
	}
	_, _, err := a.judge(reply)
	return err
}

// Step implements Machine.
func (a *AS) Step(reply []byte) (*Request, error) { return a.turn(reply, a.step) }

func (a *AS) step(reply []byte) (*Request, error) {
	if a.open == nil {
		return a.begin()
	}
	answer, krbErr, err := a.judge(reply)
	switch {
	case err != nil:
		return nil, err
	case krbErr != nil && a.fast && !armored(reply):
		a.note(reply)
		return a.onHint(krbErr)
	case krbErr != nil:
		a.note(reply)
		return a.onError(krbErr)
	}
	a.accept(answer)
	return nil, nil
}

// begin makes the first request, pre-authenticated if a hint tells how.
func (a *AS) begin() (*Request, error) {
	h := a.cfg.Hint
	if h == nil {
		return a.ask(nil)
	}
	info := KeyInfo{EType: h.EType, Salt: h.Salt, HasSalt: h.HasSalt, Params: h.Params}
	info, key, err := pickKey([]KeyInfo{info}, a.offered, a.cfg.Keys, a.trace)
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

// onError acts on a KRB-ERROR: with the next request, or with the error if it is final.
func (a *AS) onError(e *messages.KRBError) (*Request, error) {
	pre := a.open.proof
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
		a.trace(CredentialsRefused{pre.info.EType, pre.info.Salt, e.ErrorCode, a.result.PreAuthRequests})
		if !pre.hinted {
			return nil, e
		}
		a.trace(AskedAgain{a.realm, "type and salt known from an earlier login may have changed"})
		return a.ask(nil)
	case messages.KRB_AP_ERR_SKEW:
		if a.result.PreAuthRequests >= a.cfg.MaxPreAuth || !a.learnOffset(a.realm, e) {
			return nil, e
		}
		a.armor = nil // its authenticator bears the time too
		a.trace(AskedAgain{a.realm, "with the KDC's time"})
		return a.ask(pre)
	case messages.KDC_ERR_WRONG_REALM:
		return a.onWrongRealm(e)
	default:
		return nil, e
	}
}

// onHint acts on a KRB-ERROR without the armor that the request had. The KDC's time may be believed on trial; for the rest
// it ends the exchange.
func (a *AS) onHint(e *messages.KRBError) (*Request, error) {
	if e.ErrorCode == messages.KRB_AP_ERR_SKEW {
		return a.onError(e)
	}
	return nil, e
}

// onMorePreAuth goes on with a mechanism that takes several rounds (RFC 6113 5.2).
func (a *AS) onMorePreAuth(e *messages.KRBError) (*Request, error) {
	if a.open.proof == nil || !a.open.proof.mechanism.rounds { // else the same key would be proved on and on
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

// keepCookie keeps what the KDC wants to have back (RFC 6113 5.2).
func (a *AS) keepCookie(offer messages.MethodData) {
	if cookie, ok := offer.Find(messages.PA_FX_COOKIE); ok {
		a.cookie = cookie
	}
}

// onPreAuthRequired proves the key that the error's METHOD-DATA describes, unless that very key was refused already.
func (a *AS) onPreAuthRequired(e *messages.KRBError) (*Request, error) {
	data := e.Data()
	offer := data.PAData
	if data.Status != 0 { // what stands in PA-PW-SALT is no salt
		offer = slices.DeleteFunc(slices.Clone(offer), func(p messages.PAData) bool { return p.Type == messages.PA_PW_SALT })
	}
	a.keepCookie(offer)
	m, value, err := choose(a.mechanisms, offer)
	if err != nil {
		return nil, err
	}
	infos, named := keyInfos(offer, a.offered, defaultSalt(messages.Principal{Name: a.cfg.Client.Name, Realm: a.realm}))
	a.infos = infos
	info, key, err := pickKey(infos, a.offered, a.cfg.Keys, a.trace)
	if err != nil {
		return nil, err
	}
	if named {
		a.result.Hint = &PreAuthHint{info.EType, info.Salt, info.HasSalt, info.Params, m.padata}
	}
	a.begun++
	if a.begun > maxPreAuth || a.result.PreAuthRequests >= a.cfg.MaxPreAuth || slices.ContainsFunc(a.tried, key.Equal) {
		if a.refused != nil {
			return nil, a.refused
		}
		return nil, e
	}
	if a.refused != nil {
		a.trace(AskedAgain{a.realm, "the KDC names another type or salt than before"})
	}
	return a.ask(&proof{mechanism: m, value: value, info: info, key: key})
}

// onWrongRealm follows a client referral (RFC 6806 7).
func (a *AS) onWrongRealm(e *messages.KRBError) (*Request, error) {
	next := e.CRealm
	failure := &ReferralError{Realm: next, Via: a.via}
	switch {
	case a.options&messages.KDC_OPT_CANONICALIZE == 0:
		failure.Reason = "the name is not one that may be referred; log in with a user principal name or in that realm"
	case next == "":
		failure.Reason = "the KDC names no realm"
	case slices.ContainsFunc(a.via, func(r string) bool { return strings.EqualFold(r, next) }):
		failure.Reason = "loop"
	case len(a.via) > MaxHops:
		failure.Reason = "too many hops"
	case a.fast:
		failure.Reason = "the FAST armor is for the realm before; log in with the name that the account has in that realm, and with armor of it"
	default:
		a.trace(ClientReferral{a.realm, next})
		a.realm, a.via = next, append(a.via, next)
		a.cookie, a.infos, a.tried = nil, nil, nil // no verdict on a key: the account is another
		return a.ask(nil)
	}
	return nil, fmt.Errorf("%w: %w", e, failure)
}
