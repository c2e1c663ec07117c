package exchange

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// pkinitKDC is a KDC with a certificate. A test spoils one thing of its answers.
type pkinitKDC struct {
	t    testing.TB
	id   *pkinit.Identity
	kdf  bool                                       // by RFC 8636
	info func(*messages.KDCDHKeyInfo)               // nil for none
	rep  func(*messages.PAPKASRep)                  // nil for none
	done func(*issue, enctype.Key)                  // nil for none
	got  func(*messages.KDCReq, *messages.AuthPack) // nil for none
}

var pkinitRand = &counter{n: 7}

// pki has a CA, a KDC's certificate and alice's, valid at the epoch.
func pki(t testing.TB) (*pkitest.CA, *pkinit.Identity, *pkinit.Identity) {
	t.Helper()
	ca := pkitest.NewCAAt(t, "test CA", epoch)
	kdc, client := pkitest.ForKDC(realm), pkitest.ForClient("alice", realm)
	return ca, identity(t, ca, kdc), identity(t, ca, client)
}

func identity(t testing.TB, ca *pkitest.CA, spec pkitest.Spec) *pkinit.Identity {
	t.Helper()
	spec.ECDSA = true
	if spec.NotBefore.IsZero() {
		spec.NotBefore = epoch.Add(-time.Hour)
	}
	if spec.NotAfter.IsZero() {
		spec.NotAfter = epoch.Add(time.Hour)
	}
	p := ca.Issue(t, spec)
	return must.OK(pkinit.NewIdentity(p.Chain, p.Key))(t)
}

// offering asks for PKINIT, with a freshness token.
func offering(t testing.TB) kdc { return offeringToken(t, "fresh") }

func offeringToken(t testing.TB, token string) kdc {
	return func(_ int, r *Request) []byte {
		return errorFor(t, r.Message, messages.KDC_ERR_PREAUTH_REQUIRED, messages.PAData{Type: messages.PA_PK_AS_REQ},
			messages.PAData{Type: messages.PA_AS_FRESHNESS, Value: []byte(token)}).Marshal()
	}
}

func (k pkinitKDC) answer(_ int, r *Request) []byte {
	t := k.t
	t.Helper()
	req := parseRequest(t, r.Message)
	value, ok := req.PAData.Find(messages.PA_PK_AS_REQ)
	if !ok {
		t.Fatal("no PA-PK-AS-REQ")
	}
	pa := must.OK(messages.ParsePAPKASReq(value))(t)
	signed := must.OK(pkinit.Verify(pkinit.AuthData, pa.SignedAuthPack))(t)
	pack := must.OK(messages.ParseAuthPack(signed.Content))(t)
	if sum, _ := pkinit.Checksums(req.Body.Raw); !bytes.Equal(sum, pack.PKAuthenticator.PAChecksum) {
		t.Error("paChecksum is not over the body")
	}
	if k.got != nil {
		k.got(req, pack)
	}
	group := must.OK(pkinit.Demanded(messages.TDDHParameters{pack.ClientPublicValue.Algorithm}, true))(t)
	pair := must.OK(group.Generate(pkinitRand))(t)
	info := messages.KDCDHKeyInfo{SubjectPublicKey: pair.Public.SubjectPublicKey, Nonce: pack.PKAuthenticator.Nonce}
	if k.info != nil {
		k.info(&info)
	}
	rep := messages.PAPKASRep{DHInfo: &messages.DHRepInfo{DHSignedData: must.OK(pkinit.Sign(pkinit.DHKeyData, info.Marshal(), k.id, pkinitRand))(t)}}
	if k.kdf {
		rep.DHInfo.KDF = &pack.SupportedKDFs[0]
	}
	if k.rep != nil {
		k.rep(&rep)
	}
	reply := rep.Marshal()
	kdf := pkinit.KDF{
		EType: aes256, Client: messages.Principal{Name: req.Body.CName, Realm: req.Body.Realm},
		TGS: messages.Principal{Name: req.Body.SName, Realm: req.Body.Realm}, ASReq: r.Message, PASRep: reply,
	}
	anonymous := req.Body.KDCOptions&messages.KDC_OPT_REQUEST_ANONYMOUS != 0
	if anonymous {
		kdf.Client.Realm = anonymousRealm
	}
	if rep.DHInfo != nil {
		kdf.ID = rep.DHInfo.KDF
	}
	secret := must.OK(pair.Shared(pack.ClientPublicValue.SubjectPublicKey))(t)
	key, err := kdf.ReplyKey(secret)
	if err != nil {
		key = newKey(t, aes256)
	}
	i := newASIssue(t, r.Message, key)
	i.rep.PAData = messages.MethodData{{Type: messages.PA_PK_AS_REP, Value: reply}}
	if anonymous {
		i.client(AnonymousClient(anonymousRealm))
		i.part.Flags |= messages.TKT_FLG_ANONYMOUS
		contribution := newKey(t, aes256)
		i.part.Key = must.OK(enctype.CF2(contribution, key, "PKINIT", "KEYEXCHANGE"))(t)
		cipher := must.OK(key.Encrypt(testRand, enctype.KEY_USAGE_PA_PKINIT_KX, messages.MarshalEncryptionKey(contribution)))(t)
		i.rep.PAData = append(i.rep.PAData, messages.PAData{
			Type: messages.PA_PKINIT_KX, Value: messages.EncryptedData{EType: key.EType(), Cipher: cipher}.Marshal(),
		})
	}
	if k.done != nil {
		k.done(i, key)
	}
	return i.seal(t)
}

func newPKINIT(t testing.TB, ca *pkitest.CA, id *pkinit.Identity, change func(*ASConfig)) *AS {
	t.Helper()
	return newAS(t, func(c *ASConfig) {
		c.Keys, c.PKINIT = nil, &PKINIT{Identity: id, Roots: ca.Pool()}
		if id == nil {
			c.Client = AnonymousClient(realm)
		}
		if change != nil {
			change(c)
		}
	})
}

func TestPKINIT_Login(t *testing.T) {
	ca, kdcs, alices := pki(t)
	for name, rfc8636 := range map[string]bool{"RFC 8636": true, "RFC 4556": false} {
		var events trail
		a := newPKINIT(t, ca, alices, func(c *ASConfig) { c.Trace = events.add })
		k := pkinitKDC{t: t, id: kdcs, kdf: rfc8636, got: func(req *messages.KDCReq, pack *messages.AuthPack) {
			p := pack.PKAuthenticator
			if string(p.FreshnessToken) != "fresh" || p.PAChecksum2 == nil || len(pack.SupportedCMSTypes) == 0 || p.Nonce != req.Body.Nonce {
				t.Errorf("%+v", pack)
			}
		}}
		requests := must.OK(run(t, a, inTurn(offering(t), k.answer)))(t)
		first := parseRequest(t, requests[0].Message)
		if value, ok := first.PAData.Find(messages.PA_AS_FRESHNESS); !ok || len(value) != 0 {
			t.Error("no freshness token is asked for")
		}
		if len(requests) != 2 || requests[0].PreAuth || !requests[1].PreAuth || a.cfg.Budget.Sent() != 1 {
			t.Errorf("%s: %d requests, %d proofs", name, len(requests), a.cfg.Budget.Sent())
		}
		events.wants(t, "MODP group 14", "has proved its certificate", "key derivation of "+name, "confirmed our request")
	}
}

func TestPKINIT_Anonymous(t *testing.T) {
	ca, kdcs, _ := pki(t)
	a := newPKINIT(t, ca, nil, nil)
	requests := must.OK(run(t, a, inTurn(offering(t), pkinitKDC{t: t, id: kdcs, kdf: true}.answer)))(t)
	req := parseRequest(t, requests[1].Message)
	if c := a.Result().Credential; c.Client.String() != "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS" || req.Body.KDCOptions&messages.KDC_OPT_REQUEST_ANONYMOUS == 0 {
		t.Errorf("%s", c.Client)
	}
	if a.cfg.Budget.Sent() != 0 {
		t.Error("there is nothing to prove")
	}
}

func TestPKINIT_BadReply(t *testing.T) {
	ca, kdcs, alices := pki(t)
	spec := func(change func(*pkitest.Spec)) *pkinit.Identity {
		s := pkitest.ForKDC(realm)
		change(&s)
		return identity(t, ca, s)
	}
	good := func(k *pkinitKDC) { k.id = kdcs }
	for name, c := range map[string]struct {
		anonymous bool
		change    func(*pkinitKDC)
		field     string
		err       error
	}{
		"good": {false, good, "", nil},
		"the DNS name": {false, func(k *pkinitKDC) {
			k.id = spec(func(s *pkitest.Spec) { s.Principals, s.DNSNames = nil, []string{"dc1.krb5.test"} })
		}, "", nil},
		"critical name": {false, func(k *pkinitKDC) { k.id = spec(func(s *pkitest.Spec) { s.CriticalSAN = true }) }, "", nil},
		"another nonce": {false, func(k *pkinitKDC) { good(k); k.info = func(i *messages.KDCDHKeyInfo) { i.Nonce++ } }, "PA-PK-AS-REP", nil},
		"a public value of 1": {false, func(k *pkinitKDC) {
			good(k)
			k.info = func(i *messages.KDCDHKeyInfo) { i.SubjectPublicKey = []byte{2, 1, 1} }
		}, "PA-PK-AS-REP", nil},
		"serverDHNonce": {false, func(k *pkinitKDC) {
			good(k)
			k.rep = func(r *messages.PAPKASRep) { r.DHInfo.ServerDHNonce = []byte{1} }
		}, "PA-PK-AS-REP", errServerNonce},
		"a KDF not offered": {false, func(k *pkinitKDC) {
			good(k)
			k.rep = func(r *messages.PAPKASRep) {
				r.DHInfo.KDF = &messages.KDFAlgorithmID{KDFID: []byte("\x2b\x06\x01\x05\x02\x03\x06\x01")}
			}
		}, "PA-PK-AS-REP", nil},
		"no PA-PK-AS-REP": {false, func(k *pkinitKDC) { good(k); k.done = func(i *issue, _ enctype.Key) { i.rep.PAData = nil } }, "PA-PK-AS-REP", nil},
		"another key":     {false, func(k *pkinitKDC) { good(k); k.done = func(i *issue, _ enctype.Key) { i.key = newKey(t, aes256) } }, "enc-part", errAgreedKey},
		"no signer":       {false, func(k *pkinitKDC) { k.id = nil }, "PA-PK-AS-REP", nil},
		"a client's":      {false, func(k *pkinitKDC) { k.id = alices }, "PA-PK-AS-REP", pkinit.ErrNotKDC},
		"another realm's": {false, func(k *pkinitKDC) { k.id = identity(t, ca, pkitest.ForKDC("OTHER.TEST")) }, "PA-PK-AS-REP", pkinit.ErrOtherRealm},
		"another domain's": {false, func(k *pkinitKDC) {
			k.id = spec(func(s *pkitest.Spec) { s.Principals, s.DNSNames = nil, []string{"dc1.sub.krb5.test", "krb5.test.evil"} })
		}, "PA-PK-AS-REP", pkinit.ErrOtherRealm},
		"expired":       {false, func(k *pkinitKDC) { k.id = spec(func(s *pkitest.Spec) { s.NotAfter = epoch.Add(-time.Second) }) }, "PA-PK-AS-REP", nil},
		"not yet valid": {false, func(k *pkinitKDC) { k.id = spec(func(s *pkitest.Spec) { s.NotBefore = epoch.Add(time.Minute) }) }, "PA-PK-AS-REP", nil},
		"no signatures": {false, func(k *pkinitKDC) { k.id = spec(func(s *pkitest.Spec) { s.KeyUsage = 1 << 2 }) }, "PA-PK-AS-REP", nil},
		"another CA":    {false, func(k *pkinitKDC) { k.id = identity(t, pkitest.NewCAAt(t, "another CA", epoch), pkitest.ForKDC(realm)) }, "PA-PK-AS-REP", nil},
		"anonymous without PA-PKINIT-KX": {true, func(k *pkinitKDC) {
			good(k)
			k.done = func(i *issue, _ enctype.Key) { i.rep.PAData = i.rep.PAData[:1] }
		}, "PA-PKINIT-KX", nil},
		"anonymous with another session key": {true, func(k *pkinitKDC) {
			good(k)
			k.done = func(i *issue, _ enctype.Key) { i.part.Key = newKey(t, aes256) }
		}, "key", nil},
		"anonymous in name only": {true, func(k *pkinitKDC) {
			good(k)
			k.done = func(i *issue, _ enctype.Key) { i.part.Flags &^= messages.TKT_FLG_ANONYMOUS }
		}, "flags", nil},
		"as somebody": {true, func(k *pkinitKDC) {
			good(k)
			k.done = func(i *issue, _ enctype.Key) { i.client(alice) }
		}, "crealm", nil},
		"anonymous, not asked for": {false, func(k *pkinitKDC) {
			good(k)
			k.done = func(i *issue, _ enctype.Key) { i.part.Flags |= messages.TKT_FLG_ANONYMOUS }
		}, "flags", nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := pkinitKDC{t: t, kdf: true}
			c.change(&k)
			id := alices
			if c.anonymous {
				id = nil
			}
			_, err := run(t, newPKINIT(t, ca, id, nil), inTurn(offering(t), k.answer))
			wantField(t, err, c.field)
			if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v, not %v", err, c.err)
			}
		})
	}
}

// No password and no key is ever tried in place of the certificate.
func TestPKINIT_NotOffered(t *testing.T) {
	ca, _, alices := pki(t)
	requests, err := run(t, newPKINIT(t, ca, alices, nil), demanding(t))
	var none *PreAuthError
	if !errors.As(err, &none) || len(requests) != 1 {
		t.Errorf("%d requests, %v", len(requests), err)
	}
}

// Heimdal 7 does not read what follows paChecksum2, and transports a key.
func TestPKINIT_KeyTransport(t *testing.T) {
	ca, kdcs, alices := pki(t)
	transport := pkinitKDC{t: t, id: kdcs, rep: func(r *messages.PAPKASRep) { *r = messages.PAPKASRep{EncKeyPack: []byte{0x30, 0}} }}
	plain := pkinitKDC{t: t, id: kdcs, got: func(_ *messages.KDCReq, pack *messages.AuthPack) {
		if pack.PKAuthenticator.PAChecksum2 != nil {
			t.Error("paChecksum2 is sent again")
		}
	}}
	a := newPKINIT(t, ca, alices, nil)
	must.OK(run(t, a, inTurn(offering(t), transport.answer, plain.answer)))(t)
	if n := a.cfg.Budget.Sent(); n != 2 {
		t.Errorf("%d proofs", n)
	}
	_, err := run(t, newPKINIT(t, ca, alices, nil), inTurn(offering(t), transport.answer))
	if !errors.Is(err, errKeyTransport) {
		t.Errorf("key transport is taken: %v", err)
	}
}

func TestPKINIT_Groups(t *testing.T) {
	ca, kdcs, alices := pki(t)
	demanded := func(groups ...string) kdc {
		return func(_ int, r *Request) []byte {
			var list messages.TDDHParameters
			for _, g := range pkinit.Groups() {
				if slices.Contains(groups, g.String()) {
					list = append(list, g.ID())
				}
			}
			return errorFor(t, r.Message, messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED,
				messages.PAData{Type: messages.TD_DH_PARAMETERS, Value: list.Marshal()}).Marshal()
		}
	}
	k := pkinitKDC{t: t, id: kdcs, kdf: true}
	for _, group := range []string{"MODP group 16", "P-256", "P-384"} {
		var events trail
		a := newPKINIT(t, ca, alices, func(c *ASConfig) { c.Trace = events.add })
		must.OK(run(t, a, inTurn(offering(t), demanded(group), k.answer)))(t)
		events.wants(t, "the KDC demands "+group)
	}
	_, err := run(t, newPKINIT(t, ca, alices, nil), inTurn(offering(t), demanded("MODP group 2")))
	if !errors.Is(err, pkinit.ErrWeakGroup) {
		t.Errorf("group 2: %v", err)
	}
	must.OK(run(t, newPKINIT(t, ca, alices, func(c *ASConfig) { c.PKINIT.WeakGroups = true }), inTurn(offering(t), demanded("MODP group 2"), k.answer)))(t)
	requests, err := run(t, newPKINIT(t, ca, alices, nil), inTurn(offering(t), demanded("P-256")))
	wantCode(t, err, messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED)
	wantRequests(t, requests, 3)
}

func TestPKINIT_FreshnessExpired(t *testing.T) {
	ca, kdcs, alices := pki(t)
	k := pkinitKDC{t: t, id: kdcs, kdf: true, got: func(_ *messages.KDCReq, pack *messages.AuthPack) {
		if string(pack.PKAuthenticator.FreshnessToken) != "new" {
			t.Errorf("token %q", pack.PKAuthenticator.FreshnessToken)
		}
	}}
	requests := must.OK(run(t, newPKINIT(t, ca, alices, nil),
		inTurn(offering(t), refusing(t, messages.KDC_ERR_PREAUTH_EXPIRED), offeringToken(t, "new"), k.answer)))(t)
	wantRequests(t, requests, 4)
	_, err := run(t, newPKINIT(t, ca, alices, nil),
		inTurn(offering(t), refusing(t, messages.KDC_ERR_PREAUTH_EXPIRED), offeringToken(t, "new"), refusing(t, messages.KDC_ERR_PREAUTH_EXPIRED)))
	wantCode(t, err, messages.KDC_ERR_PREAUTH_EXPIRED)
}

// Of PA-PK-AS-REP every truncation fails, and every flipped bit fails or yields the same key of the
// same signer. What RFC 4556 leaves unprotected (RFC 8636 derives the key from all of it):
//
//	what                                   why its change does no harm
//	versions of SignedData and SignerInfo  they say nothing that is not read anyway
//	digestAlgorithms                       a hint for one pass; the signer's own is used
//	signatureAlgorithm                     the verifier is chosen by the certificate's key
//	certificates that are not needed       they only help to build a chain, which is verified
func TestPKINIT_EveryBit(t *testing.T) {
	ca, kdcs, alices := pki(t)
	a := newPKINIT(t, ca, alices, nil)
	req := must.OK(a.Step(nil))(t)
	a.public.group = pkinit.Groups()[2] // P-256, which is fast
	req = must.OK(a.Step(offering(t)(0, req)))(t)
	rep := must.OK(messages.ParseKDCRep(pkinitKDC{t: t, id: kdcs}.answer(1, req)))(t)
	value, _ := rep.PAData.Find(messages.PA_PK_AS_REP)
	want, from, err := a.agree(value, aes256)
	must.Do(t, err)
	for n := range value {
		if _, _, err := a.agree(value[:n], aes256); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(value))
		}
	}
	free := map[string][]byte{ // where an element of DER begins, and its bytes
		"SignedData version and digestAlgorithms": {2, 1, 3, 0x31, 0x0d, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1},
		"SignerInfo version":                      {2, 1, 1, 0x30},
		"signatureAlgorithm":                      {0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 4},
	}
	allowed := make([]bool, len(value))
	for name, element := range free {
		at := bytes.LastIndex(value, element)
		if at < 0 {
			t.Fatalf("%s is not there", name)
		}
		for i := range element {
			allowed[at+i] = true
		}
	}
	unprotected := 0
	for i := range value {
		for bit := range 8 {
			flipped := bytes.Clone(value)
			flipped[i] ^= 1 << bit
			key, signer, err := a.agree(flipped, aes256)
			switch {
			case err != nil:
			case !key.Equal(want) || !signer.Certificate.Equal(from.Certificate):
				t.Errorf("byte %d, bit %d: another key or signer", i, bit)
			case !allowed[i]:
				t.Errorf("byte %d (%02x), bit %d is not protected: %x", i, value[i], bit, value[max(i-6, 0):min(i+6, len(value))])
			default:
				unprotected++
			}
		}
	}
	if unprotected == 0 {
		t.Error("the table names bytes that are protected")
	}
}
