package gss

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// etypes are those that tickets come with, weak ones included.
var etypes = []enctype.ID{
	enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96,
	enctype.AES128_CTS_HMAC_SHA256_128, enctype.AES256_CTS_HMAC_SHA384_192,
	enctype.CAMELLIA128_CTS_CMAC, enctype.CAMELLIA256_CTS_CMAC,
	enctype.RC4_HMAC, enctype.DES3_CBC_SHA1, enctype.DES_CBC_MD5, enctype.DES_CBC_CRC,
}

// testCredential is a credential with a ticket whose ciphertext has n octets.
func testCredential(tb testing.TB, id enctype.ID, n int) *messages.Credential {
	tb.Helper()
	key, err := enctype.GenerateKey(id, seeded(1))
	if err != nil {
		tb.Fatal(err)
	}
	service := messages.Principal{
		Name: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "web.example.com"), Realm: "EXAMPLE.COM",
	}
	ticket := messages.Ticket{
		Realm: service.Realm, SName: service.Name,
		EncPart: messages.EncryptedData{EType: id, KVNO: 3, HasKVNO: true, Cipher: bytes.Repeat([]byte{0xc5}, n)},
	}
	return &messages.Credential{
		Client:  messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-caddy"), Realm: "EXAMPLE.COM"},
		Service: service, Key: key, Ticket: ticket.Marshal(),
		AuthTime: time.Unix(1_800_000_000, 0), EndTime: time.Unix(1_800_036_000, 0),
	}
}

func seeded(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func newClock(tb testing.TB, cfg ClockConfig) *Clock {
	tb.Helper()
	c, err := NewClock(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newTemplate(tb testing.TB, cred *messages.Credential, cfg TemplateConfig) *Template {
	tb.Helper()
	if cfg.Clock == nil {
		cfg.Clock = newClock(tb, ClockConfig{})
	}
	t, err := NewTemplate(cred, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// plainToken makes the token that a Template should, by the encoders of messages and in the order of RFC 4121, from the
// same random octets.
func plainToken(
	tb testing.TB, cred *messages.Credential, cfg TemplateConfig, bindings *ChannelBindings, stamp Stamp, random io.Reader,
) []byte {
	tb.Helper()
	sealer, err := cred.Key.Sealer(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR)
	if err != nil {
		tb.Fatal(err)
	}
	confounder, seq := make([]byte, sealer.ConfounderSize()), make([]byte, 4)
	for _, b := range [][]byte{confounder, seq} {
		if _, err := io.ReadFull(random, b); err != nil {
			tb.Fatal(err)
		}
	}
	subkey, err := enctype.GenerateKey(cred.Key.EType(), random)
	if err != nil {
		tb.Fatal(err)
	}
	checksum := Checksum{Flags: cfg.Flags, DelegatedCred: cfg.DelegatedCred}
	authenticator := messages.Authenticator{
		CRealm: cred.Client.Realm, CName: cred.Client.Name, CUSec: stamp.Cusec, CTime: stamp.CTime(), Subkey: subkey,
		SeqNumber: 0x20000000 | 0x1fffffff&(uint32(seq[0])<<24|uint32(seq[1])<<16|uint32(seq[2])<<8|uint32(seq[3])), HasSeqNumber: true,
	}
	if bindings != nil {
		checksum.Bindings = *bindings
		authenticator.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(
			messages.AuthorizationDataElement{Type: 143, Value: []byte{0x00, 0x40, 0x00, 0x00}})}
	}
	authenticator.Cksum = &messages.Checksum{Type: 0x8003, Value: checksum.Append(nil)}
	cipher, err := cred.Key.Encrypt(bytes.NewReader(confounder), enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, authenticator.Marshal())
	if err != nil {
		tb.Fatal(err)
	}
	ticket, err := messages.ParseTicket(cred.Ticket)
	if err != nil {
		tb.Fatal(err)
	}
	req := messages.APReq{Ticket: *ticket, Authenticator: messages.EncryptedData{EType: cred.Key.EType(), Cipher: cipher}}
	if cfg.Flags&GSS_C_MUTUAL_FLAG != 0 {
		req.APOptions = messages.AP_OPTS_MUTUAL_REQUIRED
	}
	token := AppendToken(nil, TOK_AP_REQ, req.Marshal())
	if cfg.Framing != nil {
		token = append(cfg.Framing(nil, len(token)), token...)
	}
	return token
}

// octetString frames a token as SPNEGO does, with lengths before it.
func octetString(dst []byte, n int) []byte {
	return der.AppendHeader(append(dst, "before"...), der.TagOctetString, n)
}

func TestTokensEqualThoseOfAPlainEncoder(t *testing.T) {
	bindings := ChannelBindings{1, 2, 3, 4, 5}
	for _, id := range etypes {
		for name, cfg := range map[string]TemplateConfig{
			"plain":     {},
			"mutual":    {Flags: GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG, Framing: octetString, Scheme: "Negotiate "},
			"bindings":  {Flags: GSS_C_MUTUAL_FLAG, Bindings: true, Framing: octetString, Scheme: "Kerberos "},
			"delegated": {Flags: GSS_C_DELEG_FLAG, DelegatedCred: bytes.Repeat([]byte{0xdc}, 1500)},
			"all":       {Flags: GSS_C_DELEG_FLAG | GSS_C_MUTUAL_FLAG, DelegatedCred: []byte("cred"), Bindings: true, Framing: octetString},
		} {
			t.Run(fmt.Sprint(id, " ", name), func(t *testing.T) {
				for n := range 40 { // every remainder by three, and names that move each length across its bounds
					cred := testCredential(t, id, 16+n*37)
					cred.Client.Name.NameString = []string{strings.Repeat("ü", 1+n)}
					var b *ChannelBindings
					if cfg.Bindings {
						b = &bindings
					}
					cfg.Rand = seeded(byte(n))
					checkAgainstPlain(t, cred, cfg, b, byte(n))
				}
			})
		}
	}
}

func checkAgainstPlain(t *testing.T, cred *messages.Credential, cfg TemplateConfig, b *ChannelBindings, seed byte) {
	t.Helper()
	template := newTemplate(t, cred, cfg)
	random := seeded(seed)
	for range 3 {
		header, sent, err := template.Header(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		want := plainToken(t, cred, cfg, b, sent.Stamp(), random)
		scheme := cfg.Scheme
		if scheme == "" {
			scheme = "Negotiate "
		}
		if wantHeader := scheme + base64.StdEncoding.EncodeToString(want); header != wantHeader {
			t.Fatalf("header\n%s, want\n%s", header, wantHeader)
		}
		if template.HeaderLen() != len(header) || template.TokenLen() != len(want) {
			t.Errorf("lengths %d and %d, want %d and %d", template.HeaderLen(), template.TokenLen(), len(header), len(want))
		}
	}
	token, sent, err := template.AppendToken(t.Context(), []byte("kept"), b)
	if err != nil {
		t.Fatal(err)
	}
	if want := plainToken(t, cred, cfg, b, sent.Stamp(), random); string(token) != "kept"+string(want) {
		t.Fatalf("token\n%x, want\n%x", token, want)
	}
}

func TestEveryFieldOfATokenIsReadByAnAcceptor(t *testing.T) {
	bindings, err := TLSServerEndPointBindings([]byte("hash"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range etypes {
		cred := testCredential(t, id, 100)
		cfg := TemplateConfig{Flags: GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_INTEG_FLAG, Bindings: true}
		token, sent, err := newTemplate(t, cred, cfg).AppendToken(t.Context(), nil, &bindings)
		if err != nil {
			t.Fatal(err)
		}
		a, plain := openToken(t, token, cred.Key)
		sum, err := ParseChecksum(a.Cksum.Value)
		if err != nil {
			t.Fatal(err)
		}
		if a.CRealm != "EXAMPLE.COM" || !a.CName.Equal(cred.Client.Name) ||
			a.CUSec != sent.Stamp().Cusec || !a.CTime.Equal(sent.Stamp().CTime()) ||
			a.Cksum.Type != CKSUMTYPE_GSS || sum.Bindings != bindings || sum.Flags != cfg.Flags {
			t.Errorf("%s: %+v %+v", id, a, sum)
		}
		if a.SeqNumber < 1<<29 || a.SeqNumber >= 1<<30 || a.Subkey.EType() != id || a.Subkey.Equal(cred.Key) {
			t.Errorf("%s: sequence number %d, subkey %v", id, a.SeqNumber, a.Subkey)
		}
		if again := a.Marshal(); !bytes.HasPrefix(plain, again) { // the DES types pad
			t.Errorf("%s: encoded again %x, was %x", id, again, plain)
		}
	}
}

// openToken decrypts a token's authenticator.
func openToken(tb testing.TB, token []byte, key enctype.Key) (*messages.Authenticator, []byte) {
	tb.Helper()
	parsed, err := ParseToken(token)
	if err != nil {
		tb.Fatal(err)
	}
	req, err := messages.ParseAPReq(parsed.Body)
	if err != nil {
		tb.Fatal(err)
	}
	plain, err := key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, req.Authenticator.Cipher)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := messages.ParseAuthenticator(plain)
	if err != nil {
		tb.Fatal(err)
	}
	return a, plain
}

func TestSubkeysConfoundersAndSequenceNumbersDiffer(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	template := newTemplate(t, cred, TemplateConfig{})
	const tokens = 2000
	subkeys, seqs, blocks := map[string]bool{}, map[uint32]bool{}, map[string]bool{}
	for range tokens {
		token, _, err := template.AppendToken(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := openToken(t, token, cred.Key)
		subkeys[string(a.Subkey.Bytes())] = true
		seqs[a.SeqNumber] = true
		blocks[string(token[template.TokenLen()-template.tailLen+template.restLen:][:16])] = true
		if bytes.Count(a.Subkey.Bytes(), []byte{0}) > 8 {
			t.Fatalf("subkey %x is not random", a.Subkey.Bytes())
		}
	}
	if len(subkeys) != tokens || len(blocks) != tokens || len(seqs) < tokens-5 {
		t.Errorf("of %d tokens: %d subkeys, %d first blocks, %d sequence numbers", tokens, len(subkeys), len(blocks), len(seqs))
	}
}

func TestAPRepToOurTokenVerifies(t *testing.T) {
	for _, id := range etypes {
		cred := testCredential(t, id, 100)
		template := newTemplate(t, cred, TemplateConfig{Flags: GSS_C_MUTUAL_FLAG})
		_, sent, err := template.Header(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, other, err := template.Header(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		part := messages.EncAPRepPart{CTime: sent.Stamp().CTime(), CUSec: sent.Stamp().Cusec}
		cipher, err := cred.Key.Encrypt(seeded(2), enctype.KEY_USAGE_AP_REP, part.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		rep := messages.APRep{EncPart: messages.EncryptedData{EType: id, Cipher: cipher}}
		if err := sent.VerifyAPRep(rep.Marshal()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := other.VerifyAPRep(rep.Marshal()); !errors.Is(err, ErrNotAuthenticated) {
			t.Errorf("%s: the answer to another token: %v", id, err)
		}
	}
}

func TestRepeatGoesByTheAcceptorsClock(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	now := time.Unix(1_800_000_000, 500_000_000)
	clock := newClock(t, ClockConfig{Now: func() time.Time { return now }, Offset: func() time.Duration { return time.Hour }})
	template := newTemplate(t, cred, TemplateConfig{Clock: clock})
	header, sent, err := template.HeaderAt(t.Context(), nil, -10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate "))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := openToken(t, token, cred.Key)
	if want := now.Add(-10 * time.Minute).Truncate(time.Second); !a.CTime.Equal(want) || !sent.Stamp().CTime().Equal(want) {
		t.Errorf("repeat bears %s, want %s", a.CTime, want)
	}
	if _, sent, _ = template.Header(t.Context(), nil); sent.Stamp().CTime().Before(now.Add(time.Hour - time.Second)) {
		t.Errorf("the next token bears %s, not the realm's time", sent.Stamp().CTime())
	}
}

func TestWrongUseOfATemplateIsRefused(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	clock := newClock(t, ClockConfig{})
	bound := newTemplate(t, cred, TemplateConfig{Bindings: true})
	unbound := newTemplate(t, cred, TemplateConfig{})
	for name, use := range map[string]func() error{
		"no bindings":           func() error { _, _, err := bound.Header(t.Context(), nil); return err },
		"zero bindings":         func() error { _, _, err := bound.Header(t.Context(), &ChannelBindings{}); return err },
		"bindings not expected": func() error { _, _, err := unbound.AppendToken(t.Context(), nil, &ChannelBindings{1}); return err },
		"no clock":              func() error { _, err := NewTemplate(cred, TemplateConfig{}); return err },
		"no credential":         func() error { _, err := NewTemplate(&messages.Credential{}, TemplateConfig{Clock: clock}); return err },
		"no client": func() error {
			_, err := NewTemplate(&messages.Credential{Key: cred.Key, Ticket: cred.Ticket}, TemplateConfig{Clock: clock})
			return err
		},
		"flag without ticket": func() error {
			_, err := NewTemplate(cred, TemplateConfig{Clock: clock, Flags: GSS_C_DELEG_FLAG})
			return err
		},
		"ticket without flag": func() error {
			_, err := NewTemplate(cred, TemplateConfig{Clock: clock, DelegatedCred: []byte("cred")})
			return err
		},
		"delegated ticket too large": func() error {
			_, err := NewTemplate(cred, TemplateConfig{Clock: clock, Flags: GSS_C_DELEG_FLAG, DelegatedCred: make([]byte, 65536)})
			return err
		},
		"no random octets": func() error {
			_, _, err := newTemplate(t, cred, TemplateConfig{Rand: strings.NewReader("few")}).Header(t.Context(), nil)
			return err
		},
	} {
		if use() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMintingAllocatesTheHeaderOnly(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	ctx := context.Background()
	for _, id := range enctype.Strong() {
		bindings := ChannelBindings{1}
		template := newTemplate(t, testCredential(t, id, 1000), TemplateConfig{Bindings: true})
		got := testing.AllocsPerRun(1000, func() {
			if _, _, err := template.Header(ctx, &bindings); err != nil {
				t.Fatal(err)
			}
		})
		if got > 1 {
			t.Errorf("%s: %v allocations a header, want 1", id, got)
		}
	}
}
