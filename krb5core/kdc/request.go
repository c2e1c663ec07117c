package kdc

import "net/netip"

// Request is one request to the KDCs of a realm.
type Request struct {
	// Realm names the realm whose KDCs are asked.
	Realm string
	// Message is the DER of the request, without any framing. It is not
	// modified and not kept.
	Message []byte
	// Compose, unless nil, makes the message of each connection in place of
	// Message; local is its own address, invalid if it is not known. Such
	// messages are those of another service than a KDC (RFC 3244): their
	// replies need not be Kerberos messages, and Check alone judges them. It
	// may be called by several goroutines at a time.
	Compose func(local netip.Addr) ([]byte, error)
	// PreAuth reports that the message proves a password. It is then never at
	// two KDCs at once, since each would count a wrong one: the next is asked
	// only when the last has failed or was silent for Config.ServerTimeout.
	PreAuth bool
	// TCPOnly keeps the message off UDP. A KDC proxy is asked all the same.
	TCPOnly bool
	// PreferTCP keeps the message off UDP if any of the realm's servers speaks
	// TCP or is a KDC proxy.
	PreferTCP bool
	// Avoid names servers to be asked after all others that are alive, to
	// get a second reply.
	Avoid []Server
	// Check judges a reply. It must not keep or change the bytes, and may be
	// called by several goroutines at a time. Nil accepts whatever is framed
	// like a Kerberos message.
	Check func(reply []byte) Verdict
}

// Verdict is the judgement of a reply by [Request].Check.
type Verdict int

// The verdicts.
const (
	// Accept ends the search.
	Accept Verdict = iota
	// Foreign is a reply that is malformed or does not answer this request.
	// It is counted and observed. A datagram is passed over and the wait goes
	// on; a stream ends, for no other reply will come of it.
	Foreign
	// NextKDC is a reply of a KDC that cannot answer, such as
	// KDC_ERR_SVC_UNAVAILABLE. Since anyone may forge one, a datagram is
	// verified over TCP at the same KDC if it speaks TCP.
	NextKDC
	// Unproven is a reply whose sender did not prove to be a KDC of the realm. It
	// is counted and observed as Foreign. Anyone may send such a datagram: it is
	// passed over, and the same KDC asked over TCP. What says so over TCP ends the
	// search at this KDC, and the next one is asked.
	Unproven
)

// Reply is what a KDC answered.
type Reply struct {
	// Message is the DER of the reply, without any framing.
	Message []byte
	// Server answered, by Protocol, at the address Addr (IP and port;
	// host and port if a proxy made the connection).
	Server   Server
	Protocol Protocol
	Addr     string
	// Verdict is Accept, or another but Foreign if no KDC gave a better reply.
	Verdict Verdict
}
