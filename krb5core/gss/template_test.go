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
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// etypes are those that tickets come with, weak ones included.
var etypes = []enctype.ID{
	enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96,
	enctype.AES128_CTS_HMAC_SHA256_128, enctype.AES256_CTS_HMAC_SHA384_192,
	enctype.CAMELLIA128_CTS_CMAC, enctype.CAMELLIA256_CTS_CMAC,
	enctype.RC4_HMAC, enctype.DES3_CBC_SHA1, enctype.DES_CBC_MD5, enctype.DES_CBC_CRC,
}

// testCredential is a credential with a ticket whose ciphertext has n bytes.
func testCredential(tb testing.TB, id enctype.ID, n int) *messages.Credential {
	tb.Helper()
	key := must.OK(enctype.GenerateKey(id, seeded(1)))(tb)
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
	return must.OK(NewClock(cfg))(tb)
}

func newTemplate(tb testing.TB, cred *messages.Credential, cfg TemplateConfig) *Template {
	tb.Helper()
	if cfg.Clock == nil {
		cfg.Clock = newClock(tb, ClockConfig{})
	}
	return must.OK(NewTemplate(cred, cfg))(tb)
}

// plainToken makes the token that a Template should, by the encoders of messages and in the order of RFC 4121, from the
// same random bytes.
func plainToken(
	tb testing.TB, cred *messages.Credential, cfg TemplateConfig, bindings *ChannelBindings, stamp Stamp, random io.Reader,
) []byte {
	tb.Helper()
	sealer := must.OK(cred.Key.Sealer(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR))(tb)
	confounder, seq := make([]byte, sealer.ConfounderSize()), make([]byte, 4)
	for _, b := range [][]byte{confounder, seq} {
		must.OK(io.ReadFull(random, b))(tb)
	}
	subkey := must.OK(enctype.GenerateKey(cred.Key.EType(), random))(tb)
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
	cipher := must.OK(cred.Key.Encrypt(bytes.NewReader(confounder), enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, authenticator.Marshal()))(tb)
	ticket := must.OK(messages.ParseTicket(cred.Ticket))(tb)
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

func TestTemplate_EqualsPlainEncoder(t *testing.T) {
	bindings := ChannelBindings{1, 2, 3, 4, 5}
	for _, id := range etypes {
		for name, cfg := range map[string]TemplateConfig{
			"plain":     {},
			"mutual":    {Flags: GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG, Framing: octetString},
			"bindings":  {Flags: GSS_C_MUTUAL_FLAG, Bindings: true, Framing: octetString},
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
		must.Do(t, err)
		want := plainToken(t, cred, cfg, b, sent.Stamp(), random)
		if wantHeader := "Negotiate " + base64.StdEncoding.EncodeToString(want); header != wantHeader {
			t.Fatalf("header\n%s, want\n%s", header, wantHeader)
		}
	}
}

// mintToken returns a token and its context.
func mintToken(tb testing.TB, template *Template, bindings *ChannelBindings) ([]byte, Context) {
	tb.Helper()
	header, sent, err := template.Header(tb.Context(), bindings)
	must.Do(tb, err)
	return tokenOf(tb, header), sent
}

// tokenOf decodes a header.
func tokenOf(tb testing.TB, header string) []byte {
	tb.Helper()
	return must.OK(base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate ")))(tb)
}

// openToken decrypts a token's authenticator.
func openToken(tb testing.TB, token []byte, key enctype.Key) *messages.Authenticator {
	tb.Helper()
	parsed := must.OK(ParseToken(token))(tb)
	req := must.OK(messages.ParseAPReq(parsed.Body))(tb)
	plain := must.OK(key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, req.Authenticator.Cipher))(tb)
	return must.OK(messages.ParseAuthenticator(plain))(tb)
}

func TestTemplate_FreshValues(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	template := newTemplate(t, cred, TemplateConfig{})
	const tokens = 2000
	subkeys, seqs, blocks := map[string]bool{}, map[uint32]bool{}, map[string]bool{}
	for range tokens {
		token, _ := mintToken(t, template, nil)
		a := openToken(t, token, cred.Key)
		subkeys[string(a.Subkey.Bytes())] = true
		seqs[a.SeqNumber] = true
		blocks[string(token[len(token)-template.tailLen+template.restLen:][:16])] = true
		if bytes.Count(a.Subkey.Bytes(), []byte{0}) > 8 {
			t.Fatalf("subkey %x is not random", a.Subkey.Bytes())
		}
	}
	if len(subkeys) != tokens || len(blocks) != tokens || len(seqs) < tokens-5 {
		t.Errorf("of %d tokens: %d subkeys, %d first blocks, %d sequence numbers", tokens, len(subkeys), len(blocks), len(seqs))
	}
}

func TestTemplate_APRep(t *testing.T) {
	for _, id := range etypes {
		cred := testCredential(t, id, 100)
		template := newTemplate(t, cred, TemplateConfig{Flags: GSS_C_MUTUAL_FLAG})
		_, sent, err := template.Header(t.Context(), nil)
		must.Do(t, err)
		_, other, err := template.Header(t.Context(), nil)
		must.Do(t, err)
		part := messages.EncAPRepPart{CTime: sent.Stamp().CTime(), CUSec: sent.Stamp().Cusec}
		cipher := must.OK(cred.Key.Encrypt(seeded(2), enctype.KEY_USAGE_AP_REP, part.Marshal()))(t)
		rep := messages.APRep{EncPart: messages.EncryptedData{EType: id, Cipher: cipher}}
		if err := sent.VerifyToken(rep.Marshal()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := other.VerifyToken(rep.Marshal()); !errors.Is(err, ErrNotAuthenticated) {
			t.Errorf("%s: the answer to another token: %v", id, err)
		}
	}
}

func TestTemplate_HeaderAt(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	now := time.Unix(1_800_000_000, 500_000_000)
	clock := newClock(t, ClockConfig{Now: func() time.Time { return now }, Offset: func() time.Duration { return time.Hour }})
	template := newTemplate(t, cred, TemplateConfig{Clock: clock})
	header, sent, err := template.HeaderAt(t.Context(), nil, -10*time.Minute)
	must.Do(t, err)
	a := openToken(t, tokenOf(t, header), cred.Key)
	if want := now.Add(-10 * time.Minute).Truncate(time.Second); !a.CTime.Equal(want) || !sent.Stamp().CTime().Equal(want) {
		t.Errorf("repeat has %s, want %s", a.CTime, want)
	}
	if _, sent, _ = template.Header(t.Context(), nil); sent.Stamp().CTime().Before(now.Add(time.Hour - time.Second)) {
		t.Errorf("the next token has %s, not the realm's time", sent.Stamp().CTime())
	}
}

func TestTemplate_WrongUse(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 100)
	clock := newClock(t, ClockConfig{})
	bound := newTemplate(t, cred, TemplateConfig{Bindings: true})
	unbound := newTemplate(t, cred, TemplateConfig{})
	for name, use := range map[string]func() error{
		"no bindings":           func() error { _, _, err := bound.Header(t.Context(), nil); return err },
		"zero bindings":         func() error { _, _, err := bound.Header(t.Context(), &ChannelBindings{}); return err },
		"bindings not expected": func() error { _, _, err := unbound.Header(t.Context(), &ChannelBindings{1}); return err },
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
		"no random bytes": func() error {
			_, _, err := newTemplate(t, cred, TemplateConfig{Rand: strings.NewReader("few")}).Header(t.Context(), nil)
			return err
		},
	} {
		if use() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTemplate_Allocations(t *testing.T) {
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
