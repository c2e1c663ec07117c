package accept

import (
	"bytes"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// openTicket is the inside of a ticket, and what is made of it for all of its tokens.
type openTicket struct {
	messages.EncTicketPart
	account  *Account
	evidence *messages.Credential
	// The session key made ready.
	authenticator, apRep *enctype.Sealer
}

// open decrypts a ticket, or takes what it was when it came before: a client sends the same ticket
// in each of its tokens. It returns nil, nil if it is not under this key.
func (k *Key) open(ticket *messages.Ticket) (*openTicket, *Error) {
	if t := k.opened.get(ticket.Raw); t != nil {
		return t, nil
	}
	plain, err := k.ticket.Open(nil, ticket.EncPart.Cipher)
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
	t.evidence = newEvidence(ticket, t)
	k.opened.put(t.evidence.Ticket, t)
	return t, nil
}

// newEvidence returns the client's ticket, with a copy of its encoding.
func newEvidence(ticket *messages.Ticket, t *openTicket) *messages.Credential {
	c := &messages.Credential{
		Client:   messages.Principal{Name: t.CName, Realm: t.CRealm},
		Service:  messages.Principal{Name: ticket.SName, Realm: ticket.Realm},
		Key:      t.Key,
		AuthTime: t.AuthTime, StartTime: t.StartTime, EndTime: t.EndTime, RenewTill: t.RenewTill,
		Flags:     t.Flags,
		Ticket:    bytes.Clone(ticket.Raw),
		Addresses: t.CAddr,
	}
	c.Account = new(messages.Account) // the ticket is open
	if t.account != nil {
		c.Account.Name, c.Account.Machine = t.account.Name, t.account.Machine
	}
	return c
}

// openMemory bounds the tickets of a key that are kept open, by the size of their encodings in
// bytes, which are kept twice, with what an open one takes besides.
const (
	openMemory = 8 << 20
	openExtra  = 4 << 10
)

// openTickets are those that came lately, by their encodings. What has ended is good for nothing
// and makes room like any other.
type openTickets struct {
	mu    sync.RWMutex
	byRaw map[string]*openTicket
	size  int
}

func (o *openTickets) get(raw []byte) *openTicket {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.byRaw[string(raw)]
}

func (o *openTickets) put(raw []byte, t *openTicket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byRaw == nil {
		o.byRaw = make(map[string]*openTicket)
	}
	if o.byRaw[string(raw)] == nil {
		o.size += 2*len(raw) + openExtra
	}
	o.byRaw[string(raw)] = t
	for old := range o.byRaw { // in no order
		if o.size <= openMemory {
			return
		}
		delete(o.byRaw, old)
		o.size -= 2*len(old) + openExtra
	}
}
