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
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
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
	w := newProxyWorld(t, nil)
	rec := new(recorder)
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: w.finder, Observer: rec}))(t)
	w.client = must.OK(krb5core.NewClient(krb5core.Config{Sender: sender, TCPOnly: true}))(t)
	tgt := w.login()
	evidence := must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user("alice")))(t)
	must.OK(w.client.TicketOnBehalf(t.Context(), w.account, tgt, evidence, web))(t)
	none := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "none.corp.example")}
	if _, err := w.client.ServiceTicket(t.Context(), w.account, tgt, none); err == nil {
		t.Fatal("a ticket without a client")
	}
	return rec.messages
}

func TestDescribe_Messages(t *testing.T) {
	all := describeAll(recorded(t))
	for i, wants := range map[int][]string{
		0: {"kind: KRB_AS_REQ", "client: proxy", "service: krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", "etypes: aes256-cts-hmac-sha1-96, ", "options: ", "padata: "},
		1: {
			"kind: KRB_ERROR", "krb_error: KDC_ERR_PREAUTH_REQUIRED (25)", "meaning: ",
			`PA_ETYPE_INFO2 (aes256-cts-hmac-sha1-96 salt "CORP.EXAMPLEproxy"`, "server_time: 20",
		},
		2: {"kind: KRB_AS_REQ", "PA_ENC_TIMESTAMP (aes256-cts-hmac-sha1-96 5"},
		3: {"kind: KRB_AS_REP", "client: proxy@CORP.EXAMPLE", "ticket: for krbtgt/CORP.EXAMPLE@CORP.EXAMPLE, aes256-cts-hmac-sha1-96 kvno 1 ", "encrypted: aes256-cts-hmac-sha1-96 "},
		4: {"kind: KRB_TGS_REQ", "PA_TGS_REQ (for krbtgt/CORP.EXAMPLE@CORP.EXAMPLE, aes256", "authenticator aes256", "PA_FOR_USER (alice@CORP.EXAMPLE)"},
		6: {"kind: KRB_TGS_REQ", "service: HTTP/web.corp.example@CORP.EXAMPLE", "additional_tickets: for proxy@CORP.EXAMPLE, aes256"},
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

func TestDescribe_NoCiphertext(t *testing.T) {
	sent := recorded(t)
	text := strings.Join(describeAll(sent), "\n")
	n := 0
	for _, m := range sent {
		for _, c := range ciphertexts(m) {
			n++
			for at := 0; at+8 <= len(c); at += 8 {
				for _, form := range []string{string(c[at : at+8]), hex.EncodeToString(c[at : at+8]), base64.StdEncoding.EncodeToString(c[at : at+6])} {
					if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
						t.Fatalf("bytes %d to %d of a ciphertext are in\n%s", at, at+8, text)
					}
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d ciphertexts looked for", n)
	}
}

func TestDescribe_BoundedAndMalformed(t *testing.T) {
	long := &messages.KRBError{ErrorCode: 60, Realm: strings.Repeat("R", 5000), EText: strings.Repeat("\n", 5000)}
	if text := describeAll([][]byte{long.Marshal()})[0]; len(text) > 3000 || strings.Contains(text, "\n\n") {
		t.Errorf("%d bytes of text:\n%.300s", len(text), text)
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
			t.Errorf("%d details of %d bytes", len(details), size)
		}
	})
}
