package kdctest_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

const pkinitRealm = "CORP.EXAMPLE"

// pki is a realm whose KDC has a certificate of a CA, and a client that trusts the CA.
type pki struct {
	t     *testing.T
	ca    *pkitest.CA
	realm *kdctest.Realm
	kdc   *kdctest.KDC

	tracer certificates
}

// certificates is a tracer that keeps what KDCs prove.
type certificates struct {
	mu     sync.Mutex
	proved []exchange.KDCCertificate
}

func (c *certificates) ObserveMessage(context.Context, kdc.MessageEvent) {}
func (c *certificates) ObserveDecision(context.Context, kdc.Decision)    {}
func (c *certificates) ObserveExchange(_ context.Context, _ krb5core.Op, e exchange.Event) {
	if e, ok := e.(exchange.KDCCertificate); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.proved = append(c.proved, e)
	}
}

func newPKI(t *testing.T, change func(*kdctest.PKINIT)) *pki {
	t.Helper()
	p := &pki{t: t, ca: pkitest.NewCA(t, "test CA"), realm: kdctest.NewRealm(pkinitRealm)}
	p.realm.AddUser("alice", "secret")
	p.realm.AddUser("bob", "secret")
	p.realm.AddService("HTTP/web.corp.example")
	p.realm.MapSuffix("people.example", pkinitRealm)
	cfg := kdctest.PKINIT{KDC: p.identity(pkitest.ForKDC(pkinitRealm)), CAs: []*x509.Certificate{p.ca.Certificate}, Anonymous: true}
	if change != nil {
		change(&cfg)
	}
	p.realm.EnablePKINIT(cfg)
	p.kdc = start(t, p.realm)
	return p
}

func (p *pki) identity(spec pkitest.Spec) *pkinit.Identity {
	return identity(p.t, p.ca.Issue(p.t, spec))
}

func identity(t *testing.T, pair *pkitest.Pair) *pkinit.Identity {
	t.Helper()
	return must.OK(pkinit.NewIdentity(pair.Chain, pair.Key))(t)
}

func (p *pki) client(change func(*krb5core.Config)) *krb5core.Client {
	p.t.Helper()
	finder := kdc.Static{pkinitRealm: {must.OK(kdc.ParseServer(p.kdc.Addr()))(p.t)}}
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute}))(p.t)
	cfg := krb5core.Config{Sender: sender, Finder: finder, PKINIT: krb5core.PKINITConfig{Roots: p.ca.Pool()}}
	if change != nil {
		change(&cfg)
	}
	return must.OK(krb5core.NewClient(cfg))(p.t)
}

// login logs alice in, and gets a ticket.
func (p *pki) login(id *pkinit.Identity) error {
	p.t.Helper()
	user := must.OK(krb5core.ParseUser("alice@"+pkinitRealm, krb5core.UserForm{}))(p.t)
	account := krb5core.NewCertificateAccount(user, func() (*pkinit.Identity, error) { return id, nil }, nil)
	client := p.client(func(c *krb5core.Config) { c.Tracer = &p.tracer })
	tgt, err := client.Login(p.t.Context(), account, nil)
	if err != nil {
		return err
	}
	web := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
	cred, err := client.ServiceTicket(p.t.Context(), account, tgt, web)
	if err == nil && cred.Client.String() != "alice@"+pkinitRealm {
		p.t.Errorf("the ticket is of %s", cred.Client)
	}
	return err
}

func TestPKINIT_Login(t *testing.T) {
	group := func(name string) func(*kdctest.PKINIT) {
		return func(p *kdctest.PKINIT) {
			p.Groups = slices.DeleteFunc(pkinit.Groups(), func(g *pkinit.Group) bool { return g.String() != name })
		}
	}
	for name, c := range map[string]struct {
		change    func(*kdctest.PKINIT)
		spec      func(*pkitest.Spec)
		regrouped int
		kdf       string // RFC 8636 if empty
	}{
		"RSA":       {},
		"ECDSA":     {spec: func(s *pkitest.Spec) { s.ECDSA = true }},
		"UPN":       {spec: func(s *pkitest.Spec) { s.Principals, s.UPN = nil, "alice@people.example" }},
		"freshness": {change: func(p *kdctest.PKINIT) { p.Freshness = true }},
		"RFC 4556":  {change: func(p *kdctest.PKINIT) { p.RFC4556 = true }, kdf: "RFC 4556"},
		"MODP 16":   {change: group("MODP group 16"), regrouped: 1},
		"P-256":     {change: group("P-256"), regrouped: 1},
		"P-384":     {change: group("P-384"), regrouped: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPKI(t, c.change)
			spec := pkitest.ForClient("alice", pkinitRealm)
			if c.spec != nil {
				c.spec(&spec)
			}
			must.Do(t, p.login(p.identity(spec)))
			n := p.kdc.Counts()
			if n.ASRep != 1 || n.TGSRep != 1 || n.Errors[messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED] != c.regrouped {
				t.Errorf("counts %+v", n)
			}
			if proved := p.tracer.proved; len(proved) != 1 || proved[0].KDF != cmp.Or(c.kdf, "RFC 8636") {
				t.Errorf("the KDC proves %v", proved)
			}
		})
	}
}

func TestPKINIT_Refusals(t *testing.T) {
	p := newPKI(t, nil)
	spec := func(change func(*pkitest.Spec)) pkitest.Spec {
		s := pkitest.ForClient("alice", pkinitRealm)
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		by   *pkitest.CA
		spec pkitest.Spec
		want messages.ErrorCode
	}{
		"unknown CA":    {pkitest.NewCA(t, "another CA"), spec(func(*pkitest.Spec) {}), messages.KDC_ERR_CANT_VERIFY_CERTIFICATE},
		"expired":       {p.ca, spec(func(s *pkitest.Spec) { s.NotAfter = time.Now().Add(-time.Minute) }), messages.KDC_ERR_INVALID_CERTIFICATE},
		"not yet valid": {p.ca, spec(func(s *pkitest.Spec) { s.NotBefore = time.Now().Add(30 * time.Minute) }), messages.KDC_ERR_INVALID_CERTIFICATE},
		"another name":  {p.ca, pkitest.ForClient("bob", pkinitRealm), messages.KDC_ERR_CLIENT_NAME_MISMATCH},
		"another realm": {p.ca, pkitest.ForClient("alice", "OTHER.EXAMPLE"), messages.KDC_ERR_CLIENT_NAME_MISMATCH},
		"another UPN":   {p.ca, spec(func(s *pkitest.Spec) { s.Principals, s.UPN = nil, "alice@other.example" }), messages.KDC_ERR_CLIENT_NAME_MISMATCH},
		"no usage":      {p.ca, spec(func(s *pkitest.Spec) { s.EKU = nil }), messages.KDC_ERR_INCONSISTENT_KEY_PURPOSE},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, p.login(identity(t, c.by.Issue(t, c.spec))), c.want)
		})
	}
	err := p.login(identity(t, pkitest.NewCA(t, "another CA").Issue(t, pkitest.ForClient("alice", pkinitRealm))))
	var e *messages.KRBError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	value, _ := e.Data().PAData.Find(messages.TD_TRUSTED_CERTIFIERS)
	if list := must.OK(messages.ParseTDCertifiers(value))(t); len(list) != 1 || !bytes.Equal(list[0].SubjectName, p.ca.Certificate.RawSubject) {
		t.Errorf("the KDC trusts %x", list)
	}
	if n := p.kdc.Counts().ASRep; n != 0 {
		t.Errorf("%d logins", n)
	}
}

func wantRefusal(t *testing.T, err error, code messages.ErrorCode) {
	t.Helper()
	var e *krb5core.Error
	if !errors.As(err, &e) || !e.Refused || e.Code != code {
		t.Errorf("%v, not %v", err, code)
	}
}

func TestPKINIT_NotEnabled(t *testing.T) {
	p := newPKI(t, nil)
	p.realm = kdctest.NewRealm(pkinitRealm)
	p.realm.AddUser("alice", "secret")
	p.kdc = start(t, p.realm)
	if err := p.login(p.identity(pkitest.ForClient("alice", pkinitRealm))); err == nil || p.kdc.Counts().ASReqPreAuth != 0 {
		t.Errorf("%v, counts %+v", err, p.kdc.Counts())
	}
}

// request is alice's AS-REQ, or an anonymous client's, with an AuthPack that a test spoils.
func (p *pki) request(by *pkinit.Identity, user string, spoil func(*messages.KDCReq, *messages.AuthPack)) messages.ErrorCode {
	t := p.t
	t.Helper()
	req := asReq(pkinitRealm, user, 7)
	pair := must.OK(pkinit.Groups()[2].Generate(rand.Reader))(t)
	pack := messages.AuthPack{PKAuthenticator: messages.PKAuthenticator{CTime: p.kdc.Now().Truncate(time.Second), Nonce: 7}, ClientPublicValue: &pair.Public}
	if user != "alice" {
		req.Body.CName = messages.NewPrincipalName(messages.KRB_NT_WELLKNOWN, "WELLKNOWN", "ANONYMOUS")
	}
	parsed := must.OK(messages.ParseKDCReq(req.Marshal()))(t)
	pack.PKAuthenticator.PAChecksum, pack.PKAuthenticator.PAChecksum2 = pkinit.Checksums(parsed.Body.Raw)
	spoil(req, &pack)
	pa := messages.PAPKASReq{SignedAuthPack: must.OK(pkinit.Sign(pkinit.AuthData, pack.Marshal(), by, rand.Reader))(t)}
	req.PAData = append(req.PAData, messages.PAData{Type: messages.PA_PK_AS_REQ, Value: pa.Marshal()})
	answer := p.kdc.Handle(req.Marshal())
	if e, err := messages.ParseKRBError(answer); err == nil {
		return e.ErrorCode
	}
	must.OK(messages.ParseKDCRep(answer))(t)
	return 0
}

func TestPKINIT_SpoiltRequests(t *testing.T) {
	p := newPKI(t, nil)
	alice := p.identity(pkitest.ForClient("alice", pkinitRealm))
	type authenticator = messages.PKAuthenticator
	with := func(change func(*authenticator)) func(*messages.KDCReq, *messages.AuthPack) {
		return func(_ *messages.KDCReq, a *messages.AuthPack) { change(&a.PKAuthenticator) }
	}
	for name, c := range map[string]struct {
		by    *pkinit.Identity
		user  string
		spoil func(*messages.KDCReq, *messages.AuthPack)
		want  messages.ErrorCode
	}{
		"none":            {alice, "alice", with(func(*authenticator) {}), 0},
		"clock":           {alice, "alice", with(func(a *authenticator) { a.CTime = a.CTime.Add(-time.Hour) }), messages.KRB_AP_ERR_SKEW},
		"no checksum":     {alice, "alice", with(func(a *authenticator) { a.PAChecksum = nil }), messages.KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED},
		"checksum":        {alice, "alice", with(func(a *authenticator) { a.PAChecksum = make([]byte, 20) }), messages.KRB_AP_ERR_MODIFIED},
		"second checksum": {alice, "alice", with(func(a *authenticator) { a.PAChecksum2.Checksum = make([]byte, 32) }), messages.KRB_AP_ERR_MODIFIED},
		"another request": {alice, "alice", func(r *messages.KDCReq, _ *messages.AuthPack) { r.Body.Nonce++ }, messages.KRB_AP_ERR_MODIFIED},
		"freshness token": {alice, "alice", with(func(a *authenticator) { a.FreshnessToken = make([]byte, 20) }), messages.KDC_ERR_PREAUTH_EXPIRED},
		"key transport": {
			alice, "alice", func(_ *messages.KDCReq, a *messages.AuthPack) { a.ClientPublicValue = nil },
			messages.KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED,
		},
		"public value": {
			alice, "alice", func(_ *messages.KDCReq, a *messages.AuthPack) { a.ClientPublicValue.SubjectPublicKey = []byte{4} },
			messages.KDC_ERR_PREAUTH_FAILED,
		},
		"KDF": {alice, "alice", func(_ *messages.KDCReq, a *messages.AuthPack) {
			a.SupportedKDFs = []messages.KDFAlgorithmID{{KDFID: []byte{0x2a, 3}}}
		}, messages.KDC_ERR_NO_ACCEPTABLE_KDF},
		"not signed":        {nil, "alice", with(func(*authenticator) {}), messages.KDC_ERR_PREAUTH_FAILED},
		"anonymous in name": {nil, "nobody", with(func(*authenticator) {}), messages.KDC_ERR_BADOPTION},
		"anonymous in options": {alice, "alice", func(r *messages.KDCReq, _ *messages.AuthPack) {
			r.Body.KDCOptions |= messages.KDC_OPT_REQUEST_ANONYMOUS
		}, messages.KDC_ERR_BADOPTION},
	} {
		t.Run(name, func(t *testing.T) {
			if code := p.request(c.by, c.user, c.spoil); code != c.want {
				t.Errorf("%v, not %v", code, c.want)
			}
		})
	}
}

func TestPKINIT_WrongSignature(t *testing.T) {
	p := newPKI(t, nil)
	pair := p.ca.Issue(t, pkitest.ForClient("alice", pkinitRealm))
	signed := must.OK(pkinit.Sign(pkinit.AuthData, []byte("pack"), identity(t, pair), rand.Reader))(t)
	signed[len(signed)-1] ^= 1
	req := asReq(pkinitRealm, "alice", 7)
	req.PAData = messages.MethodData{{Type: messages.PA_PK_AS_REQ, Value: (&messages.PAPKASReq{SignedAuthPack: signed}).Marshal()}}
	if e := must.OK(messages.ParseKRBError(p.kdc.Handle(req.Marshal())))(t); e.ErrorCode != messages.KDC_ERR_INVALID_SIG {
		t.Error(e)
	}
}

func TestPKINIT_FreshnessRequired(t *testing.T) {
	p := newPKI(t, func(c *kdctest.PKINIT) { c.Freshness = true })
	alice := p.identity(pkitest.ForClient("alice", pkinitRealm))
	if code := p.request(alice, "alice", func(*messages.KDCReq, *messages.AuthPack) {}); code != messages.KDC_ERR_PREAUTH_FAILED {
		t.Errorf("%v without a token", code)
	}
	hello := asReq(pkinitRealm, "alice", 1)
	hello.PAData = messages.MethodData{{Type: messages.PA_AS_FRESHNESS}}
	e := must.OK(messages.ParseKRBError(p.kdc.Handle(hello.Marshal())))(t)
	token, ok := e.Data().PAData.Find(messages.PA_AS_FRESHNESS)
	if !ok {
		t.Fatal("no token")
	}
	use := func(_ *messages.KDCReq, a *messages.AuthPack) { a.PKAuthenticator.FreshnessToken = token }
	if code := p.request(alice, "alice", use); code != 0 {
		t.Errorf("%v with the token", code)
	}
	p.kdc.JumpClock(time.Minute * 6)
	if code := p.request(alice, "alice", use); code != messages.KDC_ERR_PREAUTH_EXPIRED {
		t.Errorf("%v with an old token", code)
	}
}

func TestPKINIT_AnonymousArmor(t *testing.T) {
	p := newPKI(t, nil)
	p.realm.Principal("alice").Set(kdctest.With(kdctest.ArmoredOnly))
	armored := func(c *krb5core.Config) { c.Armor = krb5core.AnonymousArmor() }
	login := func() error {
		user := must.OK(krb5core.ParseUser("alice@"+pkinitRealm, krb5core.UserForm{}))(t)
		keys := krb5core.PasswordKeys(func() (string, error) { return "secret", nil })
		_, err := p.client(armored).Login(t.Context(), krb5core.NewAccount(user, keys, nil), nil)
		return err
	}
	must.Do(t, login())
	// Anonymous, which proves nothing, and alice.
	if c := p.kdc.Counts(); c.ASRep != 2 || c.Armored == 0 || c.ASReqPreAuth != 1 || c.Clients["WELLKNOWN/ANONYMOUS@"+pkinitRealm].ASRep != 1 {
		t.Errorf("counts %+v", c)
	}
	p = newPKI(t, func(c *kdctest.PKINIT) { c.Anonymous = false })
	wantRefusal(t, login(), messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	if c := p.kdc.Counts(); c.ASRep != 0 {
		t.Errorf("counts %+v", c)
	}
}

// mit is MIT's tools, which trust the CA and look for the KDC's certificate.
func (p *pki) mit() *mit {
	p.t.Helper()
	lab.Require(p.t, lab.PKINIT)
	return newMIT(p.t, p.kdc, "pkinit_anchors = FILE:"+p.ca.File(p.t))
}

func TestMITCertificate(t *testing.T) {
	p := newPKI(t, func(c *kdctest.PKINIT) { c.Freshness = true })
	m := p.mit()
	identity := func(user string) string {
		cert, key := p.ca.Issue(t, pkitest.ForClient(user, pkinitRealm)).Files(t)
		return "X509_user_identity=FILE:" + cert + "," + key
	}
	if out, err := m.try("", "kinit", "-X", identity("bob"), "alice"); err == nil {
		t.Errorf("logged in by another's certificate: %s", out)
	}
	if n := p.kdc.Counts().Errors[messages.KDC_ERR_CLIENT_NAME_MISMATCH]; n == 0 {
		t.Errorf("errors %v", p.kdc.Counts().Errors)
	}
	m.run("", "kinit", "-X", identity("alice"), "alice")
	m.run("", "kvno", "HTTP/web.corp.example")
	if c := p.kdc.Counts(); c.ASRep != 1 || c.TGSRep != 1 {
		t.Errorf("counts %+v", c)
	}
}

// anonymousFlag is klist's letter for the flag.
var anonymousFlag = regexp.MustCompile(`Flags: \w*a`)

func TestMITAnonymous(t *testing.T) {
	p := newPKI(t, nil)
	m := p.mit()
	armor := "FILE:" + filepath.Join(m.dir, "armor")
	m.run("", "kinit", "-n", "-c", armor)
	m.run("", "kvno", "-c", armor, "HTTP/web.corp.example")
	out := m.run("", "klist", "-f", "-c", armor)
	if !strings.Contains(out, "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS") || len(anonymousFlag.FindAllString(out, -1)) != 2 {
		t.Errorf("klist shows\n%s", out)
	}
	p.realm.Principal("alice").Set(kdctest.With(kdctest.ArmoredOnly))
	m.run("secret\n", "kinit", "-T", armor, "alice")
}
