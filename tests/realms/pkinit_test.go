package realms

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// pkinitRealm is an MIT realm whose KDC has a certificate of the CA.
func pkinitRealm(t *testing.T, ca *pkitest.CA, kdc *pkitest.Pair, conf ...string) *lab.MIT {
	t.Helper()
	lab.Require(t, lab.PKINIT)
	cert, key := kdc.Files(t)
	m := lab.StartMIT(t, lab.MITOptions{
		Realm:   "PKINIT.TEST",
		KDCConf: append([]string{"pkinit_identity = FILE:" + cert + "," + key, "pkinit_anchors = FILE:" + ca.File(t), "pkinit_anchors = FILE:" + kdc.CA.File(t), "pkinit_indicator = pkinit"}, conf...),
		Principals: []lab.Principal{
			{Name: "alice", Flags: []string{"+requires_preauth", "-allow_svr"}},
			{Name: "bob", Password: "bob-secret"},
			{Name: "HTTP/app.pkinit.test"},
			{Name: "WELLKNOWN/ANONYMOUS"},
		},
	})
	m.Kadmin(t, "setstr HTTP/app.pkinit.test require_auth pkinit")
	return m
}

// byCertificate is an account that logs in by certificate.
func byCertificate(t *testing.T, user string, pair *pkitest.Pair) *krb5core.Account {
	t.Helper()
	p, err := krb5core.ParseUser(user, krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := pkinit.NewIdentity(pair.Chain, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return krb5core.NewCertificateAccount(p, func() (*pkinit.Identity, error) { return id, nil }, nil)
}

func trusting(ca *pkitest.CA) func(*krb5core.Config) {
	return func(c *krb5core.Config) { c.PKINIT.Roots = ca.Pool() }
}

func TestMIT_PKINITLogin(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")))
	ec := pkitest.ForClient("alice", "PKINIT.TEST")
	ec.ECDSA = true
	below := ca.Intermediate(t, "PKINIT test sub-CA")
	for name, pair := range map[string]*pkitest.Pair{
		"RSA":          ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST")),
		"ECDSA":        ca.Issue(t, ec),
		"intermediate": below.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST")).Below(below),
	} {
		t.Run(name, func(t *testing.T) {
			client, tr := newClient(t, trusting(ca), m)
			alice := byCertificate(t, "alice@PKINIT.TEST", pair)
			tgt := login(t, client, alice)
			// The service takes only those who logged in by certificate.
			ticket(t, client, alice, tgt, "HTTP/app.pkinit.test")
			kdc, ok := eventOf[exchange.KDCCertificate](tr)
			if !ok || kdc.KDF != "RFC 8636" || kdc.Digest.String() != "SHA-256" || kdc.Root.Subject.CommonName != "PKINIT test CA" {
				t.Errorf("%+v\n%s", kdc, tr)
			}
			if _, ok := eventOf[exchange.EncPARepVerified](tr); !ok {
				t.Error("the KDC's checksum over the request was not verified")
			}
		})
	}
}

func TestMIT_PKINITRefusals(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")))
	spec := func(change func(*pkitest.Spec)) pkitest.Spec {
		s := pkitest.ForClient("alice", "PKINIT.TEST")
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		by   *pkitest.CA
		spec pkitest.Spec
		want messages.ErrorCode
	}{
		"unknown CA":    {pkitest.NewCA(t, "another CA"), spec(func(*pkitest.Spec) {}), messages.KDC_ERR_CANT_VERIFY_CERTIFICATE},
		"expired":       {ca, spec(func(s *pkitest.Spec) { s.NotAfter = time.Now().Add(-time.Minute) }), messages.KDC_ERR_INVALID_CERTIFICATE},
		"not yet valid": {ca, spec(func(s *pkitest.Spec) { s.NotBefore = time.Now().Add(30 * time.Minute) }), messages.KDC_ERR_INVALID_CERTIFICATE},
		"another name":  {ca, pkitest.ForClient("bob", "PKINIT.TEST"), messages.KDC_ERR_CLIENT_NAME_MISMATCH},
		"UPN":           {ca, spec(func(s *pkitest.Spec) { s.Principals, s.UPN = nil, "alice@PKINIT.TEST" }), messages.KDC_ERR_CLIENT_NAME_MISMATCH},
		"no usage":      {ca, spec(func(s *pkitest.Spec) { s.EKU = nil }), messages.KDC_ERR_INCONSISTENT_KEY_PURPOSE},
	} {
		t.Run(name, func(t *testing.T) {
			client, tr := newClient(t, trusting(ca), m)
			_, err := client.Login(t.Context(), byCertificate(t, "alice@PKINIT.TEST", c.by.Issue(t, c.spec)), nil)
			fail := refused(t, err, c.want)
			if fail.PreAuths > exchange.MaxProofs || !fail.Confirmed {
				t.Errorf("%+v\n%s", fail, tr)
			}
		})
	}
}

// MIT's KDC looks for revoked certificates where pkinit_revoke says, and may demand a list.
func TestMIT_PKINITRevoked(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	alice := ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))
	for name, c := range map[string]struct {
		conf []string
		want messages.ErrorCode // 0 for a login
	}{
		"not listed": {[]string{"pkinit_revoke = FILE:" + ca.Revoke(t), "pkinit_require_crl_checking = true"}, 0},
		"revoked":    {[]string{"pkinit_revoke = FILE:" + ca.Revoke(t, alice)}, messages.KDC_ERR_REVOKED_CERTIFICATE},
		"no list":    {[]string{"pkinit_require_crl_checking = true"}, messages.KDC_ERR_REVOCATION_STATUS_UNKNOWN},
	} {
		t.Run(name, func(t *testing.T) {
			m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")), c.conf...)
			client, tr := newClient(t, trusting(ca), m)
			_, err := client.Login(t.Context(), byCertificate(t, "alice@PKINIT.TEST", alice), nil)
			if c.want == 0 {
				if err != nil {
					t.Errorf("%v\n%s", err, tr)
				}
				return
			}
			if fail := refused(t, err, c.want); fail.PreAuths > exchange.MaxProofs || !fail.Confirmed {
				t.Errorf("%+v\n%s", fail, tr)
			}
		})
	}
}

// A KDC that does not prove to be the realm's gets no login, and no other proof.
func TestMIT_PKINITOtherKDC(t *testing.T) {
	ca, other := pkitest.NewCA(t, "PKINIT test CA"), pkitest.NewCA(t, "another CA")
	for name, c := range map[string]struct {
		kdc  *pkitest.Pair
		want string
	}{
		"unknown CA": {other.Issue(t, pkitest.ForKDC("PKINIT.TEST")), "unknown authority"},
		"a client":   {ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST")), "not for a KDC"},
	} {
		t.Run(name, func(t *testing.T) {
			m := pkinitRealm(t, ca, c.kdc)
			client, tr := newClient(t, trusting(ca), m)
			_, err := client.Login(t.Context(), byCertificate(t, "alice@PKINIT.TEST", ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))), nil)
			var cert *pkinit.CertificateError
			if !errors.As(err, &cert) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\n%s", err, tr)
			}
			// The reply itself is the error, not that no other came in time.
			if _, waited := errors.AsType[*kdc.UnreachableError](err); waited {
				t.Errorf("%v\n%s", err, tr)
			}
		})
	}
}

func TestMIT_PKINITGroups(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	alice := ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")), "pkinit_dh_min_bits = 4096")
	client, tr := newClient(t, trusting(ca), m)
	login(t, client, byCertificate(t, "alice@PKINIT.TEST", alice))
	if tr.count("received", "KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED") != 1 || tr.count("sent KRB_AS_REQ") != 3 {
		t.Errorf("%s", tr)
	}
}

// The inner request of FAST carries the certificate, and the key derivation covers the outer one.
func TestMIT_PKINITWithFAST(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")))
	client, _ := newClient(t, func(c *krb5core.Config) {
		trusting(ca)(c)
		c.Armor = krb5core.AnonymousArmor()
	}, m)
	alice := byCertificate(t, "alice@PKINIT.TEST", ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST")))
	ticket(t, client, alice, login(t, client, alice), "HTTP/app.pkinit.test")
}

// MIT's KDC offers a freshness token to those that ask, and here demands it.
func TestMIT_PKINITFreshness(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")), "pkinit_require_freshness = true")
	client, _ := newClient(t, trusting(ca), m)
	login(t, client, byCertificate(t, "alice@PKINIT.TEST", ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))))
}

func TestMIT_AnonymousArmor(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")), "encrypted_challenge_indicator = fast")
	m.Kadmin(t, "setstr HTTP/app.pkinit.test require_auth fast")
	client, tr := newClient(t, func(c *krb5core.Config) {
		trusting(ca)(c)
		c.Armor = krb5core.AnonymousArmor()
	}, m)
	bob := password(t, "bob@PKINIT.TEST", "bob-secret", nil)
	ticket(t, client, bob, login(t, client, bob), "HTTP/app.pkinit.test")
	login(t, client, bob) // with the armor that is held
	if n := m.Logins(t, "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS"); n > 1 {
		t.Errorf("%d anonymous logins:\n%s", n, tr)
	}
}

// No login goes out without armor where the KDC has no anonymous PKINIT.
func TestMIT_AnonymousArmorRefused(t *testing.T) {
	m := fastRealm(t)
	client, tr := newClient(t, func(c *krb5core.Config) { c.Armor = krb5core.AnonymousArmor() }, m)
	_, err := client.Login(t.Context(), password(t, "alice@FAST.TEST", "alice-secret", nil), nil)
	var fail *krb5core.Error
	if !errors.As(err, &fail) || fail.Op != krb5core.OpArmor {
		t.Errorf("%v\n%s", err, tr)
	}
	if n := m.Count(t, lab.Exchange{Client: "alice@FAST.TEST"}); n != 0 {
		t.Errorf("%d requests for alice without armor", n)
	}
}
