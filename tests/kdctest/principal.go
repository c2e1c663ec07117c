package kdctest

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Flags are the properties of an account that affect a KDC.
type Flags uint32

// The flags of an account, with Windows' names in brackets.
const (
	// NoPreAuth lets the account log in without proof (DONT_REQ_PREAUTH).
	NoPreAuth Flags = 1 << iota
	// Disabled refuses it with KDC_ERR_CLIENT_REVOKED (ACCOUNTDISABLE).
	Disabled
	// Locked refuses it with KDC_ERR_CLIENT_REVOKED (LOCKOUT).
	Locked
	// Expired refuses it with KDC_ERR_CLIENT_REVOKED, as Windows does.
	Expired
	// MustChange refuses it with KDC_ERR_KEY_EXPIRED once it has proved its key.
	MustChange
	// NotDelegable denies it forwardable tickets, and S4U2Proxy in its name
	// (NOT_DELEGATED: "sensitive and cannot be delegated").
	NotDelegable
	// Protected is NotDelegable, with tickets of four hours that cannot be
	// renewed (a member of Protected Users).
	Protected
	// OKAsDelegate sets the flag in tickets for the service (TRUSTED_FOR_DELEGATION).
	OKAsDelegate
	// TrustedToAuth makes its S4U2Self tickets forwardable
	// (TRUSTED_TO_AUTH_FOR_DELEGATION: protocol transition).
	TrustedToAuth
	// ArmoredOnly refuses logins without FAST armor with KDC_ERR_POLICY, as Windows
	// does with the policy to fail unarmored requests.
	ArmoredOnly
)

// Principal is one account of a realm. Its methods are safe for concurrent use.
type Principal struct {
	realm *Realm

	// realm.mu guards the fields below.
	name        string
	service     bool     // issue tickets for it even without spns
	spns        []string // equal to name
	aliases     []string // canonicalized to canonical
	canonical   string   // the name after canonicalization; empty for name
	flags       Flags
	etypes      []enctype.ID
	session     []enctype.ID // session key types that it accepts; nil: those of its keys
	salt        *string
	iterations  uint32
	kvno        uint32 // of the next key set
	fixedKeys   []enctype.Key
	keys        []keySet // newest first
	delegateTo  []string
	actFor      []string
	authData    int
	groups      []uint32
	lifetime    time.Duration
	renewable   time.Duration
	badAttempts int
}

// keySet holds the keys of one password or one random draw.
type keySet struct {
	kvno   uint32
	salt   string
	params []byte // s2kparams of ETYPE-INFO2; nil for the default
	keys   []enctype.Key
}

// Option sets a property of a principal, when it is added or later by Set.
type Option func(*Principal)

// ETypes chooses the encryption types of the keys, the first being that of
// tickets. Later it takes effect with the next ChangeKey.
func ETypes(ids ...enctype.ID) Option {
	return func(p *Principal) { p.etypes = slices.Clone(ids) }
}

// SessionETypes chooses which session key types the service accepts, independent of
// its keys: Windows puts an AES session key into an RC4 ticket.
func SessionETypes(ids ...enctype.ID) Option {
	return func(p *Principal) { p.session = slices.Clone(ids) }
}

// Salt replaces the default salt, the realm and the name's components.
func Salt(salt string) Option { return func(p *Principal) { p.salt = &salt } }

// Iterations sets the count of string-to-key for AES and Camellia.
func Iterations(n uint32) Option { return func(p *Principal) { p.iterations = n } }

// KVNO sets the version of the next keys.
func KVNO(n uint32) Option { return func(p *Principal) { p.kvno = n } }

// Keys sets the keys of the account, instead of keys derived from a password.
func Keys(keys ...enctype.Key) Option {
	return func(p *Principal) { p.fixedKeys = slices.Clone(keys) }
}

// SPN adds service principal names; tickets carry the requested one.
func SPN(names ...string) Option {
	return func(p *Principal) {
		p.spns = append(p.spns, names...)
		for _, name := range names {
			p.realm.addName(name, p)
		}
	}
}

// CanonicalName sets the name by which the KDC calls the account where a client requests
// canonicalization: another spelling, or another name. Default: the first name.
func CanonicalName(name string) Option {
	return func(p *Principal) {
		p.canonical = name
		if p.realm.fold(name) != p.realm.fold(p.name) {
			p.realm.addName(name, p)
		}
	}
}

// Alias adds names, such as a UPN "alice@corp.example", that canonicalization
// replaces by the canonical name.
func Alias(names ...string) Option {
	return func(p *Principal) {
		p.aliases = append(p.aliases, names...)
		for _, name := range names {
			p.realm.addName(name, p)
		}
	}
}

// With sets flags.
func With(flags Flags) Option { return func(p *Principal) { p.flags |= flags } }

// Without clears flags. Clearing Locked also resets the failed attempts.
func Without(flags Flags) Option {
	return func(p *Principal) {
		p.flags &^= flags
		if flags&Locked != 0 {
			p.badAttempts = 0
		}
	}
}

// DelegateTo lists the services to which the account may delegate users
// (msDS-AllowedToDelegateTo: constrained delegation).
func DelegateTo(spns ...string) Option {
	return func(p *Principal) { p.delegateTo = slices.Clone(spns) }
}

// ActFor lists the accounts, with @REALM if not of this realm, that may delegate
// users to this one (msDS-AllowedToActOnBehalfOfOtherIdentity: resource-based
// constrained delegation).
func ActFor(accounts ...string) Option {
	return func(p *Principal) { p.actFor = slices.Clone(accounts) }
}

// MemberOf has the account's PAC name groups of the domain S-1-5-21-1-2-3, by their relative
// identifiers, beside Domain Users (513). The realm must issue PACs.
func MemberOf(rids ...uint32) Option {
	return func(p *Principal) { p.groups = slices.Clone(rids) }
}

// AuthDataSize puts authorization data of n bytes into every ticket of the
// client, in place of a PAC: 1.3, 6 and 12 kB are usual sizes of tokens.
func AuthDataSize(n int) Option { return func(p *Principal) { p.authData = n } }

// Lifetimes bounds the tickets of this client or service in addition to the realm's
// bounds; zero means no further bound.
func Lifetimes(lifetime, renewable time.Duration) Option {
	return func(p *Principal) { p.lifetime, p.renewable = lifetime, renewable }
}

// Set applies options to an account that is in use.
func (p *Principal) Set(opts ...Option) {
	p.realm.mu.Lock()
	defer p.realm.mu.Unlock()
	for _, o := range opts {
		o(p)
	}
}

// Name returns the account's first name, without realm.
func (p *Principal) Name() string { return p.name }

// String returns name@REALM.
func (p *Principal) String() string { return p.name + "@" + p.realm.name }

// ChangePassword derives new keys with the next kvno. keepOld keeps the old keys valid
// for tickets and logins, like a replica that is behind.
func (p *Principal) ChangePassword(password string, keepOld bool) { p.change(&password, keepOld) }

// ChangeKey makes new random keys with the next kvno.
func (p *Principal) ChangeKey(keepOld bool) { p.change(nil, keepOld) }

func (p *Principal) change(password *string, keepOld bool) {
	p.realm.mu.Lock()
	defer p.realm.mu.Unlock()
	old := p.keys
	if !keepOld {
		p.keys, old = nil, nil
	}
	p.badAttempts = 0
	if err := p.rekey(password, rand.Reader); err != nil {
		p.keys = old
		p.realm.fail(err)
	}
}

// rekey puts a new key set before the others; realm.mu is held.
func (p *Principal) rekey(password *string, random io.Reader) error {
	set := keySet{kvno: p.kvno, salt: p.defaultSalt()}
	if p.salt != nil {
		set.salt = *p.salt
	}
	if p.iterations != 0 {
		set.params = binary.BigEndian.AppendUint32(nil, p.iterations)
	}
	if len(p.fixedKeys) > 0 {
		set.keys, p.fixedKeys = p.fixedKeys, nil
		return p.push(set)
	}
	for _, id := range p.etypes {
		var key enctype.Key
		var err error
		if password != nil {
			key, err = enctype.StringToKey(id, *password, set.salt, set.params)
		} else {
			key, err = enctype.GenerateKey(id, random)
		}
		if err != nil {
			return fmt.Errorf("key of %s: %w", p.name, err)
		}
		set.keys = append(set.keys, key)
	}
	return p.push(set)
}

func (p *Principal) push(set keySet) error {
	p.keys = append([]keySet{set}, p.keys...)
	p.kvno = set.kvno + 1
	return nil
}

// defaultSalt returns the realm and the name's components (RFC 4120, Section 4).
func (p *Principal) defaultSalt() string {
	return p.realm.name + strings.ReplaceAll(p.name, "/", "")
}

// view is a copy of the fields of an account that the KDC needs, made under the lock.
type view struct {
	*Principal
	service    bool // issue tickets for it
	flags      Flags
	keys       []keySet
	session    []enctype.ID
	delegateTo []string
	actFor     []string
	authData   int
	lifetime   time.Duration
	renewable  time.Duration
}

func (p *Principal) view() *view {
	p.realm.mu.RLock()
	defer p.realm.mu.RUnlock()
	return &view{
		Principal: p, service: p.service || len(p.spns) > 0, flags: p.flags, keys: slices.Clone(p.keys), session: p.session,
		delegateTo: p.delegateTo, actFor: p.actFor,
		authData: p.authData, lifetime: p.lifetime, renewable: p.renewable,
	}
}

// has reports whether all the given flags are set.
func (v *view) has(f Flags) bool { return v.flags&f == f }

// sensitive reports whether no service may impersonate the account.
func (v *view) sensitive() bool { return v.flags&(NotDelegable|Protected) != 0 }

// key returns a key by type and version; kvno 0 means the newest.
func (v *view) key(id enctype.ID, kvno uint32) (enctype.Key, *keySet) {
	for i := range v.keys {
		set := &v.keys[i]
		if kvno != 0 && set.kvno != kvno {
			continue
		}
		for _, k := range set.keys {
			if k.EType() == id {
				return k, set
			}
		}
	}
	return enctype.Key{}, nil
}

// sessionType returns the first requested type that the service accepts.
func (v *view) sessionType(asked []enctype.ID) (enctype.ID, bool) {
	takes := v.session
	if takes == nil && len(v.keys) > 0 {
		for _, k := range v.keys[0].keys {
			takes = append(takes, k.EType())
		}
	}
	for _, id := range asked {
		if slices.Contains(takes, id) && id.Supported() {
			return id, true
		}
	}
	return 0, false
}

// principalName returns the account's canonical name as a PrincipalName.
func (p *Principal) principalName() messages.PrincipalName {
	p.realm.mu.RLock()
	text := cmp.Or(p.canonical, p.name)
	p.realm.mu.RUnlock()
	name, err := messages.ParsePrincipal(text, p.realm.name)
	if err != nil {
		return messages.PrincipalName{}
	}
	return name.Name
}

// attempt records the result of a pre-authentication and locks the account after too
// many failures.
func (p *Principal) attempt(good bool) {
	p.realm.mu.Lock()
	defer p.realm.mu.Unlock()
	if good {
		p.badAttempts = 0
		return
	}
	p.badAttempts++
	if p.realm.lockout > 0 && p.badAttempts >= p.realm.lockout {
		p.flags |= Locked
	}
}

// isAlias reports whether canonicalization replaces the name.
func (p *Principal) isAlias(name string) bool {
	p.realm.mu.RLock()
	defer p.realm.mu.RUnlock()
	return slices.ContainsFunc(p.aliases, func(a string) bool { return p.realm.fold(a) == p.realm.fold(name) })
}

// HasPassword reports whether the newest keys are those of the password.
func (p *Principal) HasPassword(password string) bool {
	v := p.view()
	for _, key := range v.keys[0].keys {
		want, err := enctype.StringToKey(key.EType(), password, v.keys[0].salt, v.keys[0].params)
		if err != nil || !want.Equal(key) {
			return false
		}
	}
	return true
}
