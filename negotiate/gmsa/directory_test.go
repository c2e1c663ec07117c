package gmsa

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

var testNow = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"ldaps://dc1.corp.example":     "dc1.corp.example:636",
		"ldaps://dc1.corp.example:637": "dc1.corp.example:637",
		"ldaps://dc1.corp.example/":    "dc1.corp.example:636",
	} {
		if got, err := ParseServer(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, remedy := range map[string]string{
		"ldap://dc1.corp.example":      "write ldaps://dc1.corp.example (port 636)",
		"dc1.corp.example":             "write ldaps://",
		"dc1.corp.example:636":         "write ldaps://",
		"ldaps://10.0.0.1":             "name the domain controller",
		"ldaps://[::1]:636":            "name the domain controller",
		"ldaps://dc1:0":                "1 to 65535",
		"ldaps://dc1:70000":            "1 to 65535",
		"ldaps://u:p@dc1.corp.example": "nothing after it",
		"ldaps://dc1/DC=corp":          "nothing after it",
		"":                             "write ldaps://",
	} {
		if got, err := ParseServer(text); err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestFileTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"116444736000000000":  time.Unix(0, 0),
		"134088480000000001":  time.Date(2025, 11, 29, 0, 0, 0, 100, time.UTC),
		"9223372036854775807": testNow, // the year 30828
		"0":                   {},
		"-1":                  {},
		"x":                   {},
	} {
		if got := fileTime(text, testNow); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", text, got.UTC(), want)
		}
	}
}

// controller is a TLS server on localhost that answers the messages of each connection in turn.
type controller struct {
	address string
	roots   *x509.CertPool
}

func newController(t *testing.T, answers ...[]byte) controller {
	t.Helper()
	ca := pkitest.NewCA(t, "corp CA")
	pair := ca.Issue(t, pkitest.Spec{Name: "dc1", DNSNames: []string{"localhost"}, ECDSA: true})
	cert := tls.Certificate{Certificate: [][]byte{pair.Chain[0].Raw}, PrivateKey: pair.Key}
	l := must.OK(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				if c.(*tls.Conn).Handshake() != nil {
					return
				}
				if len(answers) == 0 {
					_, _ = readFrame(in)
				}
				for _, answer := range answers {
					if _, err := readFrame(in); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return controller{l.Addr().String(), ca.Pool()}
}

// DialContext connects to the controller, whatever the name.
func (c controller) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, c.address)
}

func (c controller) directory(hosts ...string) *Directory {
	return &Directory{Dialer: c, RootCAs: c.roots, Servers: func(context.Context) ([]Server, error) {
		var all []Server
		for _, h := range hosts {
			all = append(all, Server{h, DefaultPort})
		}
		return all, nil
	}}
}

// answer is a message to a request.
func answer(id int32, op uint8, content ...[]byte) []byte {
	return appendMessage(nil, id, func(dst []byte) []byte {
		return der.AppendBytes(dst, der.Application(op), slices.Concat(content...))
	})
}

func resultOf(code int) []byte {
	return der.AppendOctetString(der.AppendOctetString(der.AppendEnum(nil, code), nil), nil)
}

// entryOf is an entry with attributes of one value, in answer to the second message.
func entryOf(attributes map[string]string) []byte { return entryIn(2, attributes) }

func entryIn(id int32, attributes map[string]string) []byte {
	return answer(id, opSearchEntry, der.AppendOctetString(nil, []byte("CN=x")), der.Append(nil, der.TagSequence, func(dst []byte) []byte {
		for name, value := range attributes {
			dst = der.Append(dst, der.TagSequence, func(dst []byte) []byte {
				dst = der.AppendOctetString(dst, []byte(name))
				return der.Append(dst, der.TagSet, func(dst []byte) []byte { return der.AppendOctetString(dst, []byte(value)) })
			})
		}
		return dst
	}))
}

var (
	bound     = answer(1, opBindResponse, resultOf(0), der.AppendBytes(nil, der.ContextPrimitive(7), []byte("proof")))
	done      = answer(2, opSearchDone, resultOf(0))
	reference = answer(2, opSearchReference, der.AppendOctetString(nil, []byte("ldap://other")))
)

func refusedBind(id int32) []byte {
	return answer(id, opBindResponse, resultOf(resultInvalidCredentials))
}

var errUnproven = errors.New("unproven")

// login is a Login that accepts the proof "proof".
func login(_ context.Context, _ string, _ *x509.Certificate, renew bool) ([]byte, func([]byte) error, error) {
	return []byte("token"), func(reply []byte) error {
		if string(reply) != "proof" {
			return errUnproven
		}
		return nil
	}, nil
}

func TestDirectory_Reads(t *testing.T) {
	password := string(blob(random(1), nil, time.Hour, time.Hour, 1))
	entry := entryOf(map[string]string{"MSDS-ManagedPassword": password, attrClass: classManaged, attrSet: "116444736000000000"})
	for name, search := range map[string][]byte{
		"with a reference": slices.Concat(reference, entry, reference, done),
		"alone":            slices.Concat(entry, done),
	} {
		r, err := newController(t, bound, search).directory("localhost").Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(r.Password.Current) != string(random(1)) || !r.Set.Equal(time.Unix(0, 0)) || r.Server.Host != "localhost" || r.TLS.Version < tls.VersionTLS12 {
			t.Errorf("%s: %v, %s, %s", name, r.Password, r.Set, r.Server)
		}
	}
}

// Each failure has its stage, and none of the texts has more of an answer than it should.
func TestDirectory_FailsAtAStage(t *testing.T) {
	good := string(blob(random(1), nil, time.Hour, time.Hour, 1))
	found := entryOf(map[string]string{attrPassword: good, attrClass: classManaged})
	refuse := func(context.Context, string, *x509.Certificate, bool) ([]byte, func([]byte) error, error) {
		return nil, nil, errUnproven
	}
	for name, x := range map[string]struct {
		answers [][]byte
		login   Login
		stage   Stage
		text    string
	}{
		"no ticket":              {nil, refuse, StageLogin, "unproven"},
		"bind refused":           {[][]byte{refusedBind(1), refusedBind(2)}, login, StageBind, "LDAP result 49 (invalidCredentials)"},
		"unwilling":              {[][]byte{answer(1, opBindResponse, resultOf(53))}, login, StageBind, "unwillingToPerform"},
		"no proof":               {[][]byte{answer(1, opBindResponse, resultOf(0))}, login, StageBind, "unproven"},
		"another message":        {[][]byte{answer(7, opBindResponse, resultOf(0))}, login, StageBind, "answers none of ours"},
		"another operation":      {[][]byte{done}, login, StageBind, "answers none of ours"},
		"disconnected":           {[][]byte{answer(0, 24, resultOf(52))}, login, StageBind, "LDAP result 52 (unavailable)"},
		"closed":                 {nil, login, StageBind, "closed the connection"},
		"not LDAP":               {[][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, login, StageBind, "RFC 4511"},
		"an endless message":     {[][]byte{{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}}, login, StageBind, "more than 65536 bytes"},
		"search refused":         {[][]byte{bound, answer(2, opSearchDone, resultOf(1))}, login, StageSearch, "operationsError"},
		"an endless search":      {[][]byte{bound, slices.Repeat(reference, maxMessages+1)}, login, StageSearch, "more than 32 messages"},
		"an unexpected response": {[][]byte{bound, slices.Concat(found, answer(2, 9, resultOf(0)))}, login, StageSearch, "RFC 4511"},
		"a broken entry":         {[][]byte{bound, slices.Concat(answer(2, opSearchEntry, []byte{4, 9}), done)}, login, StageSearch, "RFC 4511"},
		"no end":                 {[][]byte{bound, found}, login, StageSearch, "closed the connection"},
		"no account":             {[][]byte{bound, done}, login, StageAccount, "no such account"},
		"another account":        {[][]byte{bound, slices.Concat(entryOf(map[string]string{attrClass: "user"}), done)}, login, StageAccount, "not a group managed"},
		"not allowed":            {[][]byte{bound, slices.Concat(entryOf(map[string]string{attrClass: classManaged}), done)}, login, StagePermission, "does not show"},
		"a broken password":      {[][]byte{bound, slices.Concat(entryOf(map[string]string{attrPassword: good[:20], attrClass: classManaged}), done)}, login, StagePassword, "says that it has"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newController(t, x.answers...).directory("localhost")
			_, err := d.Read(t.Context(), "svc-web$", "CORP.EXAMPLE", x.login)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Stage != x.stage || e.Server != "localhost:636" || !strings.Contains(err.Error(), x.text) || strings.Contains(err.Error(), good[16:30]) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A token that was refused is made from a new ticket, once.
func TestDirectory_RenewsTheTicket(t *testing.T) {
	entry := entryIn(3, map[string]string{attrPassword: string(blob(random(1), nil, 0, 0, 1)), attrClass: classManaged})
	done := answer(3, opSearchDone, resultOf(0))
	proof := answer(2, opBindResponse, resultOf(0), der.AppendBytes(nil, der.ContextPrimitive(7), []byte("proof")))
	var renewed []bool
	again := func(ctx context.Context, host string, c *x509.Certificate, renew bool) ([]byte, func([]byte) error, error) {
		renewed = append(renewed, renew)
		return login(ctx, host, c, renew)
	}
	d := newController(t, refusedBind(1), proof, slices.Concat(entry, done)).directory("localhost")
	if _, err := d.Read(t.Context(), "svc-web$", "CORP.EXAMPLE", again); err != nil || !slices.Equal(renewed, []bool{false, true}) {
		t.Errorf("%v, %v", err, renewed)
	}
}

func TestDirectory_TLS(t *testing.T) {
	c := newController(t, bound, done)
	other := c.directory("dc1.corp.example") // the certificate is for localhost
	unknown := c.directory("localhost")
	unknown.RootCAs = x509.NewCertPool()
	for name, d := range map[string]*Directory{"another host": other, "an unknown CA": unknown} {
		_, err := d.Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login)
		if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageTLS {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := must.OK(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer plain.Close()
	go func() {
		if c, err := plain.Accept(); err == nil {
			_, _ = io.WriteString(c, "plain LDAP does not begin like this")
			_ = c.Close()
		}
	}()
	_, err := controller{plain.Addr().String(), nil}.directory("localhost").Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login)
	if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageTLS {
		t.Errorf("without TLS: %v", err)
	}
}

// The next domain controller is asked if one fails, and the error is that of the one that came furthest.
func TestDirectory_AsksTheNext(t *testing.T) {
	entry := entryOf(map[string]string{attrPassword: string(blob(random(1), nil, 0, 0, 1)), attrClass: classManaged})
	c := newController(t, bound, slices.Concat(entry, done))
	r, err := c.directory("dc1.corp.example", "localhost").Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login)
	if err != nil || r.Server.Host != "localhost" {
		t.Errorf("%v", err)
	}
	_, err = newController(t, bound, done).directory("dc1.corp.example", "localhost", "dc2.corp.example").Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Stage != StageAccount || e.Server != "localhost:636" || !strings.Contains(err.Error(), "dc1.corp.example") || !strings.Contains(err.Error(), "dc2.corp.example") {
		t.Errorf("%v", err)
	}
	if _, err := c.directory().Read(t.Context(), "svc-web$", "CORP.EXAMPLE", login); err == nil || err.(*Error).Stage != StageFind {
		t.Errorf("%v", err)
	}
}

// A server that is silent does not hold the caller longer than its context lasts.
func TestDirectory_SilentServer(t *testing.T) {
	l := must.OK(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := controller{l.Addr().String(), nil}.directory("localhost", "dc2.corp.example").Read(ctx, "svc-web$", "CORP.EXAMPLE", login)
	if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageTLS || strings.Contains(err.Error(), "dc2") {
		t.Errorf("%v", err)
	}
}
