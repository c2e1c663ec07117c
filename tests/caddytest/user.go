package caddytest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// User is a client with a ticket for a service, who signs in with tokens of it.
type User struct {
	t      testing.TB
	Ticket *messages.Credential
}

// NewUser logs a user in at the KDC and gets a ticket for a service, such as HTTP/web.corp.example.
// The name has the realm: alice@CORP.EXAMPLE.
func NewUser(t testing.TB, k interface{ Addr() string }, name, password, service string) *User {
	t.Helper()
	principal, err := krb5core.ParseUser(name, krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := kdc.ParseServer(k.Addr())
	if err != nil {
		t.Fatal(err)
	}
	finder := everywhere{server}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder})
	if err != nil {
		t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, ETypes: append(enctype.Strong(), enctype.RC4_HMAC)})
	if err != nil {
		t.Fatal(err)
	}
	account := krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil)
	tgt, err := client.Login(t.Context(), account, nil)
	if err != nil {
		t.Fatal(err)
	}
	spn, err := messages.ParsePrincipal(service, "")
	if err != nil {
		t.Fatal(err)
	}
	spn.Name.NameType = messages.KRB_NT_SRV_HST
	ticket, err := client.ServiceTicket(t.Context(), account, tgt, spn)
	if err != nil {
		t.Fatal(err)
	}
	return &User{t, ticket}
}

// everywhere is the KDC of all realms.
type everywhere struct{ server kdc.Server }

func (e everywhere) KDCs(context.Context, string) ([]kdc.Server, error) {
	return []kdc.Server{e.server}, nil
}

// Authenticator is what a token says beside its ticket; fields that are zero have the usual value.
type Authenticator struct {
	Offset   time.Duration // of the client's clock
	Bindings gss.ChannelBindings
	NoMutual bool
	Bare     bool // without SPNEGO
}

// Token makes a token with a new authenticator.
func (u *User) Token(a Authenticator) []byte {
	u.t.Helper()
	now := time.Now().Add(a.Offset)
	sum := gss.Checksum{Bindings: a.Bindings, Flags: gss.GSS_C_MUTUAL_FLAG}
	options := messages.AP_OPTS_MUTUAL_REQUIRED
	if a.NoMutual {
		sum.Flags, options = 0, 0
	}
	subkey, err := enctype.GenerateKey(u.Ticket.Key.EType(), rand.Reader)
	if err != nil {
		u.t.Fatal(err)
	}
	plain := messages.Authenticator{
		CRealm: u.Ticket.Client.Realm, CName: u.Ticket.Client.Name, CTime: now.Truncate(time.Second), CUSec: int32(now.Nanosecond() / 1000),
		Subkey: subkey, Cksum: &messages.Checksum{Type: gss.CKSUMTYPE_GSS, Value: sum.Append(nil)},
	}
	sealed, err := u.Ticket.Key.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, plain.Marshal())
	if err != nil {
		u.t.Fatal(err)
	}
	req := messages.APReq{
		APOptions: options, Ticket: messages.Ticket{Raw: u.Ticket.Ticket},
		Authenticator: messages.EncryptedData{EType: u.Ticket.Key.EType(), Cipher: sealed},
	}
	framed := gss.AppendToken(nil, gss.TOK_AP_REQ, req.Marshal())
	if a.Bare {
		return framed
	}
	return append(spnego.AppendInitPrefix(nil, len(framed)), framed...)
}

// SignIn gives a request a new token.
func (u *User) SignIn(r *http.Request) { u.With(Authenticator{})(r) }

// With returns a function that gives a request a new token with these properties.
func (u *User) With(a Authenticator) func(*http.Request) { return Bearing(u.Token(a)) }

// Bearing returns a function that gives a request a token, again and again the same.
func Bearing(token []byte) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(token))
	}
}

// WantProof fails unless the answer has the proof of an acceptor that has opened the user's ticket.
func (u *User) WantProof(a Answer) {
	u.t.Helper()
	values := a.Header.Values("Www-Authenticate")
	if len(values) != 1 {
		u.t.Fatalf("challenges %q, want one with the proof", values)
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(values[0], "Negotiate "))
	if err != nil {
		u.t.Fatalf("challenge %q: %v", values[0], err)
	}
	resp, err := spnego.ParseResp(token)
	if err != nil || resp.State != spnego.AcceptCompleted {
		u.t.Fatalf("answer %+v, %v", resp, err)
	}
	framed, err := gss.ParseToken(resp.ResponseToken)
	if err != nil {
		u.t.Fatal(err)
	}
	rep, err := messages.ParseAPRep(framed.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := u.Ticket.Key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher); err != nil {
		u.t.Fatalf("AP-REP: %v", err)
	}
}
