package krb5core_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// recorder keeps what goes over the wire.
type recorder struct {
	mu       sync.Mutex
	messages [][]byte
}

func (r *recorder) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, bytes.Clone(m.Data))
}
func (*recorder) ObserveDecision(context.Context, kdc.Decision)                {}
func (*recorder) ObserveExchange(context.Context, krb5core.Op, exchange.Event) {}
func describeAll(messages [][]byte) (texts []string) {
	for _, m := range messages {
		var b strings.Builder
		for _, d := range krb5core.Describe(m) {
			fmt.Fprintf(&b, "%s: %s\n", d.Name, d.Value)
		}
		texts = append(texts, b.String())
	}
	return texts
}

// recorded is a login, a ticket on behalf of a user, and a refusal.
func recorded(t testing.TB) [][]byte {
	t.Helper()
	const name = "CORP.EXAMPLE"
	realm := kdctest.NewRealm(name)
	realm.AddUser("svc-proxy", "right", kdctest.SPN("HTTP/proxy.corp.example"),
		kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/web.corp.example"))
	realm.AddUser("alice", "alice's")
	realm.AddService("HTTP/web.corp.example")
	k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	server, err := kdc.ParseServer(k.Addr())
	if err != nil {
		t.Fatal(err)
	}
	rec := new(recorder)
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{name: {server}}, Observer: rec})
	if err != nil {
		t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, TCPOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	user := func(user string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, user), Realm: name}
	}
	service := func(host string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", host)}
	}
	proxy := krb5core.NewAccount(user("svc-proxy"), krb5core.PasswordKeys(func() (string, error) { return "right", nil }), nil)
	tgt, err := client.Login(t.Context(), proxy)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := client.TicketForUser(t.Context(), proxy, tgt, user("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.TicketOnBehalf(t.Context(), proxy, tgt, evidence, service("web.corp.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ServiceTicket(t.Context(), proxy, tgt, service("none.corp.example")); err == nil {
		t.Fatal("a ticket for nobody")
	}
	return rec.messages
}

func TestDescribeTellsKindNamesTypesAndErrors(t *testing.T) {
	all := describeAll(recorded(t))
	for i, wants := range map[int][]string{
		0: {"kind: KRB_AS_REQ", "client: svc-proxy", "service: krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", "etypes: aes256-cts-hmac-sha1-96, ", "options: ", "padata: "},
		1: {
			"kind: KRB_ERROR", "krb_error: KDC_ERR_PREAUTH_REQUIRED (25)", "meaning: ",
			`PA_ETYPE_INFO2 (aes256-cts-hmac-sha1-96 salt "CORP.EXAMPLEsvc-proxy"`, "server_time: 20",
		},
		2: {"kind: KRB_AS_REQ", "PA_ENC_TIMESTAMP (aes256-cts-hmac-sha1-96 5"},
		3: {"kind: KRB_AS_REP", "client: svc-proxy@CORP.EXAMPLE", "ticket: for krbtgt/CORP.EXAMPLE@CORP.EXAMPLE, aes256-cts-hmac-sha1-96 kvno 1 ", "encrypted: aes256-cts-hmac-sha1-96 "},
		4: {"kind: KRB_TGS_REQ", "PA_TGS_REQ (for krbtgt/CORP.EXAMPLE@CORP.EXAMPLE, aes256", "authenticator aes256", "PA_FOR_USER (alice@CORP.EXAMPLE)"},
		6: {"kind: KRB_TGS_REQ", "service: HTTP/web.corp.example@CORP.EXAMPLE", "additional_tickets: for svc-proxy@CORP.EXAMPLE, aes256"},
		9: {"kind: KRB_ERROR", "krb_error: KDC_ERR_S_PRINCIPAL_UNKNOWN (7)"},
	} {
		for _, want := range wants {
			if !strings.Contains(all[i], want) {
				t.Errorf("message %d: no %q in\n%s", i, want, all[i])
			}
		}
	}
}

// ciphertexts are all that is in a message.
func ciphertexts(m []byte) (all [][]byte) {
	if r, err := messages.ParseKDCRep(m); err == nil {
		all = append(all, r.Ticket.EncPart.Cipher, r.EncPart.Cipher)
	}
	if r, err := messages.ParseKDCReq(m); err == nil {
		for _, p := range r.PAData {
			if ap, err := messages.ParseAPReq(p.Value); err == nil {
				all = append(all, ap.Ticket.EncPart.Cipher, ap.Authenticator.Cipher)
			}
			if e, err := messages.ParseEncryptedData(p.Value); err == nil {
				all = append(all, e.Cipher)
			}
		}
		for _, tkt := range r.Body.AdditionalTickets {
			all = append(all, tkt.EncPart.Cipher)
		}
	}
	return all
}

func TestDescribeShowsNoCiphertext(t *testing.T) {
	sent := recorded(t)
	text := strings.Join(describeAll(sent), "\n")
	n := 0
	for _, m := range sent {
		for _, c := range ciphertexts(m) {
			n++
			for at := 0; at+8 <= len(c); at += 8 {
				for _, form := range []string{string(c[at : at+8]), hex.EncodeToString(c[at : at+8]), base64.StdEncoding.EncodeToString(c[at : at+6])} {
					if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
						t.Fatalf("octets %d to %d of a ciphertext stand in\n%s", at, at+8, text)
					}
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d ciphertexts looked for", n)
	}
}

func TestDescribeIsBoundedAndSaysWhatIsMalformed(t *testing.T) {
	long := &messages.KRBError{ErrorCode: 60, Realm: strings.Repeat("R", 5000), EText: strings.Repeat("\n", 5000)}
	if text := describeAll([][]byte{long.Marshal()})[0]; len(text) > 3000 || strings.Contains(text, "\n\n") {
		t.Errorf("%d octets of text:\n%.300s", len(text), text)
	}
	for _, m := range [][]byte{nil, {0}, []byte("HTTP/1.1 200 OK"), {0x7e, 0x82}, {0x6a}, {0x6b, 0x03, 0x30, 0x01, 0x00}} {
		text := describeAll([][]byte{m})[0]
		if !strings.Contains(text, "kind: unknown") && !strings.Contains(text, "malformed: ") {
			t.Errorf("%x: %s", m, text)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	for _, m := range recorded(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		details := krb5core.Describe(m)
		size := 0
		for _, d := range details {
			size += len(d.Value)
			if d.Name == "" || d.Value == "" {
				t.Errorf("an empty detail: %+v", d)
			}
		}
		if len(details) == 0 || details[0].Name != "kind" || size > 64<<10 {
			t.Errorf("%d details of %d octets", len(details), size)
		}
	})
}
