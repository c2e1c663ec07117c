package exchange

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// ASConfig says what to log in as.
type ASConfig struct {
	Env
	Client messages.Principal // its Realm is asked first

	// Service is what the ticket is for, in the realm that is asked last; zero for a ticket-granting
	// ticket. Services that ask for a login, such as kadmin/changepw, accept no ticket of another kind.
	Service messages.PrincipalName

	// Canonicalize lets the KDC correct the client's name and refer to another realm (RFC 6806). It
	// is implied by a name of type KRB_NT_ENTERPRISE.
	Canonicalize bool

	Keys    KeySource
	PKINIT  *PKINIT // in place of Keys, nil without
	Options messages.KDCOptions
	Budget  *Budget // of proofs of the key; nil for MaxProofs

	// Hint is the type and salt of the last login that succeeded, nil for the default salt. Unless
	// AskFirst, the first request then already carries pre-authentication.
	Hint     *PreAuthHint
	AskFirst bool

	// Configured reports whether the configuration names a realm. A KDC may refer a client with a
	// password to such a realm only; nil for none.
	Configured func(realm string) bool

	// Armor is a TGT of the client's realm, of any client, that protects the exchange (FAST, RFC
	// 6113, Section 5.4). With armor, nothing is sent or believed without it. Nil for none.
	Armor *messages.Credential
}

// PreAuthHint is a KDC's description of the client's key. It holds no secret.
type PreAuthHint struct {
	EType   enctype.ID
	Salt    string
	HasSalt bool   // the KDC named the salt
	Params  []byte // string-to-key parameters, nil for the type's default

	// PAType is the mechanism that proved the key, 0 if unknown.
	PAType messages.PADataType
}

// ASResult is the state of an AS exchange.
type ASResult struct {
	Credential *messages.Credential // nil until the exchange is done
	Hint       *PreAuthHint         // the type and salt that the KDC named last, nil if it named none
	KVNO       uint32               // version of the key that encrypts the reply, 0 if the KDC named none

	// Realm is the realm whose KDC was asked last: the client's, or the one that it referred to.
	Realm string

	// Offset is the clock of OffsetRealm's KDC minus Now, 0 if the clocks agree within MaxSkew.
	// Unless OffsetConfirmed, it comes from a KRB-ERROR, which may be forged.
	Offset          time.Duration
	OffsetConfirmed bool
	OffsetRealm     string
}

// AS is the machine of the Authentication Service exchange (RFC 4120, Section 3.1), by which a
// client logs in.
//
// The first request carries no pre-authentication, and the KDC's KDC_ERR_PREAUTH_REQUIRED names
// type and salt, unless a hint has them already. No key is proved twice in one exchange, except
// once after KRB_AP_ERR_SKEW, which does not refuse the key, and once more over TCP (see StepUDP).
// If a hint led to KDC_ERR_PREAUTH_FAILED, a request without pre-authentication asks for type and
// salt again, and only another key is then proved.
type AS struct {
	*common
	cfg        ASConfig
	options    messages.KDCOptions
	offered    []enctype.ID // types in the request: those with keys come first
	mechanisms []mechanism  // of pre-authentication, in order of preference
	armor      *armor       // nil if there is none, or if it has to be made
	public     *publicKey   // nil without PKINIT

	realm   string   // asked now
	via     []string // realms asked
	cookie  []byte   // PA-FX-COOKIE to be echoed
	infos   []KeyInfo
	tried   []enctype.Key
	begun   int                // conversations about a key
	refused *messages.KRBError // the last refusal of a key

	tcp    bool   // a datagram's claim is or was confirmed: what follows is sent over TCP
	claim  *claim // of the last datagram, nil if it made none
	claims int    // claims that were not followed

	iterations atomic.Int64 // spent on keys that only replies describe; Check may be called concurrently

	open   *asRequest // nil before the first Step
	result ASResult
}

// NewAS prepares an exchange. It fails if the configuration cannot lead to a login.
func NewAS(cfg ASConfig) (*AS, error) {
	switch {
	case len(cfg.Client.Name.NameString) == 0 || cfg.Client.Realm == "":
		return nil, fmt.Errorf("logging in as %q: a client needs a name and a realm", cfg.Client)
	case cfg.Keys == nil && cfg.PKINIT == nil:
		return nil, fmt.Errorf("logging in as %s: no key source", cfg.Client)
	case cfg.Armor != nil && checkTGT(cfg.Armor) != nil:
		return nil, fmt.Errorf("logging in as %s: FAST armor: %w", cfg.Client, checkTGT(cfg.Armor))
	case cfg.Armor != nil && tgtRealm(cfg.Armor) != cfg.Client.Realm:
		return nil, fmt.Errorf("logging in as %s: FAST armor: %s is for another realm", cfg.Client, cfg.Armor.Service)
	}
	a := &AS{
		common:     newCommon(cfg.Env),
		cfg:        cfg,
		options:    cfg.Options,
		mechanisms: mechanisms(cfg.Armor != nil),
		realm:      cfg.Client.Realm,
		via:        []string{cfg.Client.Realm},
	}
	if cfg.Budget == nil {
		a.cfg.Budget = NewBudget(MaxProofs)
	}
	a.fast = cfg.Armor != nil
	if cfg.Canonicalize || cfg.Client.Name.NameType == messages.KRB_NT_ENTERPRISE {
		a.options |= messages.KDC_OPT_CANONICALIZE
	}
	if cfg.PKINIT != nil {
		a.usePublicKey()
		return a, nil
	}
	held := cfg.Keys.ETypes()
	if held == nil {
		a.offered = a.ETypes
		return a, nil
	}
	// The KDC uses the first type in the list for which it has a key, so those that the source
	// holds come first.
	other := func(id enctype.ID) bool { return !slices.Contains(held, id) }
	a.offered = slices.DeleteFunc(slices.Clone(a.ETypes), other)
	if len(a.offered) == 0 {
		return nil, fmt.Errorf("logging in as %s: %w of an allowed type: held are %v, allowed %v", cfg.Client, ErrNoKey, held, a.ETypes)
	}
	for _, id := range a.ETypes {
		if other(id) {
			a.offered = append(a.offered, id)
		}
	}
	return a, nil
}

// service is what the ticket is for.
func (a *AS) service() messages.PrincipalName {
	if a.cfg.Service.IsZero() {
		return messages.TGSName(a.realm)
	}
	return a.cfg.Service
}

// Result returns the state so far, also after a failure.
func (a *AS) Result() *ASResult {
	r := a.result
	r.Realm, r.Offset, r.OffsetConfirmed, r.OffsetRealm = a.realm, a.offset, a.confirmed, a.offsetRealm
	return &r
}

type asRequest struct {
	nonce   uint32
	message []byte // as sent: PA-REQ-ENC-PA-REP covers it
	sent    time.Time
	proof   *proof // nil in a request without pre-authentication
	armor   *armor // nil without

	said     []byte      // what the mechanism sent, if the KDC may challenge again
	replyKey enctype.Key // derived by the mechanism, zero for the client's

	agreement *pkinit.KeyPair // of PKINIT, nil without
}

// proof is a key and how it is proved.
type proof struct {
	mechanism mechanism
	value     []byte
	info      KeyInfo
	key       enctype.Key
	hinted    bool
	said      []byte // what the KDC's value replies to
	round     int
}

// ask builds an AS-REQ, with a proof or without, with armor or without.
func (a *AS) ask(pre *proof) (*Request, error) {
	nonce, err := a.nonce()
	if err != nil {
		return nil, err
	}
	now := a.now()
	body := messages.KDCReqBody{
		KDCOptions: a.options,
		CName:      a.cfg.Client.Name,
		Realm:      a.realm,
		SName:      a.service(),
		Till:       till(now, a.cfg.Lifetime),
		Nonce:      nonce,
		EType:      a.offered,
	}
	body.Raw = body.Marshal()
	if a.fast && a.armor == nil {
		if a.armor, err = newArmor(a.cfg.Armor, now, a.Rand); err != nil {
			return nil, err
		}
	}
	said, err := a.say(pre, body, now)
	if err != nil {
		return nil, err
	}
	req := messages.KDCReq{MsgType: messages.KRB_AS_REQ, PAData: a.padata(said.padata), Body: body}
	if a.fast {
		if req, err = a.armored(req); err != nil {
			return nil, err
		}
	}
	a.open = &asRequest{
		nonce: nonce, message: req.Marshal(), sent: a.Now(), proof: pre, armor: a.armor,
		said: said.said, replyKey: said.replyKey, agreement: said.agreement,
	}
	return &Request{Realm: a.realm, Message: a.open.message, PreAuth: said.proves, TCP: a.tcp}, nil
}

// armored wraps a request into an outer one that shows client, service and options (RFC 6113,
// Section 5.4.2). Like MIT's client, it leaves the outer nonce zero: the inner one counts.
func (a *AS) armored(req messages.KDCReq) (messages.KDCReq, error) {
	outer := req.Body
	outer.Nonce, outer.Raw = 0, nil
	outer.Raw = outer.Marshal()
	fast, err := a.armor.wrap(a.Rand, &messages.KrbFastReq{PAData: req.PAData, ReqBody: req.Body}, outer.Raw)
	if err != nil {
		return messages.KDCReq{}, err
	}
	return messages.KDCReq{MsgType: req.MsgType, PAData: messages.MethodData{fast}, Body: outer}, nil
}

// say lets the mechanism respond to the KDC's last message.
func (a *AS) say(pre *proof, body messages.KDCReqBody, now time.Time) (response, error) {
	if pre == nil {
		return response{padata: a.public.hello()}, nil
	}
	c := challenge{key: pre.key, value: pre.value, said: pre.said, round: pre.round, body: body.Raw, nonce: body.Nonce, now: now, rand: a.Rand}
	if a.armor != nil {
		c.armor = a.armor.key
	}
	said, err := pre.mechanism.respond(c)
	if err != nil {
		return response{}, err
	}
	switch {
	case a.public != nil:
		a.Trace(a.public.chosen())
	case pre.round == 0:
		a.Trace(KeyChosen{pre.info.EType, pre.info.Salt, pre.info.HasSalt, pre.hinted})
	}
	if said.proves {
		a.cfg.Budget.spend()
		a.tried = append(a.tried, pre.key)
	}
	return said, nil
}

func (a *AS) padata(said messages.MethodData) messages.MethodData {
	var padata messages.MethodData
	if a.cookie != nil {
		padata = append(padata, messages.PAData{Type: messages.PA_FX_COOKIE, Value: a.cookie})
	}
	padata = append(padata, said...)
	return append(padata, messages.PAData{Type: messages.PA_REQ_ENC_PA_REP})
}
