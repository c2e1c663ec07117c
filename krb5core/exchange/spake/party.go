package spake

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Role is a side of the exchange.
type Role int

// The sides.
const (
	Client Role = iota
	KDC
)

// constants blind the public value of this side and of the other.
func (r Role) constants() (own, peers constant) {
	if r == KDC {
		return constantM, constantN
	}
	return constantN, constantM
}

// Party is one side in one exchange. It holds secrets and does not print them.
type Party struct {
	role    Role
	id      messages.SPAKEGroup
	group   group
	key     enctype.Key // the client's long-term key
	w       []byte
	private []byte
	public  []byte
}

// New returns a side of an exchange in the group that proves the client's long-term key, with
// randomness from rand.
func New(role Role, id messages.SPAKEGroup, key enctype.Key, rand io.Reader) (*Party, error) {
	g := groups[id]
	if g == nil {
		return nil, fmt.Errorf("SPAKE: group %d is not supported", id)
	}
	private, err := g.private(rand)
	if err != nil {
		return nil, err
	}
	return newParty(role, id, key, private)
}

func newParty(role Role, id messages.SPAKEGroup, key enctype.Key, private []byte) (*Party, error) {
	p := &Party{role: role, id: id, group: groups[id], key: key, private: private}
	// RFC 9588, Section 5: the multiplier is PRF+ of the key.
	var err error
	p.w, err = enctype.PRFPlus(key, binary.BigEndian.AppendUint32([]byte("SPAKEsecret"), uint32(id)), multiplierLen)
	if err != nil {
		return nil, err
	}
	own, _ := role.constants()
	p.public, err = p.group.public(private, p.w, own)
	return p, err
}

// Public is the value to send to the other side.
func (p *Party) Public() []byte             { return p.public }
func (p *Party) String() string             { return fmt.Sprintf("SPAKE in group %d", p.id) }
func (p *Party) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// Keys computes the secret of both sides. support and challenge are the PA-SPAKE messages that the
// client's public value answers, as they were sent; support is nil if the KDC's challenge came
// unasked. peer is the other side's public value.
func (p *Party) Keys(support, challenge, peer []byte) (*Keys, error) {
	_, peers := p.role.constants()
	result, err := p.group.shared(p.private, p.w, peers, peer)
	if err != nil {
		return nil, err
	}
	clients := p.public
	if p.role == KDC {
		clients = peer
	}
	// RFC 9588, Section 6: a hash over the one before, zero at first, and each message.
	var start [sha256.Size]byte
	transcript := digest(start[:], support, challenge)
	return &Keys{p.id, p.key, p.w, result, digest(transcript, clients)}, nil
}

func digest(parts ...[]byte) []byte {
	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// Keys is what both sides know at the end. It holds secrets and does not print them.
type Keys struct {
	id         messages.SPAKEGroup
	key        enctype.Key
	w          []byte
	result     []byte
	transcript []byte
}

// Derive returns the key K'[n] for the request with this KDC-REQ-BODY (RFC 9588, Section 7). It is
// of the long-term key's type.
func (k *Keys) Derive(n uint32, body []byte) (enctype.Key, error) {
	seed := &stream{k: k, body: body, n: n}
	derived, err := enctype.GenerateKey(k.key.EType(), seed)
	if err != nil {
		return enctype.Key{}, err
	}
	return enctype.CF2(k.key, derived, "SPAKE", "keyderiv")
}

func (k *Keys) String() string             { return fmt.Sprintf("SPAKE keys of group %d", k.id) }
func (k *Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// stream is the bytes that a key is derived from: hashes over the shared values, each with the next
// number.
type stream struct {
	k     *Keys
	body  []byte
	n     uint32
	block byte
	left  []byte
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		s.block++
		in := binary.BigEndian.AppendUint32([]byte("SPAKEkey"), uint32(s.k.id))
		in = binary.BigEndian.AppendUint32(in, uint32(s.k.key.EType()))
		s.left = digest(in, s.k.w, s.k.result, s.k.transcript, s.body, binary.BigEndian.AppendUint32(nil, s.n), []byte{s.block})
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}
