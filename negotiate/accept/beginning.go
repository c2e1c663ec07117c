package accept

import (
	"encoding/base64"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// beginning is what precedes the encrypted authenticator of a token, read and verified. It is the
// same in all tokens of a ticket that are equally long, apart from those with a MIC.
type beginning struct {
	size int    // of the whole token, in base64
	rest []byte // its last bytes, fewer than three, which share base64 with the authenticator
	mech spnego.OID
	req  messages.APReq // without ciphertexts
	// The key that opened the ticket, and the ticket.
	key    *Key
	ticket *openTicket
}

// Bounds of what is kept of beginnings.
const (
	beginningsMemory = 8 << 20 // bytes of base64, and what an entry takes besides
	beginningExtra   = 1 << 10
	maxTails         = 16
)

// beginnings are those of tokens that were accepted lately, by their base64.
type beginnings struct {
	mu     sync.RWMutex
	byText map[string]*beginning
	tails  []int // how many characters follow a beginning
	size   int   // bytes
}

// find returns the beginning of a token and the bytes that follow it; nil if it is not known.
func (b *beginnings) find(token string) (*beginning, []byte) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, tail := range b.tails {
		at := len(token) - tail
		if at <= 0 {
			continue
		}
		known := b.byText[token[:at]]
		if known == nil || known.size != len(token) {
			continue
		}
		end, err := base64.StdEncoding.DecodeString(token[at:])
		if n := len(known.rest); err == nil && len(end) > n && slices.Equal(end[:n], known.rest) {
			return known, end[n:]
		}
	}
	return nil, nil
}

// add keeps the beginning of a token, whose first n bytes it is.
func (b *beginnings) add(token string, first []byte, known *beginning) {
	const group, text = 3, 4 // bytes, and their characters of base64
	at := len(first) / group * text
	known.size, known.rest = len(token), slices.Clone(first[len(first)/group*group:])
	b.mu.Lock()
	defer b.mu.Unlock()
	if tail := len(token) - at; !slices.Contains(b.tails, tail) {
		if len(b.tails) >= maxTails {
			return
		}
		b.tails = append(b.tails, tail)
	}
	if b.byText == nil {
		b.byText = make(map[string]*beginning)
	}
	key := strings.Clone(token[:at])
	if b.byText[key] == nil {
		b.size += at + beginningExtra
	}
	b.byText[key] = known
	for old := range b.byText { // in no order
		if b.size <= beginningsMemory {
			return
		}
		delete(b.byText, old)
		b.size -= len(old) + beginningExtra
	}
}

// recall takes the beginning of the token from one that was accepted, and reports whether there is
// one whose key is in use.
func (x *exchange) recall() bool {
	known, cipher := x.beginnings.find(x.request.Base64)
	if known == nil {
		return false
	}
	req := known.req
	req.Authenticator.Cipher = cipher
	x.req = &req
	if !slices.Contains(x.cfg.Keys.KeysFor(x.service()), known.key) {
		x.req = nil
		return false
	}
	x.offer.mech, x.key, x.ticket = known.mech, known.key, known.ticket
	return true
}

// keep keeps the beginning of a good token, if the authenticator ends it.
func (x *exchange) keep() *Error {
	token, cipher := x.request.Token, x.req.Authenticator.Cipher
	if x.request.Base64 == "" || len(token) == 0 || &token[len(token)-1] != &cipher[len(cipher)-1] {
		return nil // without base64, recalled, or with a MIC
	}
	known := &beginning{mech: x.offer.mech, req: *x.req, key: x.key, ticket: x.ticket}
	known.req.Ticket.Raw, known.req.Ticket.EncPart.Cipher, known.req.Authenticator.Cipher = nil, nil, nil
	x.beginnings.add(x.request.Base64, token[:len(token)-len(cipher)], known)
	return nil
}
