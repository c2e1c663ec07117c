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
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TemplateConfig says which tokens a Template mints.
type TemplateConfig struct {
	// Flags are the context flags. GSS_C_MUTUAL_FLAG requests an AP-REP from the acceptor;
	// GSS_C_DELEG_FLAG requires DelegatedCred.
	Flags Flags
	// Bindings says whether tokens have channel bindings, and with them the AP-options element by
	// which Windows recognizes a client that supports them ([MS-KILE] 3.2.5.8).
	Bindings bool
	// DelegatedCred is the KRB-CRED of a delegated ticket (see BuildDelegatedCred), at most 65535
	// bytes.
	DelegatedCred []byte
	// Framing appends what precedes a context token of n bytes, such as a NegTokenInit whose last
	// field it is; nil means nothing.
	Framing func(dst []byte, n int) []byte
	// Clock returns the times of tokens. All Templates for one client and service should share it,
	// before and after a refresh of the ticket. It must not be nil.
	Clock *Clock
	// Rand is the source of confounders, subkeys and sequence numbers, safe for concurrent use; nil
	// means crypto/rand.
	Rand io.Reader
}

// A Template mints context tokens from one service ticket: see the package documentation. It is
// safe for concurrent use and never changes; another ticket, other flags, or the use of
// bindings require another Template.
type Template struct {
	prefix        string  // "Negotiate " (RFC 4559, Section 4), then base64 of the token's beginning
	rest          [2]byte // of the token before the ciphertext: what is not in the base64
	restLen       int
	tailLen       int // of rest and ciphertext
	plainAt       int // offset of the authenticator in them
	authenticator authenticator
	reply         replyKey
	sealer        *enctype.Sealer
	clock         *Clock
	rand          io.Reader
	bindings      bool
	randomSubkey  bool // any random bytes are a valid subkey (not DES)
}

// NewTemplate returns a template for cred, of which it keeps only the key. It fails for a
// credential without a ticket or with an encryption type that cannot be used.
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
	t := &Template{
		authenticator: newAuthenticator(cred, Checksum{Flags: cfg.Flags, DelegatedCred: cfg.DelegatedCred}, cfg.Bindings),
		reply:         replyKey{key: cred.Key},
		sealer:        sealer,
		clock:         cfg.Clock,
		rand:          cfg.Rand,
		bindings:      cfg.Bindings,
		randomSubkey:  anyBytesAreKeys(cred.Key.EType()),
	}
	header, trailer := sealer.Overhead(len(t.authenticator.plain))
	cipherLen := header + len(t.authenticator.plain) + trailer
	token := appendConstant(nil, cred, &cfg, cipherLen)
	cut := len(token) - len(token)%3
	t.prefix = "Negotiate " + base64.StdEncoding.EncodeToString(token[:cut])
	t.restLen = copy(t.rest[:], token[cut:])
	t.tailLen = t.restLen + cipherLen
	t.plainAt = t.restLen + header
	return t, nil
}

// checkCredential refuses a credential and configuration for which no token can be minted.
func checkCredential(cred *messages.Credential, cfg *TemplateConfig) error {
	switch {
	case cred.Key.IsZero() || len(cred.Ticket) == 0:
		return fmt.Errorf("ticket for %s has no session key or no ticket: get another", cred.Service)
	case cred.Client.IsZero():
		return fmt.Errorf("ticket for %s names no client", cred.Service)
	case len(cfg.DelegatedCred) > maxDelegated:
		return fmt.Errorf("delegated ticket of %d bytes exceeds the %d of a GSS checksum", len(cfg.DelegatedCred), maxDelegated)
	case cfg.Flags&GSS_C_DELEG_FLAG != 0 != (cfg.DelegatedCred != nil):
		return fmt.Errorf("GSS_C_DELEG_FLAG and a delegated ticket go together")
	}
	return nil
}

// appendConstant appends all of a token that precedes the authenticator's ciphertext of n bytes,
// which is its end.
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

// Size is about how many bytes of memory the Template uses, for a cache that bounds it: its token
// in base64, its authenticator, and the derived keys.
func (t *Template) Size() int {
	const fixed = 2048 // Template, key schedules of two usages and their hash states
	return fixed + len(t.prefix) + len(t.authenticator.plain)
}

// Header returns the value of an Authorization header with a new token, and the Context to verify
// the reply. bindings must be given, and not be zero, if and only if the Template has them. It
// waits only beyond the Clock's rate; other errors are those of Rand.
func (t *Template) Header(ctx context.Context, bindings *ChannelBindings) (string, Context, error) {
	stamp, err := t.clock.Stamp(ctx)
	if err != nil {
		return "", Context{}, err
	}
	return t.header(bindings, stamp)
}

// HeaderAt is Header by a clock that is offset ahead of this machine's; see Clock.StampAt. It is
// for the one repeat after an acceptor replied KRB_AP_ERR_SKEW with its own time.
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
	return b.String(), Context{&t.reply, stamp}, nil
}

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
	// The authenticator is written where it is encrypted, so that no copy of the subkey remains.
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
	if t.randomSubkey {
		return s.readRandom(subkey, t.rand)
	}
	key, err := enctype.GenerateKey(t.reply.key.EType(), randomReader{s, t.rand})
	if err != nil {
		return err
	}
	copy(subkey, key.Bytes())
	return nil
}
