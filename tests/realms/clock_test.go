package realms

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

func TestMIT_ClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			m := lab.StartMIT(t, lab.MITOptions{Skew: skew, Principals: []lab.Principal{
				{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"},
			}})
			clock := krb5core.NewClock(nil)
			client, tr := newClient(t, nil, m)
			alice := password(t, "alice@LAB.TEST", "alice-secret", clock)
			tgt := login(t, client, alice)
			ticket(t, client, alice, tgt, "HTTP/app.lab.test")
			if off := clock.Offset("LAB.TEST") - skew; off.Abs() > 5*time.Second {
				t.Errorf("the offset learnt is %s, want %s", clock.Offset("LAB.TEST"), skew)
			}
			if e, ok := eventOf[exchange.SkewLearnt](tr); !ok || e.Confirmed {
				t.Errorf("%v: an error's time is believed before a reply has confirmed it", e)
			}
			if n := tr.count("received", "KRB_AP_ERR_SKEW"); n != 1 {
				t.Errorf("the KDC has found the clock wrong %d times, want once:\n%s", n, tr)
			}
			// The next login knows the time.
			login(t, client, password(t, "alice@LAB.TEST", "alice-secret", clock))
			if n := tr.count("received", "KRB_AP_ERR_SKEW"); n != 1 {
				t.Errorf("the offset was forgotten:\n%s", tr)
			}
		})
	}
}

// A realm's clock is its own: a trusted realm's may be another.
func TestMIT_ClocksOfTwoRealms(t *testing.T) {
	near := lab.StartMIT(t, lab.MITOptions{Skew: 10 * time.Minute, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	far := lab.StartMIT(t, lab.MITOptions{Skew: 10 * time.Minute, Realm: "REMOTE.TEST", Principals: []lab.Principal{{Name: "HTTP/far.remote.test"}}})
	near.Trust(t, far)
	clock := krb5core.NewClock(nil)
	client, _ := newClient(t, nil, near, far)
	alice := password(t, "alice@LAB.TEST", "alice-secret", clock)
	cred := ticket(t, client, alice, login(t, client, alice), "HTTP/far.remote.test")
	if cred.Service.Realm != "REMOTE.TEST" {
		t.Fatalf("the ticket is of realm %s", cred.Service.Realm)
	}
	for _, realm := range []string{"LAB.TEST", "REMOTE.TEST"} {
		if off := clock.Offset(realm) - 10*time.Minute; off.Abs() > 5*time.Second {
			t.Errorf("the offset of %s is %s", realm, clock.Offset(realm))
		}
	}
}

func TestMIT_Referral(t *testing.T) {
	near := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	far := lab.StartMIT(t, lab.MITOptions{Realm: "REMOTE.TEST", Principals: []lab.Principal{{Name: "HTTP/far.remote.test"}, {Name: "HTTP/other.remote.test"}}})
	near.Trust(t, far)
	client, tr := newClient(t, nil, near, far)
	alice := password(t, "alice@LAB.TEST", "alice-secret", nil)
	tgt := login(t, client, alice)
	cred := ticket(t, client, alice, tgt, "HTTP/far.remote.test")
	if got := cred.Service.String(); got != "HTTP/far.remote.test@REMOTE.TEST" {
		t.Errorf("a ticket for %s", got)
	}
	part := opened(t, cred, far.Keytab(t, "HTTP/far.remote.test"))
	if part.CName.String() != "alice" || part.CRealm != "LAB.TEST" {
		t.Errorf("the ticket is of %s@%s", part.CName, part.CRealm)
	}
	if e, ok := eventOf[exchange.Referral](tr); !ok || e.From != "LAB.TEST" || e.To != "REMOTE.TEST" {
		t.Errorf("referral: %v", e)
	}
	// The second service of that realm begins at the near one, which alone knows where it is; it takes one exchange more
	// at most, and no second TGT.
	ticket(t, client, alice, tgt, "HTTP/other.remote.test")
	if _, err := client.ServiceTicket(t.Context(), alice, tgt, spn(t, "HTTP/none.remote.test")); err == nil {
		t.Error("a ticket for a service that there is not")
	} else {
		refused(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	}
}
