package kdctest

import (
	"crypto/sha256"
	"maps"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Counts is what a KDC was asked and what it answered since the last reset.
// Messages count once each: the same bytes over the same protocol again are a
// retransmission, whatever became of the first.
type Counts struct {
	// UDP, TCP and HTTPS are all messages that arrived, lost ones included.
	UDP, TCP, HTTPS int
	// Lost are those that a fault dropped on their way in.
	Lost int
	// Retransmissions are messages that came before over the same protocol.
	Retransmissions int
	// ASReq and TGSReq are questions; ASReqPreAuth those AS-REQs that carried
	// proof of a key. Other is what is neither.
	ASReq, ASReqPreAuth, TGSReq, Other int
	// Armored are the questions in FAST armor that was good.
	Armored int
	// ASRep and TGSRep are tickets issued and sent: logins and exchanges. An
	// answer that was too big for UDP counts as TooBig instead.
	ASRep, TGSRep, TooBig int
	// Renewed, Forwarded, Referred, S4U2Self and S4U2Proxy say what kind of
	// TGS-REP it was, if any.
	Renewed, Forwarded, Referred, S4U2Self, S4U2Proxy int
	// Errors are the KRB-ERRORs that the KDC itself answered, by code.
	Errors map[messages.ErrorCode]int
	// Clients is by the client's name as asked ("alice@REALM"), for AS-REQs.
	Clients map[string]ClientCounts
	// Services is TGS-REPs by service as issued ("HTTP/web@REALM").
	Services map[string]int
}

// ClientCounts is the part of Counts that concerns one client's logins.
type ClientCounts struct {
	ASReq, ASReqPreAuth, ASRep int
}

// Counts returns a snapshot.
func (k *KDC) Counts() Counts { return k.counter.snapshot() }

// ResetCounts starts anew from zero.
func (k *KDC) ResetCounts() { k.counter.reset() }

// maxSeen bounds the memory of retransmission detection.
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

// taken counts a question that the KDC took up, once however often it is told.
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

// id names a message and its protocol: a repeat over TCP of what went over UDP
// is a question of its own.
func (q *Question) id() [sha256.Size]byte {
	return sha256.Sum256(append([]byte(q.Protocol+"\x00"), q.Message...))
}
