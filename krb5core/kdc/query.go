package kdc

import "strconv"

// Protocol is how a message travelled.
type Protocol string

// The protocols.
const (
	UDP   Protocol = "udp"
	TCP   Protocol = "tcp"
	HTTPS Protocol = "https"
)

// Query is one question to the KDCs of a realm.
type Query struct {
	// Realm is whose KDCs are asked.
	Realm string
	// Message is the DER of the request, without any framing. It is not
	// modified and not kept.
	Message []byte
	// PreAuth says that the message proves a password. It is then never at
	// two KDCs at once, since each would count a wrong one: the next is asked
	// only when the last has failed or was silent for Config.ServerTimeout.
	PreAuth bool
	// TCPOnly keeps the message off UDP. A KDC proxy is asked all the same.
	TCPOnly bool
	// Avoid names servers to be asked after all others that are alive, to
	// get a second opinion.
	Avoid []Server
	// Check judges a reply. It must not keep or change the bytes, and may be
	// called by several goroutines at a time. Nil accepts whatever is framed
	// like a Kerberos message.
	Check func(reply []byte) Verdict
}

// Verdict is what a [Query] thinks of a reply.
type Verdict int

// The verdicts.
const (
	// Accept ends the search.
	Accept Verdict = iota
	// Foreign is a reply that is malformed or does not answer this question.
	// It is counted and observed. A datagram is passed over and the wait goes
	// on; a stream ends, for no other reply will come of it.
	Foreign
	// NextKDC is a reply that says that this KDC cannot serve, such as
	// KDC_ERR_SVC_UNAVAILABLE. Since anyone may forge one, a datagram is
	// verified over TCP at the same KDC if it speaks TCP.
	NextKDC
)

// String is for logs.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Foreign:
		return "foreign"
	case NextKDC:
		return "next kdc"
	}
	return "verdict " + strconv.Itoa(int(v))
}

// Reply is what a KDC answered.
type Reply struct {
	// Message is the DER of the reply, without any framing.
	Message []byte
	// Server is who answered, by Protocol, at the address Addr (IP and port;
	// host and port if a proxy made the connection).
	Server   Server
	Protocol Protocol
	Addr     string
	// Verdict is Accept, or NextKDC if no KDC gave a better reply.
	Verdict Verdict
}
