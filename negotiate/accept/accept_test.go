package accept_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const realm = "CORP.EXAMPLE"

var now = time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)

// keys are the keys of one account, for the services that it has.
type keys map[string][]*accept.Key

func (k keys) KeysFor(service messages.Principal) []*accept.Key { return k[service.String()] }

func newKey(tb testing.TB, id enctype.ID) enctype.Key {
	tb.Helper()
	return must.OK(enctype.GenerateKey(id, rand.Reader))(tb)
}

func principal(tb testing.TB, text string) messages.Principal {
	tb.Helper()
	return must.OK(messages.ParsePrincipal(text, realm))(tb)
}

// token is what a client sends, field by field.
type token struct {
	key     enctype.Key // of the service
	kvno    uint32      // 0: none
	service messages.Principal
	ticket  messages.EncTicketPart
	auth    messages.Authenticator
	sum     gss.Checksum
	options messages.APOptions
	// changes of what is made of these.
	value func(checksum []byte) []byte
	req   func(*messages.APReq)
	frame func(apReq []byte) []byte // nil: SPNEGO
}

// world is an account, its acceptor and a client.
type world struct {
	tb  testing.TB
	key enctype.Key
	cfg accept.Config
}

const service = "HTTP/web.corp.example"

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, key: newKey(tb, enctype.AES256_CTS_HMAC_SHA1_96)}
	w.cfg = accept.Config{
		Keys:    keys{service + "@" + realm: {must.OK(accept.NewKey(w.key, 3))(tb)}},
		Replays: accept.NewReplays(accept.ReplayMemory, time.Time{}),
		Now:     func() time.Time { return now },
	}
	return w
}

func (w *world) acceptor() *accept.Acceptor {
	w.tb.Helper()
	return must.OK(accept.New(w.cfg))(w.tb)
}

// token is a good one, until it is changed.
func (w *world) token() *token {
	w.tb.Helper()
	alice := principal(w.tb, "alice")
	t := &token{key: w.key, kvno: 3, service: principal(w.tb, service)}
	t.ticket = messages.EncTicketPart{
		Flags: messages.TKT_FLG_FORWARDABLE | messages.TKT_FLG_PRE_AUTHENT, Key: newKey(w.tb, enctype.AES256_CTS_HMAC_SHA1_96),
		CRealm: realm, CName: alice.Name, Transited: messages.TransitedEncoding{TRType: messages.DOMAIN_X500_COMPRESS},
		AuthTime: now.Add(-time.Hour), StartTime: now.Add(-time.Minute), EndTime: now.Add(time.Hour), RenewTill: now.Add(24 * time.Hour),
	}
	t.auth = messages.Authenticator{
		CRealm: realm, CName: alice.Name, CTime: now, CUSec: 17, Subkey: newKey(w.tb, enctype.AES256_CTS_HMAC_SHA1_96),
		SeqNumber: 99, HasSeqNumber: true,
	}
	t.sum.Flags = gss.GSS_C_MUTUAL_FLAG
	return t
}

func (t *token) bytes(tb testing.TB) []byte {
	tb.Helper()
	auth := t.auth
	if auth.Cksum == nil {
		value := t.sum.Append(nil)
		if t.value != nil {
			value = t.value(value)
		}
		auth.Cksum = &messages.Checksum{Type: gss.CKSUMTYPE_GSS, Value: value}
	}
	cipher := must.OK(t.key.Encrypt(rand.Reader, enctype.KEY_USAGE_TICKET, t.ticket.Marshal()))(tb)
	sealed := must.OK(t.ticket.Key.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, auth.Marshal()))(tb)
	req := messages.APReq{
		APOptions: t.options,
		Ticket: messages.Ticket{
			Realm: t.service.Realm, SName: t.service.Name,
			EncPart: messages.EncryptedData{EType: t.key.EType(), KVNO: t.kvno, HasKVNO: t.kvno != 0, Cipher: cipher},
		},
		Authenticator: messages.EncryptedData{EType: t.ticket.Key.EType(), Cipher: sealed},
	}
	if t.req != nil {
		t.req(&req)
	}
	framed := gss.AppendToken(nil, gss.TOK_AP_REQ, req.Marshal())
	if t.frame != nil {
		return t.frame(framed)
	}
	return append(spnego.AppendInitPrefix(nil, len(framed)), framed...)
}

// bare sends the token without SPNEGO.
func bare(framed []byte) []byte { return framed }

// apRep opens the answer to a token.
func (t *token) apRep(tb testing.TB, responseToken []byte) *messages.EncAPRepPart {
	tb.Helper()
	framed := must.OK(gss.ParseToken(responseToken))(tb)
	rep := must.OK(messages.ParseAPRep(framed.Body))(tb)
	plain := must.OK(t.ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher))(tb)
	return must.OK(messages.ParseEncAPRepPart(plain))(tb)
}

func reasonOf(tb testing.TB, err error) accept.Reason {
	tb.Helper()
	if err == nil {
		return 0
	}
	var refusal *accept.Error
	if !errors.As(err, &refusal) {
		tb.Fatalf("not an *accept.Error: %v", err)
	}
	return refusal.Reason
}

func TestAccept_SPNEGO(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	if result.Client.String() != "alice@CORP.EXAMPLE" || result.Account != nil || result.Bound || result.Flags != gss.GSS_C_MUTUAL_FLAG {
		t.Errorf("%+v", result)
	}
	resp := must.OK(spnego.ParseResp(result.Token))(t)
	if resp.State != spnego.AcceptCompleted || resp.SupportedMech != spnego.KRB5 || resp.MechListMIC != nil {
		t.Errorf("answer %+v", resp)
	}
	part := sent.apRep(t, resp.ResponseToken)
	if !part.CTime.Equal(sent.auth.CTime) || part.CUSec != sent.auth.CUSec || part.Subkey.IsZero() || part.SeqNumber != 99 {
		t.Errorf("AP-REP %+v", part)
	}
}

func TestAccept_Evidence(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	b := sent.bytes(t)
	want := must.OK(messages.ParseAPReq(must.OK(gss.ParseToken(must.OK(spnego.ParseInit(bytes.Clone(b)))(t).MechToken))(t).Body))(t).Ticket.Marshal()
	result := must.OK(w.acceptor().Accept(accept.Request{Token: b}))(t)
	clear(b) // nothing of the token is kept
	e := result.Evidence
	if !bytes.Equal(e.Ticket, want) || !e.Key.Equal(sent.ticket.Key) || e.Flags != sent.ticket.Flags ||
		e.Client.String() != "alice@CORP.EXAMPLE" || e.Service.String() != service+"@"+realm {
		t.Errorf("%+v", e)
	}
	if !e.AuthTime.Equal(sent.ticket.AuthTime) || !e.StartTime.Equal(sent.ticket.StartTime) ||
		!e.EndTime.Equal(sent.ticket.EndTime) || !e.RenewTill.Equal(sent.ticket.RenewTill) {
		t.Errorf("times %s %s %s %s", e.AuthTime, e.StartTime, e.EndTime, e.RenewTill)
	}
}

func TestAccept_Bare(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.frame = bare
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	sent.apRep(t, result.Token)
	// Without mutual authentication there is nothing to answer.
	sent.auth.CUSec++
	sent.sum.Flags = 0
	if result = must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t); result.Token != nil {
		t.Errorf("answer %x", result.Token)
	}
}

// As Chromium sends it, on Linux.
func TestAccept_NoMutualAuthentication(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.sum.Flags = gss.GSS_C_CONF_FLAG | gss.GSS_C_INTEG_FLAG
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	resp := must.OK(spnego.ParseResp(result.Token))(t)
	if resp.State != spnego.AcceptCompleted || resp.SupportedMech != spnego.KRB5 || resp.ResponseToken != nil {
		t.Errorf("%+v", resp)
	}
	sent.auth.CUSec++
	sent.options = messages.AP_OPTS_MUTUAL_REQUIRED
	result = must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	sent.apRep(t, must.OK(spnego.ParseResp(result.Token))(t).ResponseToken)
}

func TestAccept_DelegatedTicketIsDropped(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.sum.Flags |= gss.GSS_C_DELEG_FLAG
	sent.sum.DelegatedCred = bytes.Repeat([]byte{1}, 1<<16-1)
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	if result.Flags&gss.GSS_C_DELEG_FLAG == 0 {
		t.Errorf("flags %x", result.Flags)
	}
}

// refusals has a token for each reason, and what it takes besides.
var refusals = []struct {
	name   string
	reason accept.Reason
	change func(w *world, t *token)
}{
	{"user-to-user", accept.UserToUser, func(_ *world, t *token) { t.options = messages.AP_OPTS_USE_SESSION_KEY }},
	{"a service of another class", accept.WrongService, func(w *world, t *token) {
		t.service = principal(w.tb, "ldap/web.corp.example")
		w.cfg.Keys = keys{t.service.String(): w.cfg.Keys.KeysFor(principal(w.tb, service))}
	}},
	{"HTTP of three components", accept.WrongService, func(w *world, t *token) {
		t.service.Name = messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "web.corp.example", "x")
		w.cfg.Keys = keys{t.service.String(): w.cfg.Keys.KeysFor(principal(w.tb, service))}
	}},
	{"a service that is not configured", accept.WrongService, func(w *world, _ *token) {
		w.cfg.Services = []messages.Principal{principal(w.tb, "HTTP/other.corp.example")}
	}},
	{"a service of another realm", accept.WrongService, func(w *world, t *token) {
		t.service.Realm = "OTHER.EXAMPLE"
		w.cfg.Keys = keys{t.service.String(): w.cfg.Keys.KeysFor(principal(w.tb, service))}
		w.cfg.Services = []messages.Principal{principal(w.tb, service)}
	}},
	{"a service without keys", accept.WrongService, func(w *world, _ *token) { w.cfg.Keys = keys{} }},
	{"RC4 ticket", accept.WeakEType, func(w *world, t *token) { w.key = t.useKey(w, enctype.RC4_HMAC) }},
	{"DES ticket", accept.WeakEType, func(w *world, t *token) { w.key = t.useKey(w, enctype.DES_CBC_MD5) }},
	{"RC4 session key", accept.WeakEType, func(w *world, t *token) { t.ticket.Key = newKey(w.tb, enctype.RC4_HMAC) }},
	{"no key of the type", accept.NoKey, func(w *world, t *token) { t.key = newKey(w.tb, enctype.AES128_CTS_HMAC_SHA1_96) }},
	{"unknown version", accept.UnknownVersion, func(_ *world, t *token) { t.kvno = 4 }},
	{"another key of the version", accept.WrongKey, func(w *world, t *token) { t.key = newKey(w.tb, w.key.EType()) }},
	{"changed ticket", accept.WrongKey, func(_ *world, t *token) { t.req = func(r *messages.APReq) { r.Ticket.EncPart.Cipher[20] ^= 1 } }},
	{"ticket that is none", accept.WrongKey, func(w *world, t *token) {
		t.req = func(r *messages.APReq) {
			r.Ticket.EncPart.Cipher = must.OK(w.key.Encrypt(rand.Reader, enctype.KEY_USAGE_TICKET, []byte("garbage")))(w.tb)
		}
	}},
	{"ticket under another usage", accept.WrongKey, func(w *world, t *token) {
		t.req = func(r *messages.APReq) {
			r.Ticket.EncPart.Cipher = must.OK(w.key.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REP, t.ticket.Marshal()))(w.tb)
		}
	}},
	{"another session key", accept.BadAuthenticator, func(w *world, t *token) {
		t.req = func(r *messages.APReq) {
			r.Authenticator.Cipher = must.OK(newKey(w.tb, w.key.EType()).Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, t.auth.Marshal()))(w.tb)
		}
	}},
	{"authenticator of a TGS-REQ", accept.BadAuthenticator, func(w *world, t *token) {
		t.req = func(r *messages.APReq) {
			r.Authenticator.Cipher = must.OK(t.ticket.Key.Encrypt(rand.Reader, enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, t.auth.Marshal()))(w.tb)
		}
	}},
	{"authenticator of another type", accept.BadAuthenticator, func(_ *world, t *token) {
		t.req = func(r *messages.APReq) { r.Authenticator.EType = enctype.AES128_CTS_HMAC_SHA1_96 }
	}},
	{"authenticator that is none", accept.BadAuthenticator, func(w *world, t *token) {
		t.req = func(r *messages.APReq) {
			r.Authenticator.Cipher = must.OK(t.ticket.Key.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, []byte("garbage")))(w.tb)
		}
	}},
	{"a million microseconds", accept.BadAuthenticator, func(_ *world, t *token) { t.auth.CUSec = 1_000_000 }},
	{"minus a million microseconds", accept.BadAuthenticator, func(_ *world, t *token) { t.auth.CUSec = -1_000_000 }},
	{"another client", accept.Mismatch, func(w *world, t *token) { t.auth.CName = principal(w.tb, "bob").Name }},
	{"a client of another realm", accept.Mismatch, func(_ *world, t *token) { t.auth.CRealm = "OTHER.EXAMPLE" }},
	{"clock behind", accept.Skew, func(_ *world, t *token) { t.auth.CTime = now.Add(-5*time.Minute - time.Second) }},
	{"clock ahead", accept.Skew, func(_ *world, t *token) { t.auth.CTime = now.Add(5 * time.Minute) }}, // and 17 us
	{"ticket that begins later", accept.NotYetValid, func(_ *world, t *token) { t.ticket.StartTime = now.Add(5*time.Minute + time.Second) }},
	{"ticket without a beginning, of a later login", accept.NotYetValid, func(_ *world, t *token) {
		t.ticket.StartTime, t.ticket.AuthTime = time.Time{}, now.Add(5*time.Minute+time.Second)
	}},
	{"invalid ticket", accept.NotYetValid, func(_ *world, t *token) { t.ticket.Flags |= messages.TKT_FLG_INVALID }},
	{"expired ticket", accept.Expired, func(_ *world, t *token) { t.ticket.EndTime = now.Add(-5*time.Minute - time.Second) }},
	{"anonymous by its flag", accept.Anonymous, func(_ *world, t *token) { t.ticket.Flags |= messages.TKT_FLG_ANONYMOUS }},
	{"anonymous by its name", accept.Anonymous, func(_ *world, t *token) {
		t.ticket.CName = messages.NewPrincipalName(messages.KRB_NT_WELLKNOWN, "WELLKNOWN", "ANONYMOUS")
		t.auth.CName = t.ticket.CName
	}},
	{"a client without a name", accept.Anonymous, func(_ *world, t *token) { t.ticket.CName.NameString, t.auth.CName.NameString = nil, nil }},
	{"ticket for an address, client's unknown", accept.BadAddress, func(_ *world, t *token) {
		t.ticket.CAddr = []messages.HostAddress{{AddrType: messages.ADDRTYPE_IPV4, Address: []byte{192, 0, 2, 1}}}
	}},
	{"ticket for an address of an unknown type", accept.BadAddress, func(_ *world, t *token) {
		t.ticket.CAddr = []messages.HostAddress{{AddrType: 99, Address: []byte{192, 0, 2, 1}}}
	}},
	{"ticket over realms not verified", accept.BadPath, func(_ *world, t *token) {
		t.ticket.CRealm, t.auth.CRealm = "FAR.EXAMPLE", "FAR.EXAMPLE"
		t.ticket.Transited.Contents = []byte("MIDDLE.EXAMPLE")
	}},
	{"no checksum", accept.NoChecksum, func(_ *world, t *token) { t.auth.Cksum = &messages.Checksum{Type: 7} }},
	{"checksum cut short", accept.BadChecksum, func(_ *world, t *token) { t.value = func(b []byte) []byte { return b[:23] } }},
	{"bindings of another length", accept.BadChecksum, func(_ *world, t *token) {
		t.value = func(b []byte) []byte { b[0] = 15; return b }
	}},
	{"delegation without data", accept.BadChecksum, func(_ *world, t *token) {
		t.value = func(b []byte) []byte { binary.LittleEndian.PutUint32(b[20:], 1); return b }
	}},
	{"delegation of another option", accept.BadChecksum, func(_ *world, t *token) {
		t.sum.Flags |= gss.GSS_C_DELEG_FLAG
		t.value = func(b []byte) []byte { b[24] = 2; return b }
	}},
	{"delegation longer than its data", accept.BadChecksum, func(_ *world, t *token) {
		t.sum.Flags |= gss.GSS_C_DELEG_FLAG
		t.sum.DelegatedCred = []byte("cred")
		t.value = func(b []byte) []byte { b[26]++; return b }
	}},
	{"two PACs", accept.BadPAC, func(w *world, t *token) {
		t.addPAC(w, kdctest.PAC{})
		t.ticket.AuthorizationData = slices.Repeat(t.ticket.AuthorizationData, 2)
	}},
	{"PAC signed by another", accept.BadPAC, func(w *world, t *token) {
		right := w.key
		w.key = newKey(w.tb, enctype.AES256_CTS_HMAC_SHA1_96)
		t.addPAC(w, kdctest.PAC{})
		w.key = right
	}},
	{"PAC of another client", accept.BadPAC, func(w *world, t *token) { t.addPAC(w, kdctest.PAC{Client: "bob"}) }},
	{"PAC of another login", accept.BadPAC, func(w *world, t *token) { t.addPAC(w, kdctest.PAC{AuthTime: now}) }},
	{"wrong MIC", accept.BadMIC, func(w *world, t *token) {
		t.frame = func(framed []byte) []byte {
			return negTokenInit(framed, append(t.mic(w.tb), 1), spnego.KRB5, spnego.NTLMSSP)
		}
	}},
	{"MIC of another list", accept.BadMIC, func(w *world, t *token) {
		t.frame = func(framed []byte) []byte { return negTokenInit(framed, t.mic(w.tb), spnego.KRB5) }
	}},
}

// useKey changes the service's key.
func (t *token) useKey(w *world, id enctype.ID) enctype.Key {
	w.tb.Helper()
	t.key = newKey(w.tb, id)
	w.cfg.Keys = keys{t.service.String(): {must.OK(accept.NewKey(t.key, t.kvno))(w.tb)}}
	return t.key
}

func TestAccept_Refusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			sent := w.token()
			c.change(w, sent)
			result, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(t)})
			if result != nil || reasonOf(t, err) != c.reason {
				t.Fatalf("%+v, %v; want %s", result, err, c.reason)
			}
			var refusal *accept.Error
			errors.As(err, &refusal)
			resp := must.OK(spnego.ParseResp(refusal.Token))(t)
			if resp.State != spnego.Reject {
				t.Errorf("answer %+v", resp)
			}
			if refusal.Code() == 0 {
				return
			}
			e := must.OK(messages.ParseKRBError(must.OK(gss.ParseToken(resp.ResponseToken))(t).Body))(t)
			if e.ErrorCode != refusal.Code() || !e.STime.Equal(now) || e.EText != "" || !e.SName.Equal(sent.service.Name) {
				t.Errorf("KRB-ERROR %v", e)
			}
		})
	}
}

// A token that is refused leaves nothing behind: once what was wrong is right, it is good.
func TestAccept_RefusedTokenIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.sum.Bindings[0] = 1
	b := sent.bytes(t)
	a := w.acceptor()
	if _, err := a.Accept(accept.Request{Token: b, Bindings: func(gss.ChannelBindings) bool { return false }}); reasonOf(t, err) != accept.BindingsWrong {
		t.Fatal(err)
	}
	must.OK(a.Accept(accept.Request{Token: b, Bindings: func(gss.ChannelBindings) bool { return true }}))(t)
	if _, err := a.Accept(accept.Request{Token: b, Bindings: func(gss.ChannelBindings) bool { return true }}); reasonOf(t, err) != accept.Replay {
		t.Error(err)
	}
}

func TestAccept_ErrorFields(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.auth.CTime = now.Add(-6 * time.Minute)
	_, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(t)})
	var e *accept.Error
	if !errors.As(err, &e) || e.Client.String() != "alice@"+realm || e.Service.String() != service+"@"+realm || e.KVNO != 3 ||
		e.EType != w.key.EType() || e.Offset.Round(time.Second) != -6*time.Minute || e.Reason.String() != "skew" {
		t.Errorf("%+v", e)
	}
	sent = w.token()
	sent.auth.CTime, sent.key = now, newKey(t, w.key.EType())
	if _, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}); !errors.As(err, &e) || !e.Client.Name.IsZero() || e.Offset != 0 {
		t.Errorf("what is not verified: %+v", e)
	}
}

// Both limits of the skew are good.
func TestAccept_AtTheLimits(t *testing.T) {
	const skew = 5 * time.Minute
	for name, change := range map[string]func(w *world, t *token){
		"clock behind": func(_ *world, t *token) { t.auth.CTime, t.auth.CUSec = now.Add(-skew), 0 },
		"clock ahead":  func(_ *world, t *token) { t.auth.CTime, t.auth.CUSec = now.Add(skew), 0 },
		"just begun":   func(_ *world, t *token) { t.ticket.StartTime = now.Add(skew) },
		"just ended":   func(_ *world, t *token) { t.ticket.EndTime = now.Add(-skew) },
		"no kvno":      func(_ *world, t *token) { t.kvno = 0 },
		"8-bit kvno":   func(_ *world, t *token) { t.kvno = 259 },
		"no subkey":    func(_ *world, t *token) { t.auth.Subkey = enctype.Key{} },
		"another case": func(w *world, t *token) {
			w.cfg.Services = []messages.Principal{principal(w.tb, "http/WEB.corp.example")}
		},
		"any realm":    func(w *world, _ *token) { w.cfg.Services = []messages.Principal{{Name: principal(w.tb, service).Name}} },
		"same realm":   func(_ *world, t *token) { t.ticket.Transited.Contents = []byte("X") },
		"direct trust": func(_ *world, t *token) { t.ticket.CRealm, t.auth.CRealm = "FAR.EXAMPLE", "FAR.EXAMPLE" },
		"NetBIOS names": func(_ *world, t *token) {
			t.ticket.CAddr = []messages.HostAddress{{AddrType: messages.ADDRTYPE_NETBIOS, Address: []byte("PC")}}
		},
		"verified path": func(_ *world, t *token) {
			t.ticket.CRealm, t.auth.CRealm = "FAR.EXAMPLE", "FAR.EXAMPLE"
			t.ticket.Flags |= messages.TKT_FLG_TRANSITED_POLICY_CHECKED
			t.ticket.Transited.Contents = []byte("MIDDLE.EXAMPLE")
		},
		"configured service": func(w *world, t *token) {
			t.service = principal(w.tb, "ldap/web.corp.example")
			w.cfg.Services = []messages.Principal{t.service}
			w.cfg.Keys = keys{t.service.String(): w.cfg.Keys.KeysFor(principal(w.tb, service))}
		},
		"RC4 with leave": func(w *world, t *token) {
			w.key = t.useKey(w, enctype.RC4_HMAC)
			t.ticket.Key = newKey(w.tb, enctype.RC4_HMAC)
			w.cfg.ETypes = []enctype.ID{enctype.RC4_HMAC}
		},
		"DES with leave": func(w *world, t *token) {
			w.key = t.useKey(w, enctype.DES_CBC_MD5)
			w.cfg.ETypes = []enctype.ID{enctype.DES_CBC_MD5, enctype.AES256_CTS_HMAC_SHA1_96}
		},
		"an old key among new ones": func(w *world, t *token) {
			list := []*accept.Key{
				must.OK(accept.NewKey(newKey(w.tb, w.key.EType()), 0))(w.tb), must.OK(accept.NewKey(newKey(w.tb, w.key.EType()), 3))(w.tb),
				must.OK(accept.NewKey(newKey(w.tb, w.key.EType()), 4))(w.tb), must.OK(accept.NewKey(w.key, 3))(w.tb),
			}
			w.cfg.Keys = keys{t.service.String(): list}
		},
		"key of unknown version": func(w *world, t *token) {
			w.cfg.Keys = keys{t.service.String(): {must.OK(accept.NewKey(w.key, 0))(w.tb)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sent := w.token()
			change(w, sent)
			must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
		})
	}
}

func TestAccept_Addresses(t *testing.T) {
	for _, c := range []struct {
		from string
		good bool
	}{{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"192.0.2.2", false}, {"2001:db8::1", true}, {"2001:db8::2", false}} {
		w := newWorld(t)
		sent := w.token()
		six := netip.MustParseAddr("2001:db8::1").As16()
		sent.ticket.CAddr = []messages.HostAddress{
			{AddrType: messages.ADDRTYPE_NETBIOS, Address: []byte("PC")},
			{AddrType: messages.ADDRTYPE_IPV4, Address: []byte{192, 0, 2, 1}},
			{AddrType: messages.ADDRTYPE_IPV6, Address: six[:]},
		}
		_, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(t), Address: netip.MustParseAddr(c.from)})
		if good := err == nil; good != c.good || !good && reasonOf(t, err) != accept.BadAddress {
			t.Errorf("%s: %v", c.from, err)
		}
	}
}

func TestAccept_ChannelBindings(t *testing.T) {
	right, wrong, none := gss.ChannelBindings{1}, gss.ChannelBindings{2}, gss.ChannelBindings{}
	for _, c := range []struct {
		name   string
		mode   accept.BindingsMode
		tls    bool
		sent   gss.ChannelBindings
		claims bool
		want   accept.Reason
	}{
		{"off, wrong", accept.BindingsOff, true, wrong, true, 0},
		{"off, absent", accept.BindingsOff, true, none, true, 0},
		{"auto, right", accept.BindingsAuto, true, right, true, 0},
		{"auto, wrong", accept.BindingsAuto, true, wrong, false, accept.BindingsWrong},
		{"auto, absent", accept.BindingsAuto, true, none, false, 0},
		{"auto, absent and claimed", accept.BindingsAuto, true, none, true, accept.BindingsMissing},
		{"auto, without TLS", accept.BindingsAuto, false, right, false, accept.BindingsWrong},
		{"auto, absent without TLS", accept.BindingsAuto, false, none, true, 0},
		{"required, right", accept.BindingsRequired, true, right, false, 0},
		{"required, wrong", accept.BindingsRequired, true, wrong, false, accept.BindingsWrong},
		{"required, absent", accept.BindingsRequired, true, none, false, accept.BindingsMissing},
		{"required, without TLS", accept.BindingsRequired, false, right, false, accept.NoBindings},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Bindings = c.mode
			sent := w.token()
			sent.sum.Bindings = c.sent
			if c.claims {
				sent.auth.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{
					Type: messages.AD_AUTH_DATA_AP_OPTIONS, Value: []byte{0, 0x40, 0, 0},
				})}
			}
			request := accept.Request{Token: sent.bytes(t)}
			if c.tls {
				request.Bindings = func(got gss.ChannelBindings) bool { return got == right }
			}
			result, err := w.acceptor().Accept(request)
			if reason := reasonOf(t, err); reason != c.want {
				t.Fatalf("%v, want %s", err, c.want)
			}
			if want := c.want == 0 && c.sent == right && c.tls && c.mode != accept.BindingsOff; err == nil && result.Bound != want {
				t.Errorf("bound: %v", result.Bound)
			}
		})
	}
}

// negTokenInit is one with these mechanisms.
func negTokenInit(mechToken, mic []byte, mechs ...spnego.OID) []byte {
	octets := func(tag byte, content []byte) []byte { return tlv(tag, tlv(0x04, content)) }
	fields := tlv(0xa0, mechTypeList(mechs...))
	if mechToken != nil {
		fields = append(fields, octets(0xa2, mechToken)...)
	}
	if mic != nil {
		fields = append(fields, octets(0xa3, mic)...)
	}
	return tlv(0x60, append(tlv(0x06, []byte(spnego.SPNEGO)), tlv(0xa0, tlv(0x30, fields))...))
}

func mechTypeList(mechs ...spnego.OID) []byte {
	var list []byte
	for _, m := range mechs {
		list = append(list, tlv(0x06, []byte(m))...)
	}
	return tlv(0x30, list)
}

func tlv(tag byte, content []byte) []byte {
	header := []byte{tag}
	switch n := len(content); {
	case n < 0x80:
		header = append(header, byte(n))
	case n < 1<<16:
		header = append(header, 0x82, byte(n>>8), byte(n))
	default:
		header = append(header, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(header, content...)
}

// mic is the initiator's, over a list of Kerberos and NTLM.
func (t *token) mic(tb testing.TB) []byte {
	tb.Helper()
	key := t.auth.Subkey
	if key.IsZero() {
		key = t.ticket.Key
	}
	header := binary.BigEndian.AppendUint64([]byte{4, 4, 0, 0xff, 0xff, 0xff, 0xff, 0xff}, uint64(t.auth.SeqNumber))
	sum := must.OK(key.Checksum(enctype.KG_USAGE_INITIATOR_SIGN, append(mechTypeList(spnego.KRB5, spnego.NTLMSSP), header...)))(tb)
	return append(header, sum...)
}

// The acceptor answers a MIC with its own, under its own subkey if it has one.
func TestAccept_MIC(t *testing.T) {
	list := mechTypeList(spnego.KRB5, spnego.NTLMSSP)
	for name, change := range map[string]func(*token){
		"mutual":    func(*token) {},
		"one-sided": func(s *token) { s.sum.Flags = 0 },
		"no subkey": func(s *token) { s.sum.Flags, s.auth.Subkey = 0, enctype.Key{} },
	} {
		w := newWorld(t)
		sent := w.token()
		change(sent)
		sent.frame = func(framed []byte) []byte { return negTokenInit(framed, sent.mic(t), spnego.KRB5, spnego.NTLMSSP) }
		result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
		resp := must.OK(spnego.ParseResp(result.Token))(t)
		key, flags := sent.auth.Subkey, byte(1)
		switch {
		case resp.ResponseToken != nil:
			key, flags = sent.apRep(t, resp.ResponseToken).Subkey, 5
		case key.IsZero():
			key = sent.ticket.Key
		}
		mic := resp.MechListMIC
		if len(mic) < 16 || mic[2] != flags {
			t.Fatalf("%s: MIC %x", name, mic)
		}
		signed := append(slices.Clone(list), mic[:16]...)
		if err := key.VerifyChecksum(key.ChecksumType(), enctype.KG_USAGE_ACCEPTOR_SIGN, signed, mic[16:]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Windows names Kerberos by its own OID first, and is answered by that.
func TestAccept_MicrosoftOID(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.frame = func(framed []byte) []byte {
		return negTokenInit(framed, nil, spnego.MSKRB5, spnego.KRB5, spnego.NTLMSSP)
	}
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	if resp := must.OK(spnego.ParseResp(result.Token))(t); resp.SupportedMech != spnego.MSKRB5 {
		t.Errorf("%+v", resp)
	}
}

// oid is a mechanism that does not exist.
const oid spnego.OID = "\x2a\x03\x04"

func TestAccept_NotKerberos(t *testing.T) {
	w := newWorld(t)
	good := w.token()
	good.frame = bare
	framed := good.bytes(t)
	ntlm := []byte("NTLMSSP\x00\x01\x00\x00\x00")
	user2user := bytes.Replace(framed, []byte(spnego.KRB5), []byte("\x2a\x86\x48\x86\xf7\x12\x01\x02\x03"), 1)
	a := w.acceptor()
	for _, c := range []struct {
		name     string
		token    []byte
		want     accept.Reason
		answered bool
	}{
		{"nothing", nil, accept.NoToken, false},
		{"garbage", []byte("garbage"), accept.Malformed, false},
		{"NTLM type 1", ntlm, accept.NTLM, false},
		{"NTLM type 3", []byte("NTLMSSP\x00\x03\x00\x00\x00"), accept.NTLM, false},
		{"NTLM in SPNEGO", negTokenInit(ntlm, nil, spnego.NTLMSSP), accept.NTLM, true},
		{"NTLM in SPNEGO without a token", negTokenInit(nil, nil, spnego.NTLMSSP), accept.NTLM, true},
		{"NTLM under the name of Kerberos", negTokenInit(ntlm, nil, spnego.KRB5), accept.NTLM, true},
		{"NTLM first, Kerberos second", negTokenInit(ntlm, nil, spnego.NTLMSSP, spnego.KRB5), accept.NotPreferred, true},
		{"NTLM first, with a token of Kerberos", negTokenInit(framed, nil, spnego.NTLMSSP, spnego.KRB5), accept.NotPreferred, true},
		{"Kerberos without a token", negTokenInit(nil, nil, spnego.KRB5), accept.NoToken, true},
		{"Kerberos with an empty token", negTokenInit([]byte{}, nil, spnego.KRB5), accept.NoToken, true},
		{"no mechanism", negTokenInit(framed, nil), accept.OtherMechanism, true},
		{"another mechanism in SPNEGO", negTokenInit(framed, nil, oid), accept.OtherMechanism, true},
		{"another mechanism", user2user, accept.OtherMechanism, false},
		{"a second token", (&spnego.NegTokenResp{ResponseToken: framed}).Append(nil), accept.NotFirst, false},
		{"an AP-REP", gss.AppendToken(nil, gss.TOK_AP_REP, []byte{0x6f, 0}), accept.Malformed, false},
		{"an AP-REQ that is none", gss.AppendToken(nil, gss.TOK_AP_REQ, []byte{0x6e, 0}), accept.Malformed, false},
		{"SPNEGO that is none", tlv(0x60, tlv(0x06, []byte(spnego.SPNEGO))), accept.Malformed, false},
		{"too long", negTokenInit(bytes.Repeat([]byte{0}, 128<<10), nil, spnego.KRB5), accept.Malformed, false},
	} {
		result, err := a.Accept(accept.Request{Token: c.token})
		if result != nil || reasonOf(t, err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
			continue
		}
		var refusal *accept.Error
		errors.As(err, &refusal)
		resp, parsed := spnego.ParseResp(refusal.Token)
		if (parsed == nil) != c.answered || c.answered && (resp.State != spnego.Reject || resp.ResponseToken != nil) {
			t.Errorf("%s: answer %x", c.name, refusal.Token)
		}
	}
	must.OK(a.Accept(accept.Request{Token: framed}))(t)
}

func TestParseAuthorization(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		token  string
		want   accept.Reason
	}{
		{"nothing", nil, "", 0},
		{"a token", []string{"Negotiate YWJj"}, "YWJj", 0},
		{"another case, spaces", []string{" negotiate   YWJj "}, "YWJj", 0},
		{"no token", []string{"Negotiate"}, "", accept.NoToken},
		{"NTLM", []string{"NTLM TlRMTVNTUAABAAAA"}, "", accept.NTLM},
		{"Basic", []string{"Basic YWJj"}, "", accept.OtherMechanism},
		{"two", []string{"Negotiate YWJj", "Negotiate YWJj"}, "", accept.Malformed},
		{"1 MiB", []string{"Negotiate " + strings.Repeat("YWJj", 1<<18)}, "", accept.Malformed},
	} {
		token, err := accept.ParseAuthorization(c.values)
		if reasonOf(t, err) != c.want || token != c.token {
			t.Errorf("%s: %q, %v", c.name, token, err)
		}
	}
}

func TestAccept_NotBase64(t *testing.T) {
	for _, text := range []string{"YWJ", "YW J", "\x00", "===="} {
		if _, err := newWorld(t).acceptor().Accept(accept.Request{Base64: text}); reasonOf(t, err) != accept.Malformed {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// addPAC puts a PAC of the client, signed with the key, into the ticket.
func (t *token) addPAC(w *world, p kdctest.PAC) {
	w.tb.Helper()
	if p.Client == "" {
		p.Client = "alice"
	}
	if p.AuthTime.IsZero() {
		p.AuthTime = t.ticket.AuthTime
	}
	b := must.OK(p.Signed(w.key, w.key))(w.tb)
	t.ticket.AuthorizationData = append(t.ticket.AuthorizationData, messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: b}))
}

func TestAccept_Account(t *testing.T) {
	w := newWorld(t)
	sent := w.token()
	sent.addPAC(w, kdctest.PAC{Account: "alice", UPN: "alice@corp.example", Domain: "CORP", DNS: "corp.example", Groups: []uint32{1104, 1105}})
	result := must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t)
	a := result.Account
	if a == nil || a.Name != "alice" || a.Domain != "CORP" || a.UPN != "alice@corp.example" || a.Machine || !strings.HasPrefix(string(a.SID), "S-1-5-21-1-2-3-") {
		t.Fatalf("%+v", a)
	}
	if want := []pac.SID{"S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-1104", "S-1-5-21-1-2-3-1105", "S-1-18-2"}; !slices.Equal(a.Groups, want) || a.DenyOnly != nil {
		t.Errorf("groups %q, deny only %q", a.Groups, a.DenyOnly)
	}
	if e := result.Evidence.Account; e == nil || e.Name != "alice" || e.Machine {
		t.Errorf("evidence: %+v", e)
	}
	// MIT's has no logon information.
	sent = w.token()
	sent.auth.CUSec++
	sent.addPAC(w, kdctest.PAC{})
	if result = must.OK(w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}))(t); result.Account != nil || *result.Evidence.Account != (messages.Account{}) {
		t.Errorf("%+v", result.Account)
	}
}

// Of a ticket that is good otherwise, no bit of the PAC that the server's signature covers may differ.
func TestAccept_ForgedPAC(t *testing.T) {
	w := newWorld(t)
	a := w.acceptor()
	sent := w.token()
	sent.addPAC(w, kdctest.PAC{Account: "alice", Groups: []uint32{512}})
	whole := sent.ticket.AuthorizationData[0].Value
	inner := must.OK(messages.ParseAuthorizationData(whole))(t)[0].Value
	kdcSignature := len(inner) - 16 // 12 bytes and padding
	for at := range kdcSignature {
		forged := bytes.Clone(inner)
		forged[at] ^= 1 << (at % 8)
		sent.ticket.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: forged})}
		if _, err := a.Accept(accept.Request{Token: sent.bytes(t)}); reasonOf(t, err) != accept.BadPAC {
			t.Fatalf("byte %d of %d: %v", at, len(inner), err)
		}
	}
}
