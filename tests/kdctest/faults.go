package kdctest

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Question is one message that reached a KDC.
type Question struct {
	// Protocol is "udp", "tcp", "https" or "direct" (Handle).
	Protocol string
	// Remote is the client's address; empty for "direct".
	Remote string
	// Message is the DER as received.
	Message []byte

	ctx     context.Context
	kdc     *KDC
	counted bool
	alter   alteration
}

// Context ends when the KDC stops.
func (q *Question) Context() context.Context { return q.ctx }

// IsAS reports whether the message looks like an AS-REQ.
func (q *Question) IsAS() bool { return len(q.Message) > 0 && q.Message[0] == 0x6a }

// IsTGS reports whether the message looks like a TGS-REQ.
func (q *Question) IsTGS() bool { return len(q.Message) > 0 && q.Message[0] == 0x6c }

// alteration is a fault's change to the encrypted part of an answer, which cannot be
// changed afterwards.
type alteration struct {
	nonce  uint32 // XORed onto the nonce
	client string // issue the ticket to this principal of the realm
}

// Answer is the response to a question. The zero Answer is silence: no datagram, and
// a stream that stays open.
type Answer struct {
	// Messages are sent in order, each as a datagram of its own or with
	// its length before it on a stream.
	Messages [][]byte
	// Raw is sent on a stream after Messages, without a length.
	Raw []byte
	// Close ends the stream afterwards; Reset does so with RST.
	Close, Reset bool
	// Lost says that the network dropped the question, not the KDC: it is
	// counted as lost only.
	Lost bool
}

func (a Answer) datagrams() [][]byte { return a.Messages }

func (a Answer) stream() []byte {
	var out []byte
	for _, m := range a.Messages {
		out = append(out, frame(m)...)
	}
	return append(out, a.Raw...)
}

// Handler answers a question.
type Handler func(*Question) Answer

// Fault is misbehaviour: it wraps the KDC, or the next fault. It may answer
// itself, call next and change the answer, or be silent.
type Fault func(next Handler) Handler

// Use adds faults; the first added sees a question first.
func (k *KDC) Use(faults ...Fault) {
	k.faultsMu.Lock()
	defer k.faultsMu.Unlock()
	k.faults = append(slices.Clip(k.faults), faults...)
}

// ClearFaults removes all faults. Questions that a Gate holds stay held.
func (k *KDC) ClearFaults() {
	k.faultsMu.Lock()
	defer k.faultsMu.Unlock()
	k.faults = nil
}

// answer runs a question through the faults and counts it.
func (k *KDC) answer(q *Question) Answer {
	k.faultsMu.Lock()
	faults := k.faults
	k.faultsMu.Unlock()

	q.kdc = k
	k.counter.arrived(q)
	h := Handler(k.handle)
	for _, fault := range slices.Backward(faults) {
		h = fault(h)
	}
	a := h(q)
	if a.Lost {
		k.counter.lost()
	} else {
		k.counter.taken(q)
	}
	return a
}

// UDP limits a fault to datagrams.
func UDP(f Fault) Fault { return Only(func(q *Question) bool { return q.Protocol == "udp" }, f) }

// TCP limits a fault to streams.
func TCP(f Fault) Fault { return Only(func(q *Question) bool { return q.Protocol == "tcp" }, f) }

// AS limits a fault to AS-REQs.
func AS(f Fault) Fault { return Only((*Question).IsAS, f) }

// TGS limits a fault to TGS-REQs.
func TGS(f Fault) Fault { return Only((*Question).IsTGS, f) }

// PreAuthenticated limits a fault to AS-REQs that carry pre-authentication.
func PreAuthenticated(f Fault) Fault {
	return Only(func(q *Question) bool {
		req, err := messages.ParseKDCReq(q.Message)
		return err == nil && q.IsAS() && carriesPreAuth(req)
	}, f)
}

// Only limits a fault to the questions that match.
func Only(match func(*Question) bool, f Fault) Fault {
	return func(next Handler) Handler {
		faulty := f(next)
		return func(q *Question) Answer {
			if match(q) {
				return faulty(q)
			}
			return next(q)
		}
	}
}

// Times limits a fault to the first n questions that it sees.
func Times(n int, f Fault) Fault {
	seen := new(tally)
	return Only(func(*Question) bool { return seen.next() <= n }, f)
}

// Every limits a fault to each n-th question that it sees: with 2 the second,
// the fourth and so on.
func Every(n int, f Fault) Fault {
	seen := new(tally)
	return Only(func(*Question) bool { return seen.next()%n == 0 }, f)
}

// tally numbers questions. It is kept outside the fault because each question
// instantiates the fault.
type tally struct {
	mu sync.Mutex
	n  int
}

func (t *tally) next() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return t.n
}

// Silent accepts the question and never answers; a stream stays open.
func Silent() Fault {
	return func(Handler) Handler { return func(*Question) Answer { return Answer{} } }
}

// Lose drops datagrams before they reach the KDC. It does nothing on a stream.
func Lose() Fault {
	return UDP(func(Handler) Handler { return func(*Question) Answer { return Answer{Lost: true} } })
}

// LoseReply lets the KDC process a datagram and drops the answer. It does nothing on
// a stream.
func LoseReply() Fault {
	return UDP(func(next Handler) Handler {
		return func(q *Question) Answer {
			next(q)
			return Answer{}
		}
	})
}

// Reset ends a stream with RST instead of an answer. A datagram stays
// unanswered.
func Reset() Fault {
	return func(Handler) Handler { return func(*Question) Answer { return Answer{Reset: true} } }
}

// Cut sends the first n bytes of the real answer: on a stream with the full length in
// the prefix and then the end of the stream, otherwise as a datagram of n bytes.
func Cut(n int) Fault {
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			a := next(q)
			if len(a.Messages) == 0 {
				return a
			}
			m := a.Messages[len(a.Messages)-1]
			n := min(n, len(m))
			if q.Protocol != "tcp" {
				return Answer{Messages: [][]byte{m[:n]}}
			}
			return Answer{Raw: frame(m)[:4+n], Close: true}
		}
	}
}

// Announce answers on a stream with a length prefix of size bytes and only a few
// bytes, and keeps the stream open. Datagrams have no prefix and get the real answer.
func Announce(size uint32) Fault {
	return TCP(func(Handler) Handler {
		return func(*Question) Answer {
			return Answer{Raw: append(binary.BigEndian.AppendUint32(nil, size), 0x7e, 0x81, 0xff, 0x30)}
		}
	})
}

// Garbage answers with n bytes that are not a message.
func Garbage(n int) Fault {
	return func(Handler) Handler {
		return func(*Question) Answer {
			m := make([]byte, n)
			for i := range m {
				m[i] = byte(i*7 + 0x5b)
			}
			return Answer{Messages: [][]byte{m}}
		}
	}
}

// WrongNonce changes the nonce in the encrypted part of the answer.
func WrongNonce() Fault { return altered(func(a *alteration) { a.nonce = 0x2a }) }

// AnotherUser answers with a ticket of the named principal of the same realm,
// encrypted so that the asking client can read it.
func AnotherUser(name string) Fault { return altered(func(a *alteration) { a.client = name }) }

// RenameClient changes the client's name outside the encrypted part of a reply, which anyone on
// the network can do. The ticket keeps its client.
func RenameClient(name string) Fault {
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			a := next(q)
			for i, m := range a.Messages {
				if rep, err := messages.ParseKDCRep(m); err == nil {
					rep.CName = messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name)
					a.Messages[i] = rep.Marshal()
				}
			}
			return a
		}
	}
}

func altered(change func(*alteration)) Fault {
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			change(&q.alter)
			return next(q)
		}
	}
}

// Fail answers with a KRB-ERROR of the given code that has the names of the question
// and the KDC's time.
func Fail(code messages.ErrorCode) Fault {
	return func(Handler) Handler {
		return func(q *Question) Answer { return Answer{Messages: [][]byte{q.kdc.errorFor(q, code)}} }
	}
}

// ForgeFirst sends a KRB-ERROR of the given code, which any attacker on the network
// can forge, before the real answer.
func ForgeFirst(code messages.ErrorCode) Fault {
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			a := next(q)
			a.Messages = append([][]byte{q.kdc.errorFor(q, code)}, a.Messages...)
			return a
		}
	}
}

// Stale sends the KDC's last KRB-ERROR again before the real answer, like a late
// datagram for an earlier question.
func Stale() Fault {
	var mu sync.Mutex
	var last []byte
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			a := next(q)
			mu.Lock()
			defer mu.Unlock()
			stale := last
			for _, m := range a.Messages {
				if len(m) > 0 && m[0] == 0x7e { // KRB-ERROR, APPLICATION 30
					last = m
				}
			}
			if stale != nil {
				a.Messages = append([][]byte{stale}, a.Messages...)
			}
			return a
		}
	}
}

// StreamOnly leaves datagrams unanswered: a KDC whose UDP port is filtered.
func StreamOnly() Fault { return UDP(Silent()) }

// TooBig answers every datagram with KRB_ERR_RESPONSE_TOO_BIG.
func TooBig() Fault { return UDP(Fail(messages.KRB_ERR_RESPONSE_TOO_BIG)) }

// Gate holds questions back until it is released: a slow KDC that needs no clock.
type Gate struct {
	arrived  chan struct{}
	released chan struct{}
	once     sync.Once
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	return &Gate{arrived: make(chan struct{}, maxAtOnce), released: make(chan struct{})}
}

// Slow is the fault: the question waits at the gate and is answered after the
// release.
func (g *Gate) Slow() Fault {
	return func(next Handler) Handler {
		return func(q *Question) Answer {
			q.kdc.counter.taken(q)
			select {
			case g.arrived <- struct{}{}:
			default:
			}
			select {
			case <-g.released:
				return next(q)
			case <-q.Context().Done():
				return Answer{}
			}
		}
	}
}

// Arrived yields once for each question that has reached the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Release opens the gate permanently.
func (g *Gate) Release() { g.once.Do(func() { close(g.released) }) }
