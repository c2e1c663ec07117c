package caddynegotiate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const tracedPassword = "a password nobody may see"

// kept is a tracer that keeps the raw messages too.
type kept struct {
	*tracer
	mu   sync.Mutex
	data [][]byte
}

func (k *kept) ObserveMessage(ctx context.Context, m kdc.MessageEvent) {
	k.mu.Lock()
	k.data = append(k.data, bytes.Clone(m.Data))
	k.mu.Unlock()
	k.tracer.ObserveMessage(ctx, m)
}

// traced logs in and gets a ticket, and gives what was logged, as JSON, what went
// over the wire, and the credentials.
func traced(t *testing.T, c *Credentials) (log string, wire [][]byte, won []*messages.Credential) {
	t.Helper()
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", tracedPassword)
	realm.AddService("HTTP/web.corp.example")
	k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	c.KDC = []string{k.Addr()}

	var text bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&text)), zapcore.DebugLevel))
	tr, err := newTracer(c, atlas{}, "CORP.EXAMPLE", logger)
	if err != nil {
		t.Fatal(err)
	}
	tracer := &kept{tracer: tr}
	client, err := c.client(atlas{}, "CORP.EXAMPLE", tracer, kdc.NewMemory())
	if err != nil {
		t.Fatal(err)
	}
	principal, err := krb5core.ParseUser("alice@CORP.EXAMPLE", krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	alice := krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return tracedPassword, nil }), nil)
	tgt, err := client.Login(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	web := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
	ticket, err := client.ServiceTicket(t.Context(), alice, tgt, web)
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), tracer.data, []*messages.Credential{tgt, ticket}
}

func TestTraceLogsEachMessageDecoded(t *testing.T) {
	log, wire, _ := traced(t, &Credentials{Trace: true, UseTCP: true})
	type entry struct {
		Level, Msg, Realm, KDC, Protocol, Local, Remote, Size, Op, Decision string
		Message                                                             map[string]string
	}
	var sent, received, decisions []entry
	for line := range strings.Lines(log) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch e.Msg {
		case "kdc message sent":
			sent = append(sent, e)
		case "kdc message received":
			received = append(received, e)
		case "kdc exchange":
			decisions = append(decisions, e)
		}
	}
	if len(sent) != 3 || len(received) != 3 || len(wire) != 6 {
		t.Fatalf("%d sent, %d received of %d messages, want 3 and 3:\n%s", len(sent), len(received), len(wire), log)
	}
	for i, want := range []string{"KRB_AS_REQ", "KRB_AS_REQ", "KRB_TGS_REQ"} {
		e := sent[i]
		if e.Message["kind"] != want || e.Level != "debug" || e.Realm != "CORP.EXAMPLE" || e.Protocol != "tcp" ||
			e.Local == "" || e.Remote == "" || e.KDC == "" || !strings.HasSuffix(e.Size, "B") || e.Message["etypes"] == "" {
			t.Errorf("sent %d: %+v", i, e)
		}
	}
	if got := received[0].Message["krb_error"]; got != "KDC_ERR_PREAUTH_REQUIRED (25)" {
		t.Errorf("the first answer is %q", got)
	}
	if got := received[2].Message["ticket"]; !strings.Contains(got, "HTTP/web.corp.example@CORP.EXAMPLE") {
		t.Errorf("the last answer has a ticket %q", got)
	}
	if len(decisions) == 0 || decisions[0].Op != "login" || !strings.Contains(decisions[0].Decision, "pre-authenticating with aes256-cts-hmac-sha1-96") {
		t.Errorf("decisions: %+v", decisions)
	}
}

// secretsOf are all octets that must not be seen.
func secretsOf(t *testing.T, wire [][]byte, won []*messages.Credential) [][]byte {
	t.Helper()
	all := [][]byte{[]byte(tracedPassword)}
	for _, c := range won {
		tkt, err := messages.ParseTicket(c.Ticket)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Key.Bytes(), tkt.EncPart.Cipher)
	}
	for _, m := range wire {
		if r, err := messages.ParseKDCRep(m); err == nil {
			all = append(all, r.EncPart.Cipher, r.Ticket.EncPart.Cipher)
		}
		if r, err := messages.ParseKDCReq(m); err == nil {
			for _, p := range r.PAData {
				if ap, err := messages.ParseAPReq(p.Value); err == nil {
					all = append(all, ap.Authenticator.Cipher)
				} else if e, err := messages.ParseEncryptedData(p.Value); err == nil {
					all = append(all, e.Cipher)
				}
			}
		}
	}
	return all
}

func TestTraceShowsNoCiphertextTicketOrKey(t *testing.T) {
	log, wire, won := traced(t, &Credentials{Trace: true, TracePackets: filepath.Join(t.TempDir(), "packets")})
	log = strings.ToLower(log)
	secrets := secretsOf(t, wire, won)
	if len(secrets) < 9 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for _, s := range secrets {
		for at := 0; at+6 <= len(s); at += 3 {
			part := s[at : at+6]
			for _, form := range []string{string(part), hex.EncodeToString(part), base64.StdEncoding.EncodeToString(part)} {
				if strings.Contains(log, strings.ToLower(form)) {
					t.Fatalf("%q of a secret stands in the log:\n%s", form, log)
				}
			}
		}
	}
}

func TestWithoutTraceNothingIsLoggedOfAGoodExchange(t *testing.T) {
	if log, _, _ := traced(t, &Credentials{}); log != "" {
		t.Errorf("logged:\n%s", log)
	}
}

func TestTracePacketsHoldEveryOctetAndAreForTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "packets")
	if err := os.WriteFile(path, []byte("# what was there before\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, wire, _ := traced(t, &Credentials{Trace: true, UseTCP: true, TracePackets: path}) // a datagram may go out twice
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(content), "# what was there before\n") {
		t.Errorf("the file was not appended to: %.100s", content)
	}
	got, directions := readPackets(t, string(content))
	if len(got) != len(wire) {
		t.Fatalf("%d packets, want %d", len(got), len(wire))
	}
	for i := range got {
		if !bytes.Equal(got[i], wire[i]) {
			t.Errorf("packet %d:\n%x, want\n%x", i, got[i], wire[i])
		}
	}
	if directions != "OIOIOI" {
		t.Errorf("directions %s", directions)
	}
}

// readPackets reads what packetFile documents.
func readPackets(t *testing.T, text string) (packets [][]byte, directions string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case line[0] == 'I' || line[0] == 'O':
			if _, err := time.Parse(time.RFC3339Nano, line[2:]); err != nil {
				t.Error(err)
			}
			packets, directions = append(packets, nil), directions+line[:1]
		default:
			last := len(packets) - 1
			offset, octets, _ := strings.Cut(line, " ")
			b, err := hex.DecodeString(strings.ReplaceAll(octets, " ", ""))
			if at, errAt := hex.DecodeString(offset); err != nil || errAt != nil || int(at[0])<<8|int(at[1]) != len(packets[last]) {
				t.Fatalf("line %q after %d octets", line, len(packets[last]))
			}
			packets[last] = append(packets[last], b...)
		}
	}
	return packets, directions
}

func TestTracePacketsAreRefusedWhereNoFileCanBe(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none", "packets"), t.TempDir()} {
		c := &Credentials{Trace: true, TracePackets: path, Origin: Origin{"trace": "Caddyfile:7"}}
		if _, err := newTracer(c, atlas{}, "CORP.EXAMPLE", zap.NewNop()); err == nil || !strings.HasPrefix(err.Error(), "Caddyfile:7: trace: ") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTraceThatCannotBeWrittenIsToldOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "there")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.WarnLevel)
	tr, err := newTracer(&Credentials{Trace: true, TracePackets: filepath.Join(folder, "packets")}, atlas{}, "CORP.EXAMPLE", zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tr.ObserveMessage(t.Context(), kdc.MessageEvent{Realm: "CORP.EXAMPLE", Data: []byte{1}, Size: 1})
	}
	if logs.Len() != 1 {
		t.Errorf("%d warnings, want 1", logs.Len())
	}
	// What could not be sent has nothing to be shown.
	tr.ObserveMessage(t.Context(), kdc.MessageEvent{Realm: "CORP.EXAMPLE", Err: errors.New("unreachable")})
}

func TestForgedDatagramsAreOneWarningAndAllCounted(t *testing.T) {
	const realm, forged = "FLOODED.EXAMPLE", 50
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	go func() {
		_, client, err := socket.ReadFrom(make([]byte, 1<<16))
		for range forged {
			if err == nil {
				_, err = socket.WriteTo([]byte("garbage"), client)
			}
		}
		if err == nil {
			_, _ = socket.WriteTo([]byte{0x6b, 0}, client) // framed as a reply is
		}
	}()
	core, logs := observer.New(zapcore.InfoLevel)
	c := &Credentials{KDC: []string{"udp/" + socket.LocalAddr().String()}, Realm: realm}
	tr, err := newTracer(c, atlas{}, realm, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	servers, err := c.servers()
	if err != nil {
		t.Fatal(err)
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{realm: servers}, Observer: tr})
	if err != nil {
		t.Fatal(err)
	}
	badReplies.DeleteLabelValues(realm, "malformed")
	if _, err := sender.Send(t.Context(), kdc.Query{Realm: realm, Message: []byte{0x6a, 0}}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(badReplies.WithLabelValues(realm, "malformed"))
	if families, err := registry.Gather(); err != nil || families[0].GetMetric()[0].GetCounter().GetValue() != forged {
		t.Errorf("counted: %v, %v", families, err)
	}
	if logs.Len() != 1 || logs.All()[0].ContextMap()["datagrams"] != int64(forged) {
		t.Errorf("logged: %v", logs.All())
	}
}
