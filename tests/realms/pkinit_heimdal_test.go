package realms

import (
	"errors"
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

// heimdalKDC lets newClient know Heimdal's KDC.
type heimdalKDC struct {
	*heimdal
	lab.Realm
}

func (h heimdalKDC) Name() string { return heimdalRealm }
func (h heimdalKDC) KDC() string  { return "127.0.0.1:" + h.port }

// Heimdal's KDC answers nearly all that is wrong with a certificate by 31 or 75, derives the key as
// RFC 4556 does, and signs with SHA-1 unless the client lists what it supports.
func TestHeimdal_PKINIT(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	cert, key := ca.Issue(t, pkitest.ForKDC(heimdalRealm)).Files(t)
	h := startHeimdal(t, "enable-pkinit = yes", "pkinit_identity = FILE:"+cert+","+key, "pkinit_anchors = FILE:"+ca.File(t), "allow-anonymous = yes")
	h.kadmin("add", "-r", "--use-defaults", "--attributes=requires-pre-auth", "alice")
	h.kadmin("add", "-p", "secret", "--use-defaults", "--attributes=requires-pre-auth", "bob")
	h.kadmin("add", "-r", "--use-defaults", "HTTP/app.heimdal.test")
	h.run()
	realm := heimdalKDC{heimdal: h}

	t.Run("login", func(t *testing.T) {
		client, tr := newClient(t, trusting(ca), realm)
		alice := byCertificate(t, "alice@"+heimdalRealm, ca.Issue(t, pkitest.ForClient("alice", heimdalRealm)))
		ticket(t, client, alice, login(t, client, alice), "HTTP/app.heimdal.test")
		if kdc, ok := eventOf[exchange.KDCCertificate](tr); !ok || kdc.KDF != "RFC 4556" || kdc.Digest.String() != "SHA-256" {
			t.Errorf("%+v\n%s", kdc, tr)
		}
	})
	t.Run("anonymous armor", func(t *testing.T) {
		client, tr := newClient(t, func(c *krb5core.Config) { trusting(ca)(c); c.Armor = krb5core.AnonymousArmor() }, realm)
		bob := password(t, "bob@"+heimdalRealm, "secret", nil)
		// Heimdal 7 answers armored requests for service tickets without armor.
		ticket(t, client, bob, login(t, client, bob), "HTTP/app.heimdal.test")
		if kdc, ok := eventOf[exchange.KDCCertificate](tr); !ok || kdc.Realm != heimdalRealm {
			t.Errorf("%+v\n%s", kdc, tr)
		}
	})
	refusals := pkinitRefusals(t, ca, heimdalRealm)
	for name, pair := range refusals {
		t.Run(name, func(t *testing.T) {
			client, tr := newClient(t, trusting(ca), realm)
			_, err := client.Login(t.Context(), byCertificate(t, "alice@"+heimdalRealm, pair), nil)
			var fail *krb5core.Error
			if !errors.As(err, &fail) || !fail.Refused || fail.PreAuths > exchange.MaxProofs {
				t.Errorf("%v\n%s", err, tr)
			}
		})
	}
}

// pkinitRefusals are certificates that no KDC of the realm takes for alice's.
func pkinitRefusals(t *testing.T, ca *pkitest.CA, realm string) map[string]*pkitest.Pair {
	t.Helper()
	alice := pkitest.ForClient("alice", realm)
	expired, early := alice, alice
	expired.NotAfter, early.NotBefore = time.Now().Add(-time.Minute), time.Now().Add(30*time.Minute)
	return map[string]*pkitest.Pair{
		"unknown CA":    pkitest.NewCA(t, "another CA").Issue(t, alice),
		"expired":       ca.Issue(t, expired),
		"not yet valid": ca.Issue(t, early),
		"another name":  ca.Issue(t, pkitest.ForClient("bob", realm)),
	}
}

func TestHeimdal_PKINITOtherKDC(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	spec := pkitest.ForKDC("OTHER.TEST")
	cert, key := ca.Issue(t, spec).Files(t)
	h := startHeimdal(t, "enable-pkinit = yes", "pkinit_identity = FILE:"+cert+","+key, "pkinit_anchors = FILE:"+ca.File(t))
	h.kadmin("add", "-r", "--use-defaults", "--attributes=requires-pre-auth", "alice")
	h.run()
	client, tr := newClient(t, trusting(ca), heimdalKDC{heimdal: h})
	_, err := client.Login(t.Context(), byCertificate(t, "alice@"+heimdalRealm, ca.Issue(t, pkitest.ForClient("alice", heimdalRealm))), nil)
	if _, waited := errors.AsType[*kdc.UnreachableError](err); waited || !errors.Is(err, pkinit.ErrOtherRealm) {
		t.Errorf("%v\n%s", err, tr)
	}
}

func TestSamba_PKINIT(t *testing.T) {
	s := lab.SharedSamba(t)
	ca := pkitest.NewCA(t, "PKINIT test CA")
	// As a domain controller's: no krbtgt, but its name.
	cert, key := ca.Issue(t, pkitest.Spec{Name: "dc1", DNSNames: []string{"dc1.corp.test"}, EKU: pkitest.ForKDC("").EKU}).Files(t)
	s.EnablePKINIT(t, cert, key, ca.File(t))

	t.Run("login by UPN", func(t *testing.T) {
		client, tr := newClient(t, trusting(ca), s)
		alice := byCertificate(t, "alice@CORP.TEST", ca.Issue(t, pkitest.Spec{Name: "alice", UPN: "alice@corp.test"}))
		ticket(t, client, alice, login(t, client, alice), "HTTP/iis.corp.test")
		if kdc, ok := eventOf[exchange.KDCCertificate](tr); !ok || kdc.Certificate.Subject.CommonName != "dc1" {
			t.Errorf("%+v\n%s", kdc, tr)
		}
	})
	for name, pair := range pkinitRefusals(t, ca, "CORP.TEST") {
		t.Run(name, func(t *testing.T) {
			client, tr := newClient(t, trusting(ca), s)
			_, err := client.Login(t.Context(), byCertificate(t, "alice@CORP.TEST", pair), nil)
			var fail *krb5core.Error
			if !errors.As(err, &fail) || !fail.Refused || fail.PreAuths > exchange.MaxProofs {
				t.Errorf("%v\n%s", err, tr)
			}
		})
	}
	t.Run("no anonymous armor", func(t *testing.T) {
		client, tr := newClient(t, func(c *krb5core.Config) { trusting(ca)(c); c.Armor = krb5core.AnonymousArmor() }, s)
		_, err := client.Login(t.Context(), password(t, "alice@CORP.TEST", "alice-secret", nil), nil)
		if fail := refused(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN); fail.Op != krb5core.OpArmor {
			t.Errorf("%v\n%s", err, tr)
		}
	})
}
