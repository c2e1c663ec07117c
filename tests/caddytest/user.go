package caddytest

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
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
	user, err := kdctest.Login(t.Context(), k.Addr(), name, password)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := user.Ticket(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return &User{t, ticket}
}

// Authenticator is what a token says beside its ticket.
type Authenticator = kdctest.Authenticator

// Token makes a token with a new authenticator.
func (u *User) Token(a Authenticator) []byte {
	u.t.Helper()
	token, err := a.Token(u.Ticket)
	if err != nil {
		u.t.Fatal(err)
	}
	return token
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
