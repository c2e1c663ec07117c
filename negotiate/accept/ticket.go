package accept

import (
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// openTicket is the inside of a ticket, and what is made of it for all of its tokens.
type openTicket struct {
	messages.EncTicketPart
	account *Account
	// The session key made ready.
	authenticator, apRep *enctype.Sealer
}

// open decrypts a ticket, or takes what it was when it came before: a client sends the same ticket
// in each of its tokens. It returns nil, nil if it is not under this key.
func (k *Key) open(cipher []byte) (*openTicket, *Error) {
	if t := k.opened.get(cipher); t != nil {
		return t, nil
	}
	plain, err := k.ticket.Open(nil, cipher)
	if err != nil {
		return nil, nil
	}
	part, err := messages.ParseEncTicketPart(plain)
	if err != nil {
		return nil, because(WrongKey, err)
	}
	t := &openTicket{EncTicketPart: *part}
	if t.authenticator, err = t.Key.Sealer(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR); err != nil {
		return nil, because(WeakEType, err)
	}
	if t.apRep, err = t.Key.Sealer(enctype.KEY_USAGE_AP_REP); err != nil {
		return nil, because(WeakEType, err)
	}
	if t.account, err = readAccount(part, k.key); err != nil {
		return nil, because(BadPAC, err)
	}
	t.AuthorizationData = nil // which may be long
	k.opened.put(cipher, t)
	return t, nil
}

// openMemory bounds the tickets of a key that are kept open, by the size of their ciphertexts in
// bytes, with what an open one takes besides.
const (
	openMemory = 8 << 20
	openExtra  = 3 << 10
)

// openTickets are those that came lately, by their ciphertexts. What has ended is good for nothing
// and makes room like any other.
type openTickets struct {
	mu     sync.RWMutex
	byText map[string]*openTicket
	size   int
}

func (o *openTickets) get(cipher []byte) *openTicket {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.byText[string(cipher)]
}

func (o *openTickets) put(cipher []byte, t *openTicket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byText == nil {
		o.byText = make(map[string]*openTicket)
	}
	if o.byText[string(cipher)] == nil {
		o.size += len(cipher) + openExtra
	}
	o.byText[string(cipher)] = t
	for text := range o.byText { // in no order
		if o.size <= openMemory {
			return
		}
		delete(o.byText, text)
		o.size -= len(text) + openExtra
	}
}
