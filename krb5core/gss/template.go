package gss

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TemplateConfig says what tokens a Template makes.
type TemplateConfig struct {
	// Flags are the context flags. GSS_C_MUTUAL_FLAG asks the acceptor for an AP-REP; GSS_C_DELEG_FLAG goes with
	// DelegatedCred.
	Flags Flags
	// Bindings says whether tokens bear channel bindings, and beside them the AP-options element by which Windows
	// knows a client that can ([MS-KILE] 3.2.5.8).
	Bindings bool
	// DelegatedCred is the KRB-CRED of a delegated ticket (see BuildDelegatedCred), at most 65535 octets.
	DelegatedCred []byte
	// Framing appends what stands before a context token of n octets, such as a NegTokenInit in which it is the last
	// field; nil means nothing.
	Framing func(dst []byte, n int) []byte
	// Scheme stands before the token in a header, with the space; "" means "Negotiate " (RFC 4559 4).
	Scheme string
	// Clock gives the tokens their times. It should be shared by all Templates for one client and service, before
	// and after a refresh of the ticket. It must not be nil.
	Clock *Clock
	// Rand is the source of confounders, subkeys and sequence numbers, safe for concurrent use; nil means crypto/rand.
	Rand io.Reader
}

// A Template makes context tokens from one service ticket: see the package's description. It is safe for concurrent use
// and never changes; a new ticket, other flags, the presence of bindings make another.
type Template struct {
	prefix        string  // scheme, then base64 of the token's beginning
	scheme        int     // length of the scheme
	rest          [2]byte // of the token before the ciphertext: what base64 could not take
	restLen       int
	tailLen       int // of rest and ciphertext
	plainAt       int // where in them the authenticator belongs
	authenticator authenticator
	key           enctype.Key // session key
	sealer        *enctype.Sealer
	opener        atomic.Pointer[enctype.Sealer] // for AP-REPs, made for the first
	clock         *Clock
	rand          io.Reader
	bindings      bool
	anyOctets     bool // make a subkey
}

// NewTemplate returns a template for cred, of which it keeps the key only. It fails for a credential that lacks a ticket
// or is of an encryption type that cannot be used.
func NewTemplate(cred *messages.Credential, cfg TemplateConfig) (*Template, error) {
	if cfg.Clock == nil {
		return nil, errors.New("no clock for the authenticators")
	}
	if err := checkCredential(cred, &cfg); err != nil {
		return nil, err
	}
	sealer, err := cred.Key.Sealer(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR)
	if err != nil {
		return nil, fmt.Errorf("session key of the ticket for %s: %w", cred.Service, err)
	}
	if cfg.Scheme == "" {
		cfg.Scheme = "Negotiate "
	}
	t := &Template{
		scheme:        len(cfg.Scheme),
		authenticator: newAuthenticator(cred, &cfg),
		key:           cred.Key,
		sealer:        sealer,
		clock:         cfg.Clock,
		rand:          cfg.Rand,
		bindings:      cfg.Bindings,
		anyOctets:     randomOctetsAreKeys(cred.Key.EType()),
	}
	header, trailer := sealer.Overhead(len(t.authenticator.plain))
	cipherLen := header + len(t.authenticator.plain) + trailer
	token := appendConstant(nil, cred, &cfg, cipherLen)
	cut := len(token) - len(token)%3
	t.prefix = cfg.Scheme + base64.StdEncoding.EncodeToString(token[:cut])
	t.restLen = copy(t.rest[:], token[cut:])
	t.tailLen = t.restLen + cipherLen
	t.plainAt = t.restLen + header
	return t, nil
}

// appendConstant appends all of a token that precedes the authenticator's ciphertext of n octets, which is its end.
func appendConstant(dst []byte, cred *messages.Credential, cfg *TemplateConfig, n int) []byte {
	request := messages.APReq{
		Ticket:        messages.Ticket{Raw: cred.Ticket},
		Authenticator: messages.EncryptedData{EType: cred.Key.EType(), Cipher: make([]byte, n)},
	}
	if cfg.Flags&GSS_C_MUTUAL_FLAG != 0 {
		request.APOptions |= messages.AP_OPTS_MUTUAL_REQUIRED
	}
	token := AppendToken(nil, TOK_AP_REQ, request.Marshal())
	if cfg.Framing != nil {
		dst = cfg.Framing(dst, len(token))
	}
	return append(dst, token[:len(token)-n]...)
}

// HeaderLen is the length of every header value.
func (t *Template) HeaderLen() int { return len(t.prefix) + base64.StdEncoding.EncodedLen(t.tailLen) }

// TokenLen is the length of every token, before base64.
func (t *Template) TokenLen() int {
	return base64.StdEncoding.DecodedLen(len(t.prefix)-t.scheme) + t.tailLen
}

// Size is about how many octets of memory the Template keeps, for the budget of whoever caches it: its token in base64,
// its authenticator, and the derived keys.
func (t *Template) Size() int {
	const fixed = 2048 // Template, key schedules of two usages and their hash states
	return fixed + len(t.prefix) + len(t.authenticator.plain)
}

// Header returns the value of an Authorization header with a new token in it, and what is needed to judge the answer to
// it. bindings must be there, and not zero, if and only if the Template has them. It waits only beyond the rate that the
// Clock gives; other errors are those of a Rand.
func (t *Template) Header(ctx context.Context, bindings *ChannelBindings) (string, Context, error) {
	stamp, err := t.clock.Stamp(ctx)
	if err != nil {
		return "", Context{}, err
	}
	return t.header(bindings, stamp)
}

// HeaderAt is Header by a clock that is offset ahead of this machine's, whatever the Clock says; see Clock.StampAt. It is for
// the one repeat after an acceptor has said KRB_AP_ERR_SKEW and its own time.
func (t *Template) HeaderAt(ctx context.Context, bindings *ChannelBindings, offset time.Duration) (string, Context, error) {
	stamp, err := t.clock.StampAt(ctx, offset)
	if err != nil {
		return "", Context{}, err
	}
	return t.header(bindings, stamp)
}

func (t *Template) header(bindings *ChannelBindings, stamp Stamp) (string, Context, error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	if err := t.mint(s, bindings, stamp); err != nil {
		return "", Context{}, err
	}
	encoded := s.encodeTail()
	var b strings.Builder
	b.Grow(len(t.prefix) + len(encoded))
	b.WriteString(t.prefix)
	b.Write(encoded)
	return b.String(), Context{t, stamp}, nil
}

// AppendToken appends a new token as it is, without scheme and base64. It is otherwise as Header.
func (t *Template) AppendToken(ctx context.Context, dst []byte, bindings *ChannelBindings) ([]byte, Context, error) {
	stamp, err := t.clock.Stamp(ctx)
	if err != nil {
		return dst, Context{}, err
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	if err := t.mint(s, bindings, stamp); err != nil {
		return dst, Context{}, err
	}
	dst, err = base64.StdEncoding.AppendDecode(dst, []byte(t.prefix[t.scheme:]))
	return append(dst, s.tail...), Context{t, stamp}, err
}

// mint makes the token's tail in s.
func (t *Template) mint(s *scratch, bindings *ChannelBindings, stamp Stamp) error {
	if (bindings != nil) != t.bindings || bindings != nil && *bindings == (ChannelBindings{}) {
		return errors.New("channel bindings given and those expected differ: use a template of the other kind")
	}
	confounder, seq := s.nonce[4:4+t.sealer.ConfounderSize()], s.nonce[:4]
	if err := s.readRandom(confounder, t.rand); err != nil {
		return err
	}
	if err := s.readRandom(seq, t.rand); err != nil {
		return err
	}
	// The authenticator is written where its encryption belongs, so that no copy of the subkey stays behind.
	tail := slices.Grow(s.tail[:0], t.tailLen)
	plain := tail[t.plainAt : t.plainAt+len(t.authenticator.plain)]
	subkey := t.authenticator.fill(plain, bindings, stamp, s.timeOf(stamp), binary.BigEndian.Uint32(seq))
	if err := t.makeSubkey(s, subkey); err != nil {
		return err
	}
	s.tail = t.sealer.Seal(append(tail, t.rest[:t.restLen]...), confounder, plain)
	return nil
}

// makeSubkey fills subkey with a new key of the session key's type.
func (t *Template) makeSubkey(s *scratch, subkey []byte) error {
	if t.anyOctets {
		return s.readRandom(subkey, t.rand)
	}
	key, err := enctype.GenerateKey(t.key.EType(), randomReader{s, t.rand})
	if err != nil {
		return err
	}
	copy(subkey, key.Bytes())
	return nil
}
