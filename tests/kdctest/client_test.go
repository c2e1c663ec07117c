package kdctest_test

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The client of these tests builds its messages by hand, so that it can send wrong
// ones.

// asReq returns an AS-REQ without proof.
func asReq(realm, user string, nonce uint32) *messages.KDCReq {
	return &messages.KDCReq{MsgType: messages.KRB_AS_REQ, Body: messages.KDCReqBody{
		KDCOptions: messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_RENEWABLE | messages.KDC_OPT_CANONICALIZE,
		CName:      messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, user),
		Realm:      realm, SName: messages.TGSName(realm), Till: time.Unix(0, 0).UTC(),
		Nonce: nonce, EType: enctype.Strong(),
	}}
}

// prove adds an encrypted timestamp.
func prove(t *testing.T, req *messages.KDCReq, key enctype.Key, now time.Time) {
	t.Helper()
	ts := messages.PAEncTSEnc{PATimestamp: now.Truncate(time.Second), PAUSec: 1}
	req.PAData = append(req.PAData, messages.PAData{
		Type:  messages.PA_ENC_TIMESTAMP,
		Value: seal(t, key, enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, ts.Marshal()).Marshal(),
	})
}

func seal(t *testing.T, key enctype.Key, usage enctype.Usage, plain []byte) messages.EncryptedData {
	t.Helper()
	cipher, err := key.Encrypt(rand.Reader, usage, plain)
	if err != nil {
		t.Fatal(err)
	}
	return messages.EncryptedData{EType: key.EType(), Cipher: cipher}
}

func passwordKey(t *testing.T, password, salt string) enctype.Key {
	t.Helper()
	key, err := enctype.StringToKey(enctype.AES256_CTS_HMAC_SHA1_96, password, salt, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// open decrypts a reply, or returns it as an error if it is a KRB-ERROR.
func open(t *testing.T, reply []byte, key enctype.Key, usage enctype.Usage) (*messages.Credential, *messages.EncKDCRepPart, error) {
	t.Helper()
	if e, err := messages.ParseKRBError(reply); err == nil {
		return nil, nil, e
	}
	rep, err := messages.ParseKDCRep(reply)
	if err != nil {
		t.Fatalf("%v: %x", err, reply)
	}
	plain, err := key.Decrypt(usage, rep.EncPart.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	part, err := messages.ParseEncKDCRepPart(plain)
	if err != nil {
		t.Fatal(err)
	}
	return messages.NewCredential(rep, part), part, nil
}

// tryLogin logs in with a password and the default salt.
func tryLogin(t *testing.T, kdc *kdctest.KDC, realm, user, password string) (*messages.Credential, error) {
	t.Helper()
	key := passwordKey(t, password, realm+user)
	req := asReq(realm, user, 1)
	prove(t, req, key, kdc.Now())
	cred, _, err := open(t, kdc.Handle(req.Marshal()), key, enctype.KEY_USAGE_AS_REP)
	return cred, err
}

func login(t *testing.T, kdc *kdctest.KDC, realm, user, password string) *messages.Credential {
	t.Helper()
	cred, err := tryLogin(t, kdc, realm, user, password)
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	return cred
}

// keyLogin logs a service in with its newest AES-256 key.
func keyLogin(t *testing.T, kdc *kdctest.KDC, realm *kdctest.Realm, p *kdctest.Principal) *messages.Credential {
	t.Helper()
	key := newestKey(t, realm, p)
	req := asReq(realm.Name(), p.Name(), 1)
	name, err := messages.ParsePrincipal(p.Name(), realm.Name())
	if err != nil {
		t.Fatal(err)
	}
	req.Body.CName = name.Name
	prove(t, req, key, kdc.Now())
	cred, _, err := open(t, kdc.Handle(req.Marshal()), key, enctype.KEY_USAGE_AS_REP)
	if err != nil {
		t.Fatalf("login of %s: %v", p, err)
	}
	return cred
}

// tgsRequest holds the fields of a TGS-REQ.
type tgsRequest struct {
	tgt      *messages.Credential
	realm    string // whose KDC is asked
	service  messages.PrincipalName
	options  messages.KDCOptions
	padata   func(subkey enctype.Key, nonce uint32) messages.MethodData
	evidence *messages.Credential
	now      time.Time
}

// ask sends the request and opens the reply.
func (r tgsRequest) ask(t *testing.T, kdc *kdctest.KDC) (*messages.Credential, error) {
	t.Helper()
	req := &messages.KDCReq{MsgType: messages.KRB_TGS_REQ, Body: messages.KDCReqBody{
		KDCOptions: r.options | messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_CANONICALIZE,
		Realm:      r.realm, SName: r.service, Till: time.Unix(0, 0).UTC(), Nonce: 7, EType: enctype.Strong(),
	}}
	if r.evidence != nil {
		ticket, err := messages.ParseTicket(r.evidence.Ticket)
		if err != nil {
			t.Fatal(err)
		}
		req.Body.AdditionalTickets = []messages.Ticket{*ticket}
	}
	subkey, err := enctype.GenerateKey(r.tgt.Key.EType(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := r.tgt.Key.Checksum(enctype.KEY_USAGE_TGS_REQ_CHECKSUM, req.Body.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	now := r.now
	if now.IsZero() {
		now = kdc.Now()
	}
	auth := messages.Authenticator{
		CRealm: r.tgt.Client.Realm, CName: r.tgt.Client.Name, CTime: now.Truncate(time.Second), CUSec: 5,
		Cksum: &messages.Checksum{Type: r.tgt.Key.ChecksumType(), Value: sum}, Subkey: subkey,
	}
	req.PAData = messages.MethodData{{
		Type:  messages.PA_TGS_REQ,
		Value: apReq(t, r.tgt, &auth, enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR),
	}}
	if r.padata != nil {
		req.PAData = append(req.PAData, r.padata(subkey, req.Body.Nonce)...)
	}
	cred, _, err := open(t, kdc.Handle(req.Marshal()), subkey, enctype.KEY_USAGE_TGS_REP_SUBKEY)
	return cred, err
}

func apReq(t *testing.T, cred *messages.Credential, auth *messages.Authenticator, usage enctype.Usage) []byte {
	t.Helper()
	ticket, err := messages.ParseTicket(cred.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	req := messages.APReq{Ticket: *ticket, Authenticator: seal(t, cred.Key, usage, auth.Marshal())}
	return req.Marshal()
}

func service(text string) messages.PrincipalName {
	p, err := messages.ParsePrincipal(text, "X")
	if err != nil {
		panic(err)
	}
	p.Name.NameType = messages.KRB_NT_SRV_INST
	return p.Name
}

// ticket gets alice's ticket for the web server of a site.
func (s *site) ticket(t *testing.T) *messages.Credential {
	t.Helper()
	tgt := login(t, s.kdc, "CORP.EXAMPLE", "alice", "secret")
	cred, err := tgsRequest{tgt: tgt, realm: "CORP.EXAMPLE", service: service("HTTP/web.corp.example")}.ask(t, s.kdc)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// initiator makes context tokens; tests may set wrong fields.
type initiator struct {
	cred      *messages.Credential
	now       time.Time
	bindings  [16]byte
	flags     uint32
	claimsCBT bool
	change    func(*messages.Authenticator)
	cusec     int32
}

// token returns a token in SPNEGO; each has a different time.
func (i *initiator) token(t *testing.T) []byte {
	t.Helper()
	raw := i.raw(t)
	return append(spnego.AppendInitPrefix(nil, len(raw)), raw...)
}

func (i *initiator) raw(t *testing.T) []byte {
	t.Helper()
	i.cusec++
	sum := binary.LittleEndian.AppendUint32(nil, 16)
	sum = append(sum, i.bindings[:]...)
	sum = binary.LittleEndian.AppendUint32(sum, i.flags)
	now := i.now
	if now.IsZero() {
		now = time.Now()
	}
	auth := messages.Authenticator{
		CRealm: i.cred.Client.Realm, CName: i.cred.Client.Name, CTime: now.Truncate(time.Second).UTC(), CUSec: i.cusec,
		Cksum: &messages.Checksum{Type: 0x8003, Value: sum}, SeqNumber: 1, HasSeqNumber: true,
	}
	if i.claimsCBT {
		auth.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{
			Type: messages.AD_AUTH_DATA_AP_OPTIONS, Value: []byte{0, 0x40, 0, 0},
		})}
	}
	if i.change != nil {
		i.change(&auth)
	}
	req := apReq(t, i.cred, &auth, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR)
	return der.Append(nil, der.Application(0), func(dst []byte) []byte {
		dst = der.AppendOID(dst, []byte(spnego.KRB5))
		return append(append(dst, 1, 0), req...)
	})
}

// message returns the Kerberos message of an acceptor's reply.
func message(t *testing.T, reply []byte) (spnego.NegTokenResp, []byte) {
	t.Helper()
	resp, err := spnego.ParseReply(reply)
	if err != nil {
		t.Fatalf("%v: %x", err, reply)
	}
	if resp.ResponseToken == nil {
		return *resp, nil
	}
	s := der.String(resp.ResponseToken)
	var body der.String
	var oid []byte
	var id uint16
	if !s.ReadASN1(&body, der.Application(0)) || !der.ReadOID(&body, &oid) || !body.ReadUint16(&id) {
		t.Fatalf("token is not framed: %x", resp.ResponseToken)
	}
	return *resp, body
}

// stream is a TCP connection to a KDC.
type stream struct{ net.Conn }

func dialStream(t *testing.T, kdc *kdctest.KDC) stream {
	t.Helper()
	c, err := net.Dial("tcp", kdc.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return stream{c}
}

func (s stream) send(t *testing.T, message []byte) {
	t.Helper()
	if _, err := s.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)); err != nil {
		t.Fatal(err)
	}
}

func (s stream) receive() ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(s, prefix[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > 1<<20 {
		return nil, errors.New("absurd length")
	}
	message := make([]byte, size)
	n, err := io.ReadFull(s, message)
	return message[:n], err
}

// datagrams is a UDP socket to a KDC.
type datagrams struct{ net.Conn }

func dialDatagrams(t *testing.T, kdc *kdctest.KDC) datagrams {
	t.Helper()
	c, err := net.Dial("udp", kdc.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return datagrams{c}
}

func (d datagrams) send(t *testing.T, message []byte) {
	t.Helper()
	if _, err := d.Write(message); err != nil {
		t.Fatal(err)
	}
}

func (d datagrams) receive(t *testing.T) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := d.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}
