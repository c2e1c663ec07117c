package session

import (
	"container/list"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/session/cookie"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ticketMemory bounds the tickets of all sessions of the process, in bytes: by the size of their
// encodings, and what a ticket takes besides.
const (
	ticketMemory = 64 << 20
	ticketExtra  = 2 << 10
)

// process has the tickets of all sessions. It outlives configurations.
var process = newTickets(ticketMemory)

// tickets are the tickets that users signed in with. The least recently used are dropped first;
// their users sign in again where a ticket is needed.
type tickets struct {
	most int

	mu   sync.Mutex
	size int
	byID map[cookie.TicketID]*list.Element // of *messages.Credential
	used list.List                         // the last used first
}

func newTickets(most int) *tickets {
	return &tickets{most: most, byID: make(map[cookie.TicketID]*list.Element)}
}

func weight(ticket *messages.Credential) int { return len(ticket.Ticket) + ticketExtra }

// put keeps a ticket, which must not be modified any more.
func (t *tickets) put(ticket *messages.Credential) {
	id := cookie.IDOf(ticket.Ticket)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[id]; e != nil {
		t.used.MoveToFront(e)
		return
	}
	t.byID[id] = t.used.PushFront(ticket)
	t.size += weight(ticket)
	for t.size > t.most {
		t.remove(t.used.Back())
	}
}

// get returns a ticket, nil if it is not held or has ended.
func (t *tickets) get(id cookie.TicketID, now time.Time) *messages.Credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil {
		return nil
	}
	ticket := e.Value.(*messages.Credential)
	if !now.Before(ticket.EndTime) {
		t.remove(e)
		return nil
	}
	t.used.MoveToFront(e)
	return ticket
}

func (t *tickets) drop(id cookie.TicketID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[id]; e != nil {
		t.remove(e)
	}
}

func (t *tickets) remove(e *list.Element) {
	ticket := t.used.Remove(e).(*messages.Credential)
	delete(t.byID, cookie.IDOf(ticket.Ticket))
	t.size -= weight(ticket)
}
