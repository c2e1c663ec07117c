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
	byID map[cookie.TicketID]*list.Element // of *held
	used list.List                         // the last used first
}

// held is what is known of a ticket.
type held struct {
	id     cookie.TicketID
	ticket *messages.Credential // nil after a sign-off
	// Sessions that began by this time have signed off. Clients use one ticket for many sign-ins, and
	// the next must not give it back to them.
	off time.Time
}

func newTickets(most int) *tickets {
	return &tickets{most: most, byID: make(map[cookie.TicketID]*list.Element)}
}

func (h *held) weight() int {
	if h.ticket == nil {
		return ticketExtra
	}
	return len(h.ticket.Ticket) + ticketExtra
}

// put keeps a ticket, which must not be modified any more.
func (t *tickets) put(ticket *messages.Credential) {
	t.change(cookie.IDOf(ticket.Ticket), func(h *held) {
		if h.ticket == nil {
			h.ticket = ticket
		}
	})
}

// drop drops a ticket, for all sessions that have begun by now.
func (t *tickets) drop(id cookie.TicketID, now time.Time) {
	t.change(id, func(h *held) { h.ticket, h.off = nil, now })
}

// change changes what is held of a ticket, and drops what is too much.
func (t *tickets) change(id cookie.TicketID, change func(*held)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil {
		e = t.used.PushFront(&held{id: id})
		t.byID[id] = e
	} else {
		t.size -= e.Value.(*held).weight()
		t.used.MoveToFront(e)
	}
	change(e.Value.(*held))
	t.size += e.Value.(*held).weight()
	for t.size > t.most {
		t.remove(t.used.Back())
	}
}

// get returns the ticket of a session that began at a time; nil if it is not held, has ended, or the
// session has signed off.
func (t *tickets) get(id cookie.TicketID, begin, now time.Time) *messages.Credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil {
		return nil
	}
	h := e.Value.(*held)
	switch {
	case h.ticket == nil || !begin.After(h.off):
		return nil
	case !now.Before(h.ticket.EndTime):
		t.remove(e)
		return nil
	}
	t.used.MoveToFront(e)
	return h.ticket
}

func (t *tickets) remove(e *list.Element) {
	h := t.used.Remove(e).(*held)
	delete(t.byID, h.id)
	t.size -= h.weight()
}
