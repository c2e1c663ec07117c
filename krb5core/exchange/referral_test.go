package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// realms is a net of KDCs: each knows its TGTs and where to refer to.
type realms struct {
	t     *testing.T
	tgts  map[string]*messages.Credential // by realm, the TGT that the client presents there
	spoil func(realm string, i *issue)
}

// refer answers with a TGT for another realm.
func (n *realms) refer(r *Request, to string) []byte {
	i := newTGSIssue(n.t, r.Message, n.tgts[r.Realm])
	i.service(messages.TGSName(to))
	i.rep.Ticket.EncPart.Cipher = []byte("cross-realm ticket for " + to + " by " + r.Realm)
	if n.spoil != nil {
		n.spoil(r.Realm, i)
	}
	b := i.seal(n.t)
	n.tgts[to] = i.cred()
	return b
}

// grant answers with what was asked for.
func (n *realms) grant(r *Request) []byte {
	i := newTGSIssue(n.t, r.Message, n.tgts[r.Realm])
	if n.spoil != nil {
		n.spoil(r.Realm, i)
	}
	return i.seal(n.t)
}

func newRealms(t *testing.T, tgt *messages.Credential) *realms {
	return &realms{t: t, tgts: map[string]*messages.Credential{tgtRealm(tgt): tgt}}
}

func TestServiceReferralsAreFollowed(t *testing.T) {
	var events trail
	m := newTGS(t, func(c *TGSConfig) { c.Trace = events.add })
	n := newRealms(t, m.cfg.TGT)
	requests, err := drive(t, m, func(_ int, r *Request) []byte {
		switch r.Realm {
		case realm:
			return n.refer(r, other)
		case other:
			return n.refer(r, "THIRD.TEST")
		}
		return n.grant(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize", "HTTP/web.krb5.test@OTHER.TEST canonicalize", "HTTP/web.krb5.test@THIRD.TEST canonicalize")
	r := m.Result()
	if len(r.Referrals) != 2 || r.Referrals[1].Service.Name.String() != "krbtgt/THIRD.TEST" || !r.Credential.Client.Equal(alice) {
		t.Errorf("result: %+v", r)
	}
	events.wants(t, "realm KRB5.TEST refers to realm OTHER.TEST", "realm OTHER.TEST refers to realm THIRD.TEST")
}

func TestServiceReferralLoopsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		next     func(realm string, hop int) string
		requests int
		reason   string
	}{
		"there and back": {func(at string, _ int) string { return map[string]string{realm: other, other: "krb5.test"}[at] }, 2, "loop"},
		"eleven hops":    {func(_ string, hop int) string { return fmt.Sprintf("R%d.TEST", hop) }, 11, "too many hops"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTGS(t, nil)
			n := newRealms(t, m.cfg.TGT)
			requests, err := drive(t, m, func(hop int, r *Request) []byte { return n.refer(r, c.next(r.Realm, hop)) })
			var e *ReferralError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, c.reason) || len(requests) != c.requests {
				t.Errorf("%d requests, error %v", len(requests), err)
			}
		})
	}
}

func TestReferralToTheSameRealmIsAskedAgainPlainly(t *testing.T) {
	m := newTGS(t, nil)
	n := newRealms(t, m.cfg.TGT)
	requests, err := drive(t, m, func(hop int, r *Request) []byte {
		if hop == 0 {
			i := newTGSIssue(t, r.Message, m.cfg.TGT)
			i.service(messages.TGSName(realm))
			return i.seal(t)
		}
		return n.grant(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize", "HTTP/web.krb5.test@KRB5.TEST")
}

func TestClientStaysOursAcrossRealms(t *testing.T) {
	m := newTGS(t, nil)
	n := newRealms(t, m.cfg.TGT)
	n.spoil = func(at string, i *issue) {
		if at == other {
			i.rep.CRealm = other
		}
	}
	_, err := drive(t, m, func(_ int, r *Request) []byte {
		if r.Realm == realm {
			return n.refer(r, other)
		}
		return n.grant(r)
	})
	wantField(t, err, "crealm")
}

func TestNamedRealmIsReachedByItsTGT(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = other })
	n := newRealms(t, m.cfg.TGT)
	requests, err := drive(t, m, func(hop int, r *Request) []byte {
		if hop == 0 {
			return n.refer(r, other)
		}
		return n.grant(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST", "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestKnownTGTSparesTheWay(t *testing.T) {
	known := tgtFor(t, alice, other, realm)
	m := newTGS(t, func(c *TGSConfig) {
		c.Realm = other
		c.Known = func(r string) *messages.Credential {
			if r == other {
				return known
			}
			return nil
		}
	})
	n := newRealms(t, known)
	requests, err := drive(t, m, func(_ int, r *Request) []byte { return n.grant(r) })
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestPathIsWalkedFromItsFarEnd(t *testing.T) {
	const target = "B.X.TEST"
	client := messages.Principal{Name: alice.Name, Realm: "A.X.TEST"}
	m := newTGS(t, func(c *TGSConfig) { c.TGT, c.Realm = tgtFor(t, client, "A.X.TEST", "A.X.TEST"), target })
	n := newRealms(t, m.cfg.TGT)
	requests, err := drive(t, m, func(hop int, r *Request) []byte {
		sname := parseRequest(t, r.Message).Body.SName.String()
		switch {
		case r.Realm == "A.X.TEST" && sname == "krbtgt/X.TEST", r.Realm == "X.TEST" && sname == "krbtgt/"+target:
			return n.refer(r, strings.TrimPrefix(sname, "krbtgt/"))
		case r.Realm == target:
			return n.grant(r)
		}
		return errorFor(t, r.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN).Marshal()
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "krbtgt/B.X.TEST@A.X.TEST", "krbtgt/X.TEST@A.X.TEST", "krbtgt/B.X.TEST@X.TEST", "HTTP/web.krb5.test@B.X.TEST canonicalize")
}

func TestConfiguredPathIsTheOnlyOne(t *testing.T) {
	capath := func(client, server string) []string {
		if client != realm || server != other {
			t.Errorf("asked for the path from %s to %s", client, server)
		}
		return []string{"HUB.TEST"}
	}
	m := newTGS(t, func(c *TGSConfig) { c.Realm, c.CAPath = other, capath })
	n := newRealms(t, m.cfg.TGT)
	_, err := drive(t, m, func(_ int, r *Request) []byte { return n.refer(r, "EVIL.TEST") })
	var e *ReferralError
	if !errors.As(err, &e) || !strings.Contains(e.Reason, "configured path") {
		t.Errorf("error %v", err)
	}

	m = newTGS(t, func(c *TGSConfig) { c.Realm, c.CAPath = other, capath })
	n = newRealms(t, m.cfg.TGT)
	requests, err := drive(t, m, func(_ int, r *Request) []byte {
		switch r.Realm {
		case realm:
			return n.refer(r, "HUB.TEST")
		case "HUB.TEST":
			return n.refer(r, other)
		}
		return n.grant(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST", "krbtgt/OTHER.TEST@HUB.TEST", "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestUnreachableRealmIsTheKDCsError(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = other; c.CAPath = func(string, string) []string { return []string{} } })
	requests, err := drive(t, m, func(_ int, r *Request) []byte {
		return errorFor(t, r.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN).Marshal()
	})
	wantCode(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST")
}

func TestForeignDelegateFlagNeedsTrustAllTheWay(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		m := newTGS(t, nil)
		n := newRealms(t, m.cfg.TGT)
		n.spoil = func(at string, i *issue) {
			if at == other || trusted {
				i.part.Flags |= messages.TKT_FLG_OK_AS_DELEGATE
			}
		}
		if _, err := drive(t, m, func(_ int, r *Request) []byte {
			if r.Realm == realm {
				return n.refer(r, other)
			}
			return n.grant(r)
		}); err != nil {
			t.Fatal(err)
		}
		if got := m.Result().Credential.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0; got != trusted {
			t.Errorf("trusted %v: ok-as-delegate is %v", trusted, got)
		}
	}
}

func TestHierarchyBetweenRealms(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"A.X.TEST", "B.X.TEST", []string{"X.TEST"}},
		{"A.X.TEST", "X.TEST", nil},
		{"A.B.X.TEST", "X.TEST", []string{"B.X.TEST"}},
		{"X.TEST", "A.B.X.TEST", []string{"B.X.TEST"}},
		{"A.B.X.TEST", "C.D.X.TEST", []string{"B.X.TEST", "X.TEST", "D.X.TEST"}},
		{"A.ONE", "B.TWO", nil},
		{"ONE", "TWO", nil},
	} {
		if got := hierarchy(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("%s to %s: %v, not %v", c.from, c.to, got, c.want)
		}
	}
}

// The realm of a user to act for may be anybody's choice, and each part of its name a realm on the way there.
func TestNoRealmIsGoneToByMoreRequestsThanHops(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = strings.Repeat("A.", 1000) + realm })
	requests, err := drive(t, m, func(_ int, r *Request) []byte {
		return errorFor(t, r.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN).Marshal()
	})
	if err == nil || len(requests) == 0 || len(requests) > MaxHops+1 {
		t.Errorf("%d requests, error %v", len(requests), err)
	}
}

// What a KDC says of whose ticket it is does not make it that realm's: its session key is known to who gave it.
func TestReferralThatClaimsToBeOfAnotherRealmIsNotKept(t *testing.T) {
	m := newTGS(t, nil)
	n := newRealms(t, m.cfg.TGT)
	n.spoil = func(at string, i *issue) {
		if at == other {
			i.part.SRealm, i.rep.Ticket.Realm = realm, realm
		}
	}
	_, err := drive(t, m, func(_ int, r *Request) []byte {
		switch r.Realm {
		case realm:
			return n.refer(r, other)
		case other:
			return n.refer(r, "THIRD.TEST")
		}
		return n.grant(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	r := m.Result()
	if len(r.Referrals) != 1 || r.Referrals[0].Service.Name.String() != "krbtgt/OTHER.TEST" {
		t.Errorf("to be kept: %v", r.Referrals)
	}
}
