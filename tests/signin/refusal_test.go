package signin

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// refusals are tokens that are not good, and what the log says of each.
var refusals = []struct {
	name           string
	result, reason string
	token          func(e *env) []byte
}{
	{"ticket for another service", "bad_token", "wrong_service", func(e *env) []byte {
		return caddytest.NewUser(e.T, e.KDC, "alice@"+realmName, password, caddytest.Service).Token(caddytest.Authenticator{})
	}},
	{"expired ticket", "bad_token", "expired", func(e *env) []byte {
		return e.forged(func(p *messages.EncTicketPart) { p.EndTime = time.Now().Add(-6 * time.Minute) })
	}},
	{"ticket that is not yet valid", "clock", "not_yet_valid", func(e *env) []byte {
		return e.forged(func(p *messages.EncTicketPart) { p.StartTime = time.Now().Add(6 * time.Minute) })
	}},
	{"clock six minutes behind", "clock", "skew", func(e *env) []byte {
		return e.user("alice").Token(caddytest.Authenticator{Offset: -6 * time.Minute})
	}},
	{"clock six minutes ahead", "clock", "skew", func(e *env) []byte {
		return e.user("alice").Token(caddytest.Authenticator{Offset: 6 * time.Minute})
	}},
	{"token from before the start", "replay", "before_start", func(e *env) []byte {
		return e.user("alice").Token(caddytest.Authenticator{Offset: -4 * time.Minute})
	}},
	{"RC4 ticket", "bad_token", "weak_etype", func(e *env) []byte {
		rc4 := must.OK(enctype.GenerateKey(enctype.RC4_HMAC, rand.Reader))(e.T)
		return e.sealed(rc4, 1, nil)
	}},
	{"unknown version of the key", "bad_token", "unknown_kvno", func(e *env) []byte { return e.sealed(e.key(), 99, nil) }},
	{"another key", "bad_token", "wrong_key", func(e *env) []byte {
		return e.sealed(must.OK(enctype.GenerateKey(e.key().EType(), rand.Reader))(e.T), 1, nil)
	}},
	{"client of a realm whose path is not verified", "bad_token", "bad_path", func(e *env) []byte {
		return e.forged(func(p *messages.EncTicketPart) {
			p.CRealm, p.Transited.Contents = "FAR.EXAMPLE", []byte("MIDDLE.EXAMPLE")
			p.Flags &^= messages.TKT_FLG_TRANSITED_POLICY_CHECKED
		})
	}},
	{"user-to-user", "bad_token", "user_to_user", func(e *env) []byte {
		return e.changed(func(r *messages.APReq) { r.APOptions |= messages.AP_OPTS_USE_SESSION_KEY })
	}},
	{"authenticator of another", "bad_token", "bad_authenticator", func(e *env) []byte {
		return e.changed(func(r *messages.APReq) { r.Authenticator.Cipher[20] ^= 1 })
	}},
	{"NTLM type 1", "not_kerberos", "ntlm", func(*env) []byte { return []byte("NTLMSSP\x00\x01\x00\x00\x00\x07\x82\x08\xa2") }},
	{"NTLM type 3", "not_kerberos", "ntlm", func(*env) []byte { return append([]byte("NTLMSSP\x00\x03\x00\x00\x00"), make([]byte, 80)...) }},
	{"NTLM in SPNEGO", "not_kerberos", "ntlm", func(*env) []byte {
		return negTokenInit(tlv(0x30, []byte(ntlmOID)), []byte("NTLMSSP\x00\x01\x00\x00\x00"))
	}},
	{"NTLM first and Kerberos second", "not_kerberos", "not_preferred", func(e *env) []byte { return e.ntlmFirst() }},
	{"continuation", "bad_token", "not_first", func(*env) []byte {
		resp := spnego.NegTokenResp{State: spnego.AcceptIncomplete}
		return resp.Append(nil)
	}},
	{"garbage", "bad_token", "malformed", func(*env) []byte { return []byte(strings.Repeat("garbage", 100)) }},
	{"cut token", "bad_token", "malformed", func(e *env) []byte {
		token := e.user("alice").Token(caddytest.Authenticator{})
		return token[:len(token)-1]
	}},
	{"channel bindings on plain HTTP", "bad_binding", "bindings_wrong", func(e *env) []byte {
		return e.user("alice").Token(caddytest.Authenticator{Bindings: gss.ChannelBindings{1}})
	}},
}

// Every refusal is 401 with a bare challenge; the log has the cause and a remedy.
func TestRefusals(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	for _, row := range refusals {
		t.Run(row.name, func(t *testing.T) {
			address := newAddress()
			a := e.Get("/", from(address), caddytest.Bearing(row.token(e)))
			wantChallenge(t, a)
			if !strings.HasPrefix(a.Body, "401 ") {
				t.Errorf("handle_errors does not show %q", a.Body)
			}
			e.wantLogged("client not signed in", `"client_ip":"`+address+`"`, `"result":"`+row.result+`"`, `"reason":"`+row.reason+`"`, `"remedy":"`)
		})
	}
	wantUser(t, e.get(e.user("alice").SignIn), "alice")
	if secret := base64.StdEncoding.EncodeToString(e.user("alice").Ticket.Ticket[:48]); e.Log.Contains(secret) {
		t.Error("the log holds a ticket")
	}
}

// key is the key that the KDC encrypts tickets for the service with.
func (e *env) key() enctype.Key {
	e.T.Helper()
	ticket := must.OK(messages.ParseTicket(e.user("alice").Ticket.Ticket))(e.T)
	key, ok := must.OK(keytab.Parse(e.KeysOf(e.Proxy)))(e.T).Key(must.OK(messages.ParsePrincipal(caddytest.Principal, ""))(e.T), ticket.EncPart.EType, 0)
	if !ok {
		e.T.Fatal("no key")
	}
	return key
}

// forged is a token with alice's ticket, which was changed by someone who has the service's key.
func (e *env) forged(change func(*messages.EncTicketPart)) []byte {
	return e.sealed(e.key(), 1, change)
}

// sealed is a token with alice's ticket under a key of a version.
func (e *env) sealed(key enctype.Key, kvno uint32, change func(*messages.EncTicketPart)) []byte {
	e.T.Helper()
	alice := e.user("alice")
	ticket := must.OK(messages.ParseTicket(alice.Ticket.Ticket))(e.T)
	part := must.OK(messages.ParseEncTicketPart(must.OK(e.key().Decrypt(enctype.KEY_USAGE_TICKET, ticket.EncPart.Cipher))(e.T)))(e.T)
	client := alice.Ticket.Client
	if change != nil {
		change(part)
		client.Realm = part.CRealm
	}
	forged := messages.Ticket{Realm: ticket.Realm, SName: ticket.SName, EncPart: messages.EncryptedData{
		EType: key.EType(), KVNO: kvno, HasKVNO: true, Cipher: must.OK(key.Encrypt(rand.Reader, enctype.KEY_USAGE_TICKET, part.Marshal()))(e.T),
	}}
	user := *alice
	copied := *alice.Ticket
	copied.Ticket, copied.Client = forged.Marshal(), client
	user.Ticket = &copied
	return user.Token(caddytest.Authenticator{})
}

// changed is a token of alice whose AP-REQ was changed.
func (e *env) changed(change func(*messages.APReq)) []byte {
	e.T.Helper()
	token := e.user("alice").Token(caddytest.Authenticator{Bare: true})
	req := must.OK(messages.ParseAPReq(must.OK(gss.ParseToken(token))(e.T).Body))(e.T)
	change(req)
	return gss.AppendToken(nil, gss.TOK_AP_REQ, req.Marshal())
}

// ntlmFirst is alice's token in an offer that prefers NTLM.
func (e *env) ntlmFirst() []byte {
	e.T.Helper()
	token := e.user("alice").Token(caddytest.Authenticator{})
	init := must.OK(spnego.ParseInit(token))(e.T)
	raw := init.RawMechTypes
	return negTokenInit(tlv(0x30, append([]byte(ntlmOID), raw[headerLen(raw):]...)), init.MechToken)
}

const ntlmOID = "\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"

// negTokenInit is the first message of SPNEGO (RFC 4178, Section 4.2.1).
func negTokenInit(mechTypes, token []byte) []byte {
	body := append(tlv(0xa0, mechTypes), tlv(0xa2, tlv(0x04, token))...)
	oid := []byte("\x06\x06\x2b\x06\x01\x05\x05\x02")
	return tlv(0x60, append(oid, tlv(0xa0, tlv(0x30, body))...))
}

// tlv is DER.
func tlv(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

func headerLen(b []byte) int {
	if b[1] < 0x80 {
		return 2
	}
	return 2 + int(b[1]&0x7f)
}

// Every bit of the PAC is signed for the service.
func TestRefusals_ForgedPAC(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	e.user("alice")
	bits := 0
	for at := 0; ; at += 97 { // a spread of them; package accept tries each
		end := false
		token := e.forged(func(p *messages.EncTicketPart) {
			inner := must.OK(messages.ParseAuthorizationData(p.AuthorizationData[0].Value))(t)
			pac := inner[0].Value
			if at >= len(pac) {
				end = true
				return
			}
			pac[at] ^= 1 << (at % 8)
			p.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: pac})}
		})
		if end {
			break
		}
		bits++
		a := e.get(caddytest.Bearing(token))
		wantChallenge(t, a)
	}
	if bits < 5 {
		t.Fatalf("%d bits only", bits)
	}
	e.wantLogged("client not signed in", `"reason":"bad_pac"`)
}

// A header that is too large is Caddy's own 431.
func TestRefusals_LongHeader(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	a := e.get(func(r *http.Request) { r.Header.Set("Authorization", "Negotiate "+strings.Repeat("A", 1<<20)) })
	if a.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %v", a)
	}
}

func TestReplay(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	token := e.user("alice").Token(caddytest.Authenticator{})
	replay := caddytest.Bearing(token)
	// Sixteen at once: one of them is the first.
	signedIn := make(chan bool, 16)
	caddytest.All(t, 16, 16, func(int) error {
		a, err := caddytest.Ask(e.Client(), e.Request(http.MethodGet, "/", from("10.9.9.9"), replay))
		signedIn <- a.Status == http.StatusOK
		return err
	})
	n := 0
	for range 16 {
		if <-signedIn {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of 16 copies of a token signed in", n)
	}
	wantChallenge(t, e.get(replay))
	e.load(e.auth(spnLine), "header X-Reloaded yes", who)
	wantChallenge(t, e.get(replay))
	// Another block with the same key, and another identity of it.
	e.load(caddytest.Block("handle /a*", e.auth(spnLine), who), caddytest.Block("handle",
		caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "user "+caddytest.Principal, "password `"+caddytest.Password+"`", spnLine), who))
	for _, path := range []string{"/a", "/b"} {
		wantChallenge(t, e.Get(path, from(newAddress()), replay))
	}
	e.wantLogged("client not signed in", `"reason":"replay"`, `"user_id":"alice@CORP.EXAMPLE"`)
	wantUser(t, e.Get("/b", from(newAddress()), e.user("alice").SignIn), "alice")
}

// When the replay cache of the account's key is full, clients are told when to try again, and nothing is
// forgotten.
func TestReplaysFull(t *testing.T) {
	if os.Getenv(caddytest.LongEnv) != "1" {
		t.Skip("1.7 million tokens: in long runs only")
	}
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	alice := e.user("alice")
	first := caddytest.Bearing(alice.Token(caddytest.Authenticator{}))
	wantUser(t, e.get(first), "alice")
	// Another acceptor of this process, with the same key.
	acceptor := must.OK(accept.New(accept.Config{Keys: oneKey{must.OK(accept.NewKey(e.key(), 1))(t)}}))(t)
	var full atomic.Bool
	for i := 0; !full.Load(); i++ {
		if i == 100 {
			t.Fatal("not full after two million tokens")
		}
		caddytest.All(t, 20_000, 4, func(int) error {
			_, err := acceptor.Accept(accept.Request{Token: alice.Token(caddytest.Authenticator{NoMutual: true})})
			if refused, ok := errors.AsType[*accept.Error](err); ok && refused.Reason == accept.ReplaysFull {
				full.Store(true)
				return nil
			}
			return err
		})
	}
	if a := e.get(alice.SignIn); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") != "5" || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%v, Retry-After %q", a, a.Header.Get("Retry-After"))
	}
	e.wantLogged("client not signed in", `"result":"throttled"`, `"reason":"replays_full"`, "set session")
	wantChallenge(t, e.get(first))
	e.wantLogged("client not signed in", `"reason":"replay"`)
}

// oneKey is the key of every service.
type oneKey []*accept.Key

func (k oneKey) KeysFor(messages.Principal) []*accept.Key { return k }

func TestThrottle(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	address := newAddress()
	alice := e.user("alice")
	bad := func(i int) func(*http.Request) { return caddytest.Bearing(fmt.Appendf(nil, "garbage %d", i)) }
	for range 40 { // good tokens, no tokens and NTLM never count
		wantUser(t, e.Get("/", from(address), alice.SignIn), "alice")
		wantChallenge(t, e.Get("/", from(address)))
		wantChallenge(t, e.Get("/", from(address), caddytest.Bearing([]byte("NTLMSSP\x00\x01\x00\x00\x00"))))
	}
	var last caddytest.Answer
	refused := 0
	for i := range 200 {
		if last = e.Get("/", from(address), bad(i)); last.Status == http.StatusTooManyRequests {
			break
		}
		wantChallenge(t, last)
		refused++
	}
	if refused < 20 || last.Status != http.StatusTooManyRequests || last.Header.Get("Retry-After") != "1" || !strings.HasPrefix(last.Body, "429") {
		t.Fatalf("after %d failures: %v", refused, last)
	}
	wantUser(t, e.get(alice.SignIn), "alice") // from elsewhere
	if a := e.Get("/", from("2001:db8:1:2::1")); a.Status != http.StatusUnauthorized {
		t.Fatal(a)
	}
	for i := range 200 { // an IPv6 client has a whole /64
		if last = e.Get("/", from(fmt.Sprintf("2001:db8:1:2::%x", i+1)), bad(i)); last.Status == http.StatusTooManyRequests {
			break
		}
	}
	if last.Status != http.StatusTooManyRequests {
		t.Errorf("IPv6: %v", last)
	}
	wantUser(t, e.Get("/", from("2001:db8:1:3::1"), alice.SignIn), "alice")
}

// Neither log, nor configuration, nor metrics have a secret of the account.
func TestSecretsStay(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	file := e.Write("password", []byte(caddytest.Password))
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "user "+caddytest.Principal, "password_file "+file, spnLine), who)
	wantUser(t, e.get(e.user("alice").SignIn), "alice")
	if e.Log.Contains(caddytest.Password) {
		t.Error("the log has the password")
	}
	err := filepath.WalkDir(e.Storage(), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(caddytest.ReadFile(t, path), caddytest.Password) {
			t.Errorf("%s has the password", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
