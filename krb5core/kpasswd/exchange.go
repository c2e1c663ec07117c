package kpasswd

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Port is that of the service, UDP and TCP (RFC 3244, Section 2).
const Port = 464

// ServiceName is the service that changes passwords. A ticket for it must come from a login.
var ServiceName = messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "kadmin", "changepw")

// ErrForeign is wrapped by the errors of replies that answer no request of the exchange.
var ErrForeign = errors.New("not a valid reply to the change of the password")

// Config configures an Exchange.
type Config struct {
	Ticket   *messages.Credential // for ServiceName, from a login
	Password string               // the new one, in UTF-8
	Now      func() time.Time     // the server's time as far as known; nil for time.Now
	Rand     io.Reader            // safe for concurrent use; nil for crypto/rand
}

// An Exchange changes a password. It is safe for concurrent use.
type Exchange struct {
	cfg Config

	mu       sync.Mutex
	requests []request
	last     time.Time // of the last request's authenticator
}

// request is what is kept of a request to verify its reply.
type request struct {
	time   time.Time // of its authenticator, to the microsecond
	subkey enctype.Key
}

// New prepares an exchange.
func New(cfg Config) (*Exchange, error) {
	switch {
	case cfg.Ticket == nil || cfg.Ticket.Key.IsZero() || len(cfg.Ticket.Ticket) == 0:
		return nil, errors.New("changing a password: no ticket for the service that changes it")
	case !cfg.Ticket.Service.Name.Equal(ServiceName):
		return nil, fmt.Errorf("changing a password: the ticket is for %s, not for %s", cfg.Ticket.Service, ServiceName)
	case cfg.Password == "":
		return nil, errors.New("changing a password: the new one is empty")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Exchange{cfg: cfg}, nil
}

// Sent is how many requests were made.
func (x *Exchange) Sent() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.requests)
}

// Request makes a request that is sent from the address, which goes into the KRB-PRIV; an invalid one is
// not known. Each has a time, a subkey and a sequence number of its own, so that no server takes it
// for a replay.
func (x *Exchange) Request(from netip.Addr) ([]byte, error) {
	key := x.cfg.Ticket.Key
	subkey, err := enctype.GenerateKey(key.EType(), x.cfg.Rand)
	if err != nil {
		return nil, err
	}
	var seq [4]byte
	if _, err := io.ReadFull(x.cfg.Rand, seq[:]); err != nil {
		return nil, fmt.Errorf("making a sequence number: %w", err)
	}
	// 30 bits, because some servers read it as a signed number.
	number := binary.BigEndian.Uint32(seq[:]) & 0x3fffffff
	now := x.register(subkey)
	client := x.cfg.Ticket.Client
	auth := messages.Authenticator{
		CRealm: client.Realm, CName: client.Name,
		CTime: now.Truncate(time.Second), CUSec: int32(now.Nanosecond() / int(time.Microsecond)),
		Subkey: subkey, SeqNumber: number, HasSeqNumber: true,
	}
	sealed, err := encrypt(x.cfg.Rand, key, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, auth.Marshal())
	if err != nil {
		return nil, err
	}
	apReq := messages.APReq{Ticket: messages.Ticket{Raw: x.cfg.Ticket.Ticket}, Authenticator: sealed}
	address := hostAddress(from)
	part := messages.EncKrbPrivPart{UserData: []byte(x.cfg.Password), SeqNumber: number, HasSeqNumber: true, SAddress: &address}
	plain := part.Marshal()
	defer clear(plain)
	if sealed, err = encrypt(x.cfg.Rand, subkey, enctype.KEY_USAGE_KRB_PRIV, plain); err != nil {
		return nil, err
	}
	priv := messages.KRBPriv{EncPart: sealed}
	return appendFrame(nil, apReq.Marshal(), priv.Marshal())
}

// register keeps what verifies the reply to a request, and returns the request's time. Servers take two
// authenticators of one microsecond for a replay (RFC 4120, Section 3.2.3).
func (x *Exchange) register(subkey enctype.Key) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.cfg.Now().UTC().Truncate(time.Microsecond)
	if !now.After(x.last) {
		now = x.last.Add(time.Microsecond)
	}
	x.last = now
	x.requests = append(x.requests, request{now, subkey})
	return now
}

// Check reports whether a reply answers a request: nil, or an error that wraps ErrForeign.
func (x *Exchange) Check(reply []byte) error {
	_, _, err := x.open(reply)
	return err
}

// Result reads a reply. It returns nil if the password was changed, a *RefusedError if it was not, an
// error that wraps a *messages.KRBError, which is not authenticated, if the server could not read the
// request, and else an error that wraps ErrForeign.
func (x *Exchange) Result(reply []byte) error {
	result, krbError, err := x.open(reply)
	switch {
	case err != nil:
		return err
	case krbError != nil:
		if refused := resultOf(krbError); refused != nil {
			return fmt.Errorf("%w: %w", krbError, unread{refused})
		}
		return krbError
	}
	return parseResult(result)
}

// open returns the authenticated result in a reply, or the KRB-ERROR in its place.
func (x *Exchange) open(reply []byte) (result []byte, krbError *messages.KRBError, err error) {
	if messages.TypeOf(reply) == messages.KRB_ERROR { // without the frame, as Windows sends it
		krbError, err = messages.ParseKRBError(reply)
		return nil, krbError, foreign(err)
	}
	apRep, second, err := parseFrame(reply)
	if err != nil {
		return nil, nil, foreign(err)
	}
	if len(apRep) == 0 {
		krbError, err = messages.ParseKRBError(second)
		return nil, krbError, foreign(err)
	}
	part, req, err := x.openAPRep(apRep)
	if err != nil {
		return nil, nil, foreign(err)
	}
	result, err = x.openPriv(second, part, req)
	if err == nil && len(result) < 2 {
		err = fmt.Errorf("%w: a result of %d bytes", ErrMalformed, len(result))
	}
	return result, nil, foreign(err)
}

// openAPRep verifies the server's AP-REP, and returns the request that it answers.
func (x *Exchange) openAPRep(b []byte) (*messages.EncAPRepPart, request, error) {
	rep, err := messages.ParseAPRep(b)
	if err != nil {
		return nil, request{}, err
	}
	plain, err := decrypt(x.cfg.Ticket.Key, enctype.KEY_USAGE_AP_REP, rep.EncPart)
	if err != nil {
		return nil, request{}, fmt.Errorf("AP-REP: %w", err)
	}
	part, err := messages.ParseEncAPRepPart(plain)
	if err != nil {
		return nil, request{}, err
	}
	at := part.CTime.Add(time.Duration(part.CUSec) * time.Microsecond)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.requests {
		if r.time.Equal(at) {
			return part, r, nil
		}
	}
	return nil, request{}, fmt.Errorf("AP-REP answers an authenticator of %s, which is none of this exchange", at.UTC())
}

// openPriv decrypts the result. The RFC has it encrypted with the subkey; MIT's server uses the
// session key, others the subkey that is in the AP-REP.
func (x *Exchange) openPriv(b []byte, part *messages.EncAPRepPart, req request) ([]byte, error) {
	priv, err := messages.ParseKRBPriv(b)
	if err != nil {
		return nil, err
	}
	for _, key := range []enctype.Key{req.subkey, x.cfg.Ticket.Key, part.Subkey} {
		plain, errKey := decrypt(key, enctype.KEY_USAGE_KRB_PRIV, priv.EncPart)
		if errKey != nil {
			err = errKey
			continue
		}
		inside, err := messages.ParseEncKrbPrivPart(plain)
		switch {
		case err != nil:
			return nil, err
		case part.HasSeqNumber && inside.HasSeqNumber && part.SeqNumber != inside.SeqNumber:
			return nil, fmt.Errorf("KRB-PRIV has the sequence number %d, its AP-REP %d", inside.SeqNumber, part.SeqNumber)
		}
		return inside.UserData, nil
	}
	return nil, fmt.Errorf("KRB-PRIV: %w", err)
}

// unread is what the e-data of a KRB-ERROR says of the change. It is no *RefusedError: anyone can say so.
type unread struct{ refused *RefusedError }

func (u unread) Error() string { return u.refused.Error() }

// resultOf returns what the e-data of a KRB-ERROR says, nil if nothing.
func resultOf(e *messages.KRBError) *RefusedError {
	refused, _ := errors.AsType[*RefusedError](parseResult(e.EData))
	return refused
}

func foreign(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrForeign, err)
}

func encrypt(random io.Reader, key enctype.Key, usage enctype.Usage, plain []byte) (messages.EncryptedData, error) {
	cipher, err := key.Encrypt(random, usage, plain)
	if err != nil {
		return messages.EncryptedData{}, fmt.Errorf("encrypting the request: %w", err)
	}
	return messages.EncryptedData{EType: key.EType(), Cipher: cipher}, nil
}

func decrypt(key enctype.Key, usage enctype.Usage, data messages.EncryptedData) ([]byte, error) {
	if key.IsZero() || key.EType() != data.EType {
		return nil, fmt.Errorf("it is encrypted with a key of type %s", data.EType)
	}
	return key.Decrypt(usage, data.Cipher)
}

// hostAddress is the sender's address in a KRB-PRIV. It has to be there; few servers look at it, since
// addresses are translated on the way.
func hostAddress(a netip.Addr) messages.HostAddress {
	a = a.Unmap()
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	kind := messages.ADDRTYPE_IPV4
	if a.Is6() {
		kind = messages.ADDRTYPE_IPV6
	}
	return messages.HostAddress{AddrType: kind, Address: a.AsSlice()}
}
