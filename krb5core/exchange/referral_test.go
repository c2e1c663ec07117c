package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
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

// path refers from the client's realm along the path, whose last realm grants.
func (n *realms) path(realms ...string) kdc {
	return func(_ int, r *Request) []byte {
		if at := slices.Index(realms, r.Realm); at < len(realms)-1 {
			return n.refer(r, realms[at+1])
		}
		return n.grant(r)
	}
}

func newRealms(t *testing.T, tgt *messages.Credential) *realms {
	return &realms{t: t, tgts: map[string]*messages.Credential{tgtRealm(tgt): tgt}}
}

func TestReferral_Service(t *testing.T) {
	var events trail
	m := newTGS(t, func(c *TGSConfig) { c.Trace = events.add })
	n := newRealms(t, m.cfg.TGT)
	requests := must.OK(run(t, m, n.path(other, "THIRD.TEST")))(t)
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize", "HTTP/web.krb5.test@OTHER.TEST canonicalize", "HTTP/web.krb5.test@THIRD.TEST canonicalize")
	r := m.Result()
	if len(r.Referrals) != 2 || r.Referrals[1].Service.Name.String() != "krbtgt/THIRD.TEST" || !r.Credential.Client.Equal(alice) {
		t.Errorf("result: %+v", r)
	}
	events.wants(t, "realm KRB5.TEST refers to realm OTHER.TEST", "realm OTHER.TEST refers to realm THIRD.TEST")
}

func TestReferral_Loop(t *testing.T) {
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
			requests, err := run(t, m, func(hop int, r *Request) []byte { return n.refer(r, c.next(r.Realm, hop)) })
			var e *ReferralError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, c.reason) || len(requests) != c.requests {
				t.Errorf("%d requests, error %v", len(requests), err)
			}
		})
	}
}

func TestReferral_SameRealm(t *testing.T) {
	m := newTGS(t, nil)
	itself := granting(t, m.cfg.TGT, func(i *issue) { i.service(messages.TGSName(realm)) })
	requests := must.OK(run(t, m, inTurn(itself, granting(t, m.cfg.TGT))))(t)
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize", "HTTP/web.krb5.test@KRB5.TEST")
}

func TestReferral_ClientUnchanged(t *testing.T) {
	m := newTGS(t, nil)
	n := newRealms(t, m.cfg.TGT)
	n.spoil = func(at string, i *issue) {
		if at == other {
			i.rep.CRealm = other
		}
	}
	_, err := run(t, m, n.path(other))
	wantField(t, err, "crealm")
}

func TestRoute_NamedRealm(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = other })
	n := newRealms(t, m.cfg.TGT)
	requests := must.OK(run(t, m, n.path(other)))(t)
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST", "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestRoute_KnownTGT(t *testing.T) {
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
	requests := must.OK(run(t, m, func(_ int, r *Request) []byte { return n.grant(r) }))(t)
	wantAsked(t, requests, "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestRoute_FarthestFirst(t *testing.T) {
	const target = "B.X.TEST"
	client := messages.Principal{Name: alice.Name, Realm: "A.X.TEST"}
	m := newTGS(t, func(c *TGSConfig) { c.TGT, c.Realm = tgtFor(t, client, "A.X.TEST", "A.X.TEST"), target })
	n := newRealms(t, m.cfg.TGT)
	requests := must.OK(run(t, m, func(hop int, r *Request) []byte {
		sname := parseRequest(t, r.Message).Body.SName.String()
		switch {
		case r.Realm == "A.X.TEST" && sname == "krbtgt/X.TEST", r.Realm == "X.TEST" && sname == "krbtgt/"+target:
			return n.refer(r, strings.TrimPrefix(sname, "krbtgt/"))
		case r.Realm == target:
			return n.grant(r)
		}
		return errorFor(t, r.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN).Marshal()
	}))(t)
	wantAsked(t, requests, "krbtgt/B.X.TEST@A.X.TEST", "krbtgt/X.TEST@A.X.TEST", "krbtgt/B.X.TEST@X.TEST", "HTTP/web.krb5.test@B.X.TEST canonicalize")
}

func TestRoute_ConfiguredPath(t *testing.T) {
	capath := func(client, server string) []string {
		if client != realm || server != other {
			t.Errorf("asked for the path from %s to %s", client, server)
		}
		return []string{"HUB.TEST"}
	}
	m := newTGS(t, func(c *TGSConfig) { c.Realm, c.CAPath = other, capath })
	n := newRealms(t, m.cfg.TGT)
	_, err := run(t, m, func(_ int, r *Request) []byte { return n.refer(r, "EVIL.TEST") })
	var e *ReferralError
	if !errors.As(err, &e) || !strings.Contains(e.Reason, "configured path") {
		t.Errorf("error %v", err)
	}

	m = newTGS(t, func(c *TGSConfig) { c.Realm, c.CAPath = other, capath })
	n = newRealms(t, m.cfg.TGT)
	requests := must.OK(run(t, m, n.path("HUB.TEST", other)))(t)
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST", "krbtgt/OTHER.TEST@HUB.TEST", "HTTP/web.krb5.test@OTHER.TEST canonicalize")
}

func TestRoute_Unreachable(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = other; c.CAPath = func(string, string) []string { return []string{} } })
	requests, err := run(t, m, refusing(t, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN))
	wantCode(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	wantAsked(t, requests, "krbtgt/OTHER.TEST@KRB5.TEST")
}

func TestReferral_DelegateFlag(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		m := newTGS(t, nil)
		n := newRealms(t, m.cfg.TGT)
		n.spoil = func(at string, i *issue) {
			if at == other || trusted {
				i.part.Flags |= messages.TKT_FLG_OK_AS_DELEGATE
			}
		}
		must.OK(run(t, m, n.path(other)))(t)
		if got := m.Result().Credential.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0; got != trusted {
			t.Errorf("trusted %v: ok-as-delegate is %v", trusted, got)
		}
	}
}

func TestRoute_Hierarchy(t *testing.T) {
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

// The realm of a user to impersonate may come from outside, and each part of its name is a realm on the way.
func TestRoute_Bounded(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Realm = strings.Repeat("A.", 1000) + realm })
	requests, err := run(t, m, refusing(t, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN))
	if err == nil || len(requests) == 0 || len(requests) > MaxHops+1 {
		t.Errorf("%d requests, error %v", len(requests), err)
	}
}

// What a KDC says of whose ticket it is does not make it that realm's: its session key is known to who gave it.
func TestReferral_FalseIssuerNotKept(t *testing.T) {
	m := newTGS(t, nil)
	n := newRealms(t, m.cfg.TGT)
	n.spoil = func(at string, i *issue) {
		if at == other {
			i.part.SRealm, i.rep.Ticket.Realm = realm, realm
		}
	}
	must.OK(run(t, m, n.path(other, "THIRD.TEST")))(t)
	r := m.Result()
	if len(r.Referrals) != 1 || r.Referrals[0].Service.Name.String() != "krbtgt/OTHER.TEST" {
		t.Errorf("to be kept: %v", r.Referrals)
	}
}
