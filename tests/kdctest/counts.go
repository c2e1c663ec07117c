package kdctest

import (
	"crypto/sha256"
	"maps"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Counts counts the requests and replies of a KDC since the last reset. Each message
// counts once: the same bytes over the same protocol are a retransmission, even if the
// first was lost.
type Counts struct {
	// UDP, TCP and HTTPS count all messages that arrived, lost ones included.
	UDP, TCP, HTTPS int
	// Lost counts those that a fault dropped on arrival.
	Lost int
	// Retransmissions counts messages that arrived before over the same protocol.
	Retransmissions int
	// ASReq and TGSReq count requests; ASReqPreAuth those AS-REQs that carried
	// proof of a key. Other counts all other messages.
	ASReq, ASReqPreAuth, TGSReq, Other int
	// Armored counts the requests in valid FAST armor.
	Armored int
	// ASRep and TGSRep count tickets issued and sent: logins and exchanges. A
	// reply that was too big for UDP counts as TooBig instead.
	ASRep, TGSRep, TooBig int
	// Renewed, Forwarded, Referred, S4U2Self and S4U2Proxy count the TGS-REPs of
	// these kinds.
	Renewed, Forwarded, Referred, S4U2Self, S4U2Proxy int
	// Errors counts the KRB-ERRORs of the KDC itself, by code.
	Errors map[messages.ErrorCode]int
	// Clients counts AS-REQs by the client's name as requested ("alice@REALM").
	Clients map[string]ClientCounts
	// Services counts TGS-REPs by service as issued ("HTTP/web@REALM").
	Services map[string]int
}

// ClientCounts counts one client's logins.
type ClientCounts struct {
	ASReq, ASReqPreAuth, ASRep int
}

// Counts returns a snapshot.
func (k *KDC) Counts() Counts { return k.counter.snapshot() }

// ResetCounts resets the counts to zero.
func (k *KDC) ResetCounts() { k.counter.reset() }

// maxSeen bounds the messages kept to detect retransmissions.
const maxSeen = 1 << 16

type counter struct {
	mu   sync.Mutex
	c    Counts
	seen map[[sha256.Size]byte]struct{}
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.c = Counts{
		Errors:   make(map[messages.ErrorCode]int),
		Clients:  make(map[string]ClientCounts),
		Services: make(map[string]int),
	}
	c.seen = make(map[[sha256.Size]byte]struct{})
}

func (c *counter) snapshot() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.c
	s.Errors, s.Clients, s.Services = maps.Clone(s.Errors), maps.Clone(s.Clients), maps.Clone(s.Services)
	return s
}

// add changes the counts under the lock.
func (c *counter) add(f func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.c)
}

func (c *counter) arrived(q *Question) {
	c.add(func(n *Counts) {
		switch q.Protocol {
		case "udp":
			n.UDP++
		case "tcp":
			n.TCP++
		case "https":
			n.HTTPS++
		}
	})
}

func (c *counter) lost() { c.add(func(n *Counts) { n.Lost++ }) }

// taken counts a request that the KDC processes, once for each message.
func (c *counter) taken(q *Question) {
	if q.counted {
		return
	}
	q.counted = true
	id := q.id()
	client, proof := "", false
	if q.IsAS() {
		if req, err := messages.ParseKDCReq(q.Message); err == nil {
			client, proof = requestedClient(req), carriesPreAuth(req)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.seen[id]; again {
		c.c.Retransmissions++
		return
	}
	if len(c.seen) < maxSeen {
		c.seen[id] = struct{}{}
	}
	switch {
	case client != "":
		cc := c.c.Clients[client]
		cc.ASReq++
		c.c.ASReq++
		if proof {
			cc.ASReqPreAuth++
			c.c.ASReqPreAuth++
		}
		c.c.Clients[client] = cc
	case q.IsTGS():
		c.c.TGSReq++
	default:
		c.c.Other++
	}
}

// id identifies a message and its protocol: a request that is repeated over TCP after
// UDP is a request of its own.
func (q *Question) id() [sha256.Size]byte {
	return sha256.Sum256(append([]byte(q.Protocol+"\x00"), q.Message...))
}
