package kdctest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The results of a change of a password (RFC 3244, Section 2) that a PasswordServer sends by itself.
const (
	passwordChanged  = 0
	passwordAuthFail = 3
)

// PasswordServerConfig configures a PasswordServer.
type PasswordServerConfig struct {
	// Realm is whose passwords are changed. It gets the service kadmin/changepw.
	Realm *Realm
	// Policy returns the result of a change: 0 permits it, other codes refuse it with a text, or with
	// what Windows sends in place of one. Nil permits all.
	Policy func(client, password string) (code uint16, text []byte)
	// SubkeyReplies encrypts replies with the client's subkey, as the RFC says; MIT's server uses the session
	// key.
	SubkeyReplies bool
	// Now is its clock; time.Now if nil.
	Now func() time.Time
}

// PasswordServer changes passwords over UDP and TCP (RFC 3244), version 1. Its methods are safe for
// concurrent use.
type PasswordServer struct {
	cfg PasswordServerConfig

	mu     sync.Mutex
	faults []Fault
	seen   map[time.Time]bool // authenticators
	server *listener

	changes, requests int
}

// StartPasswordServer starts a server on a free port.
func StartPasswordServer(cfg PasswordServerConfig) (*PasswordServer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Realm.Principal("kadmin/changepw") == nil {
		cfg.Realm.AddService("kadmin/changepw")
	}
	s := &PasswordServer{cfg: cfg, seen: make(map[time.Time]bool)}
	var err error
	s.server, err = listen("127.0.0.1", 0, s.answer, func() []byte { return nil })
	return s, err
}

// Addr returns host:port, the same for UDP and TCP.
func (s *PasswordServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.server.port()))
}

// Stop closes the sockets and waits for all goroutines.
func (s *PasswordServer) Stop() { s.server.close() }

// Use adds faults; the first added sees a request first.
func (s *PasswordServer) Use(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(slices.Clip(s.faults), faults...)
}

// ClearFaults removes all faults.
func (s *PasswordServer) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Changes returns how many passwords were changed, Requests how many requests were read.
func (s *PasswordServer) Changes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// Requests returns how many requests were read.
func (s *PasswordServer) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *PasswordServer) answer(q *Question) Answer {
	s.mu.Lock()
	faults := s.faults
	s.mu.Unlock()
	h := Handler(func(q *Question) Answer { return Answer{Messages: [][]byte{s.handle(q.Message)}} })
	for _, fault := range slices.Backward(faults) {
		h = fault(h)
	}
	return h(q)
}

// handle answers a request, with a KRB-ERROR if it cannot be read.
func (s *PasswordServer) handle(message []byte) []byte {
	s.mu.Lock()
	s.requests++
	s.mu.Unlock()
	x := passwordExchange{server: s}
	result, err := x.run(message)
	if err == nil {
		result, err = x.reply(result)
	}
	if err == nil {
		return result
	}
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{code: messages.KRB_ERR_GENERIC, text: err.Error()}
	}
	e := krbError(nil, s.cfg.Now(), r.code)
	e.Realm, e.SName, e.EText = s.cfg.Realm.name, messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "kadmin", "changepw"), r.text
	e.EData = append(binary.BigEndian.AppendUint16(nil, passwordAuthFail), r.text...)
	return passwordFrame(nil, e.Marshal())
}

// passwordFrame frames a request or a reply (RFC 3244, Section 2).
func passwordFrame(ap, second []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(6+len(ap)+len(second)))
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(ap)))
	return append(append(b, ap...), second...)
}

// passwordExchange answers one request.
type passwordExchange struct {
	server *PasswordServer
	ticket *messages.EncTicketPart
	auth   *messages.Authenticator
}

// run changes the password, and returns the result to send.
func (x *passwordExchange) run(message []byte) ([]byte, error) {
	if len(message) < 6 || int(binary.BigEndian.Uint16(message)) != len(message) || binary.BigEndian.Uint16(message[2:]) != 1 {
		return nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "malformed request")
	}
	size := int(binary.BigEndian.Uint16(message[4:]))
	if size > len(message)-6 {
		return nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "malformed request")
	}
	if err := x.open(message[6 : 6+size]); err != nil {
		return nil, err
	}
	priv, err := messages.ParseKRBPriv(message[6+size:])
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
	}
	plain, err := x.auth.Subkey.Decrypt(enctype.KEY_USAGE_KRB_PRIV, priv.EncPart.Cipher)
	if err != nil {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "the request does not decrypt")
	}
	part, err := messages.ParseEncKrbPrivPart(plain)
	if err != nil || part.SAddress == nil || !part.HasSeqNumber || part.SeqNumber != x.auth.SeqNumber {
		return nil, refuse(messages.KRB_AP_ERR_MODIFIED, "address or sequence number of the request")
	}
	return x.change(string(part.UserData)), nil
}

// open opens ticket and authenticator.
func (x *passwordExchange) open(b []byte) error {
	s := x.server
	ap, err := messages.ParseAPReq(b)
	if err != nil {
		return refuse(messages.KRB_AP_ERR_MSG_TYPE, "%v", err)
	}
	if ap.Ticket.SName.String() != "kadmin/changepw" {
		return refuse(messages.KRB_AP_ERR_NOT_US, "ticket is for %s", ap.Ticket.SName)
	}
	if x.ticket, err = openTicket(s.cfg.Realm.Principal("kadmin/changepw").view(), &ap.Ticket); err != nil {
		return err
	}
	plain, err := x.ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, ap.Authenticator.Cipher)
	if err != nil {
		return refuse(messages.KRB_AP_ERR_MODIFIED, "authenticator does not decrypt")
	}
	if x.auth, err = messages.ParseAuthenticator(plain); err != nil {
		return refuse(messages.KRB_AP_ERR_MODIFIED, "%v", err)
	}
	now := s.cfg.Now()
	at := x.auth.CTime.Add(time.Duration(x.auth.CUSec) * time.Microsecond)
	s.mu.Lock()
	again := s.seen[at]
	s.seen[at] = true
	s.mu.Unlock()
	switch {
	case x.auth.CTime.Sub(now).Abs() > 5*time.Minute:
		return refuse(messages.KRB_AP_ERR_SKEW, "clock skew too great")
	case again:
		return refuse(messages.KRB_AP_ERR_REPEAT, "replay")
	case x.auth.Subkey.IsZero():
		return refuse(messages.KRB_AP_ERR_NOKEY, "no subkey")
	}
	return nil
}

// change changes the password unless the policy forbids it.
func (x *passwordExchange) change(password string) []byte {
	s := x.server
	if x.ticket.Flags&messages.TKT_FLG_INITIAL == 0 {
		return binary.BigEndian.AppendUint16(nil, 7)
	}
	name := x.ticket.CName.String()
	if s.cfg.Policy != nil {
		if code, text := s.cfg.Policy(name, password); code != passwordChanged {
			return append(binary.BigEndian.AppendUint16(nil, code), text...)
		}
	}
	s.cfg.Realm.Principal(name).ChangePassword(password, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	return append(binary.BigEndian.AppendUint16(nil, passwordChanged), "Password changed"...)
}

func (x *passwordExchange) reply(result []byte) ([]byte, error) {
	seal := func(key enctype.Key, usage enctype.Usage, plain []byte) (messages.EncryptedData, error) {
		cipher, err := key.Encrypt(rand.Reader, usage, plain)
		return messages.EncryptedData{EType: key.EType(), Cipher: cipher}, err
	}
	const number = 4711
	inside := messages.EncAPRepPart{CTime: x.auth.CTime, CUSec: x.auth.CUSec, SeqNumber: number, HasSeqNumber: true}
	sealed, err := seal(x.ticket.Key, enctype.KEY_USAGE_AP_REP, inside.Marshal())
	if err != nil {
		return nil, err
	}
	rep := messages.APRep{EncPart: sealed}
	key := x.ticket.Key
	if x.server.cfg.SubkeyReplies {
		key = x.auth.Subkey
	}
	address := messages.HostAddress{AddrType: messages.ADDRTYPE_IPV4, Address: []byte{127, 0, 0, 1}}
	part := messages.EncKrbPrivPart{UserData: result, SeqNumber: number, HasSeqNumber: true, SAddress: &address}
	if sealed, err = seal(key, enctype.KEY_USAGE_KRB_PRIV, part.Marshal()); err != nil {
		return nil, err
	}
	priv := messages.KRBPriv{EncPart: sealed}
	return passwordFrame(rep.Marshal(), priv.Marshal()), nil
}
