package logging

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const tracedPassword = "a password that must not be logged"

// recorder keeps the raw messages too.
type recorder struct {
	*Tracer
	mu   sync.Mutex
	data [][]byte
}

func (r *recorder) ObserveMessage(ctx context.Context, m kdc.MessageEvent) {
	r.mu.Lock()
	r.data = append(r.data, bytes.Clone(m.Data))
	r.mu.Unlock()
	r.Tracer.ObserveMessage(ctx, m)
}

func newTracer(t *testing.T, cfg TracerConfig) *Tracer {
	t.Helper()
	tracer, err := NewTracer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func parseServer(t *testing.T, address string) kdc.Server {
	t.Helper()
	server, err := kdc.ParseServer(address)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// traced logs in and gets a ticket with this tracer, and returns what was logged, as
// JSON, the messages, and the credentials.
func traced(t *testing.T, cfg TracerConfig, tcp bool) (log string, wire [][]byte, got []*messages.Credential) {
	t.Helper()
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", tracedPassword)
	realm.AddService("HTTP/web.corp.example")
	k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)

	var text bytes.Buffer
	cfg.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&text)), zapcore.DebugLevel))
	tracer := &recorder{Tracer: newTracer(t, cfg)}
	finder := kdc.Static{"CORP.EXAMPLE": {parseServer(t, k.Addr())}}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, Observer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, TCPOnly: tcp, Tracer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	principal, err := krb5core.ParseUser("alice@CORP.EXAMPLE", krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	alice := krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return tracedPassword, nil }), nil)
	tgt, err := client.Login(t.Context(), alice, nil)
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

func TestTracer_LogsDecodedMessages(t *testing.T) {
	log, wire, _ := traced(t, TracerConfig{Trace: true}, true)
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

// secretsOf lists all bytes that must not be seen.
func secretsOf(t *testing.T, wire [][]byte, got []*messages.Credential) [][]byte {
	t.Helper()
	all := [][]byte{[]byte(tracedPassword)}
	for _, c := range got {
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

func TestTracer_NoSecrets(t *testing.T) {
	log, wire, got := traced(t, TracerConfig{Trace: true, Packets: filepath.Join(t.TempDir(), "packets")}, false)
	log = strings.ToLower(log)
	secrets := secretsOf(t, wire, got)
	if len(secrets) < 9 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for _, s := range secrets {
		for at := 0; at+6 <= len(s); at += 3 {
			part := s[at : at+6]
			for _, form := range []string{string(part), hex.EncodeToString(part), base64.StdEncoding.EncodeToString(part)} {
				if strings.Contains(log, strings.ToLower(form)) {
					t.Fatalf("%q of a secret is in the log:\n%s", form, log)
				}
			}
		}
	}
}

func TestTracer_SilentWithoutTrace(t *testing.T) {
	if log, _, _ := traced(t, TracerConfig{}, false); log != "" {
		t.Errorf("logged:\n%s", log)
	}
}

func TestTracer_Packets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "packets")
	if err := os.WriteFile(path, []byte("# what was there before\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, wire, _ := traced(t, TracerConfig{Trace: true, Packets: path}, true) // a datagram may go out twice
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
	if !slices.EqualFunc(got, wire, bytes.Equal) {
		t.Errorf("packets\n%x, want\n%x", got, wire)
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
			offset, rest, _ := strings.Cut(line, " ")
			b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
			if at, errAt := hex.DecodeString(offset); err != nil || errAt != nil || int(at[0])<<8|int(at[1]) != len(packets[last]) {
				t.Fatalf("line %q after %d bytes", line, len(packets[last]))
			}
			packets[last] = append(packets[last], b...)
		}
	}
	return packets, directions
}

func TestNewTracer_BadPacketFile(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none", "packets"), t.TempDir()} {
		if _, err := NewTracer(TracerConfig{Logger: zap.NewNop(), Trace: true, Packets: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// In a folder that others write to, the file may be another user's.
func TestPacketFile_OfOthers(t *testing.T) {
	message := kdc.MessageEvent{Realm: "CORP.EXAMPLE", Data: []byte{1}, Size: 1}
	folder := t.TempDir()
	target := filepath.Join(folder, "target")
	for name, create := range map[string]func(path string) error{
		"symbolic link":          func(path string) error { return os.Symlink(target, path) },
		"dangling symbolic link": func(path string) error { return os.Symlink(filepath.Join(folder, "none"), path) },
		"file of another user": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 65534, -1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(target, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, strings.ReplaceAll(name, " ", "-"))
			file, err := newPacketFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := create(path); err != nil {
				t.Skip(err) // only root gives files away
			}
			if err := file.write(message, time.Now()); err == nil {
				t.Error("written")
			}
			if _, err := newPacketFile(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("not rejected at load: %v", err)
			}
			for _, path := range []string{path, target} {
				if content, _ := os.ReadFile(path); len(content) > 0 {
					t.Errorf("%s holds messages", path)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(folder, "none")); err == nil {
		t.Error("the target of a symbolic link was created")
	}
}

func TestTracer_PacketErrorIsLoggedOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "there")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.WarnLevel)
	tracer := newTracer(t, TracerConfig{Logger: zap.New(core), Trace: true, Packets: filepath.Join(folder, "packets")})
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tracer.ObserveMessage(t.Context(), kdc.MessageEvent{Realm: "CORP.EXAMPLE", Data: []byte{1}, Size: 1})
	}
	if logs.Len() != 1 {
		t.Errorf("%d warnings, want 1", logs.Len())
	}
	// A message that could not be sent has no data.
	tracer.ObserveMessage(t.Context(), kdc.MessageEvent{Realm: "CORP.EXAMPLE", Err: errors.New("unreachable")})
}

func TestTracer_ForgedDatagramsAreOneWarning(t *testing.T) {
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
	servers := kdc.Static{realm: {parseServer(t, "udp/"+socket.LocalAddr().String())}}
	tracer := newTracer(t, TracerConfig{Logger: zap.New(core), Metrics: metrics.NewKDC(realm, servers)})
	sender, err := kdc.NewSender(kdc.Config{Finder: servers, Observer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	before := badReplies(t)
	if _, err := sender.Send(t.Context(), kdc.Request{Realm: realm, Message: []byte{0x6a, 0}}); err != nil {
		t.Fatal(err)
	}
	if n := badReplies(t) - before; n != forged {
		t.Errorf("%v counted, want %d", n, forged)
	}
	if logs.Len() != 1 || logs.All()[0].ContextMap()["datagrams"] != int64(forged) {
		t.Errorf("logged: %v", logs.All())
	}
}

// badReplies returns how many malformed replies were counted.
func badReplies(t *testing.T) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := metrics.Register(registry, func() []metrics.Reading { return nil }); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "caddy_kerberos_bad_replies_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
