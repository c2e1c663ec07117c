package kdc

import (
	"context"
	"time"
)

// Observer sees what a [Sender] does. Its methods are called by several
// goroutines at a time and must not block. The context is that of the Send.
type Observer interface {
	// ObserveMessage is called for each message sent or received, and for
	// each that could not be.
	ObserveMessage(ctx context.Context, m MessageEvent)
	// ObserveDecision is called whenever the sender chooses what to do.
	ObserveDecision(ctx context.Context, d Decision)
}

// Direction is which way a message went.
type Direction int

// The directions.
const (
	Sent Direction = iota
	Received
)

func (d Direction) String() string {
	if d == Received {
		return "received"
	}
	return "sent"
}

// MessageEvent is one message on its way to or from a KDC.
type MessageEvent struct {
	Direction Direction
	Realm     string
	Server    Server
	Protocol  Protocol
	// Local and Remote are IP address and port of the socket's two ends; the
	// remote one is the proxy's if there is a proxy.
	Local, Remote string
	// Size is the length of Data in bytes.
	Size int
	// Elapsed is the time since this KDC was first asked by this protocol.
	Elapsed time.Duration
	// Data is the Kerberos message without framing. It holds secrets (tickets,
	// names, what a password can be guessed from): callers that show it must
	// redact it. It is valid only during the call.
	Data []byte
	// Request is the request that the message is, or answers; as Data.
	Request []byte
	// Err is why the message could not be sent, or why what was received is
	// no message; nil otherwise.
	Err error
}

// DecisionKind is what was decided.
type DecisionKind int

// The decisions.
const (
	// Asking: a KDC is asked because it is the next in order.
	Asking DecisionKind = iota
	// Hedging: a further KDC is asked because the ones before are silent.
	Hedging
	// Retransmitting: a datagram is sent once more.
	Retransmitting
	// UsingTCP: the KDC that was asked by UDP is asked by TCP.
	UsingTCP
	// UsingUDP: the KDC that could not be asked by TCP is asked by UDP.
	UsingUDP
	// PassedOver: datagrams were malformed or foreign. It is reported once, when the
	// wait is over, and why of the last one; each is a [MessageEvent].
	PassedOver
	// Dead: the KDC is put last for some time.
	Dead
	// Alive: a KDC that was dead has answered.
	Alive
	// Declined: the KDC said that it cannot serve.
	Declined
	// GivenUp: no KDC gave an acceptable reply.
	GivenUp
)

var decisionNames = [...]string{
	"asking", "hedging", "retransmitting", "using tcp", "using udp", "passed over", "dead", "alive", "declined", "given up",
}

func (k DecisionKind) String() string {
	return decisionNames[k]
}

// Decision is a choice that a [Sender] made.
type Decision struct {
	Kind  DecisionKind
	Realm string
	// Server and Addr (IP address; empty if unknown) are the KDC concerned.
	Server Server
	Addr   string
	// Datagrams is how many were passed over.
	Datagrams int
	// Until is when a dead KDC takes its place again.
	Until time.Time
	// Request is the request that it is about. It is valid only during the call.
	Request []byte
	// Reason is why; may be nil.
	Reason error
}
