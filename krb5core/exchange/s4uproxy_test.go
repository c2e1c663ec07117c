package exchange

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func newProxy(t testing.TB, change func(*S4U2ProxyConfig)) *S4U2Proxy {
	t.Helper()
	evidence := tgtFor(t, alice, "evidence", realm)
	evidence.Service = proxy
	evidence.Flags = 0
	cfg := S4U2ProxyConfig{
		Session: testSession(tgtFor(t, proxy, realm, realm)), Evidence: evidence, Service: web,
	}
	if change != nil {
		change(&cfg)
	}
	return must.OK(NewS4U2Proxy(cfg))(t)
}

// proxyIssue is a good answer to an S4U2Proxy request.
func proxyIssue(t testing.TB, request []byte, tgt *messages.Credential, evidence []byte) *issue {
	t.Helper()
	i := newTGSIssue(t, request, tgt)
	body := i.req.Body
	if body.KDCOptions&messages.KDC_OPT_CNAME_IN_ADDL_TKT == 0 || len(body.AdditionalTickets) != 1 || !slices.Equal(body.AdditionalTickets[0].Raw, evidence) {
		t.Fatalf("body: %+v", body)
	}
	value, _ := i.req.PAData.Find(messages.PA_PAC_OPTIONS)
	if o, err := messages.ParsePACOptions(value); err != nil || o != messages.PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION {
		t.Fatalf("PA-PAC-OPTIONS: %s, %v", o, err)
	}
	i.client(alice)
	return i
}

func TestS4U2Proxy(t *testing.T) {
	s := newProxy(t, nil)
	requests := must.OK(run(t, s, func(_ int, r *Request) []byte {
		return proxyIssue(t, r.Message, s.cfg.TGT, s.cfg.Evidence.Ticket).seal(t)
	}))(t)
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize")
	if c := s.Result().Credential; !c.Client.Equal(alice) || !c.Service.Name.Equal(web) {
		t.Errorf("ticket: %v", c)
	}
}

func TestS4U2Proxy_SpoiltReplies(t *testing.T) {
	for name, f := range map[string]struct {
		spoil func(i *issue)
		field string
	}{
		"another user's ticket":      {func(i *issue) { i.client(bob) }, "cname"},
		"a namesake's of elsewhere":  {func(i *issue) { i.rep.CRealm = other }, "crealm"},
		"the user in another case":   {func(i *issue) { i.rep.CName = messages.NewPrincipalName(1, "ALICE") }, "cname"},
		"our own ticket":             {func(i *issue) { i.client(proxy) }, "cname"},
		"a ticket for other service": {func(i *issue) { i.service(proxy.Name) }, "sname"},
		"wrong nonce":                {func(i *issue) { i.part.Nonce++ }, "nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newProxy(t, nil)
			_, err := run(t, s, func(_ int, r *Request) []byte {
				i := proxyIssue(t, r.Message, s.cfg.TGT, s.cfg.Evidence.Ticket)
				f.spoil(i)
				return i.seal(t)
			})
			wantField(t, err, f.field)
		})
	}
}

func TestS4U2Proxy_CrossRealm(t *testing.T) {
	for name, c := range map[string]struct {
		realm  string
		first  string
		client messages.Principal // of the user's TGT
	}{
		"realm unknown":                 {"", "HTTP/web.krb5.test@KRB5.TEST canonicalize", alice},
		"realm named":                   {other, "krbtgt/OTHER.TEST@KRB5.TEST canonicalize", alice},
		"TGT in our own name, unknown":  {"", "HTTP/web.krb5.test@KRB5.TEST canonicalize", proxy},
		"TGT in our own name, as named": {other, "krbtgt/OTHER.TEST@KRB5.TEST canonicalize", proxy},
	} {
		t.Run(name, func(t *testing.T) {
			s := newProxy(t, func(cfg *S4U2ProxyConfig) { cfg.Realm = c.realm })
			n := newRealms(t, s.cfg.TGT)
			var users []byte // the user's ticket for the other realm
			requests := must.OK(run(t, s, func(step int, r *Request) []byte {
				switch step {
				case 0:
					i := proxyIssue(t, r.Message, s.cfg.TGT, s.cfg.Evidence.Ticket)
					i.service(messages.TGSName(other))
					i.client(c.client)
					i.rep.Ticket.EncPart.Cipher = []byte("alice in other.test")
					b := i.seal(t)
					users = i.cred().Ticket
					return b
				case 1:
					return n.refer(r, other)
				}
				return proxyIssue(t, r.Message, n.tgts[other], users).seal(t)
			}))(t)
			wantAsked(t, requests, c.first, "krbtgt/OTHER.TEST@KRB5.TEST", "HTTP/web.krb5.test@OTHER.TEST canonicalize")
			if got := s.Result(); !got.Credential.Client.Equal(alice) || len(got.Referrals) != 1 || !got.Referrals[0].Client.Equal(proxy) {
				t.Errorf("result: %+v", got)
			}
		})
	}
}

func TestS4U2Proxy_ReferralLoop(t *testing.T) {
	for reason, next := range map[string]func(at string, hop int) string{
		"loop":          func(at string, _ int) string { return map[string]string{realm: other, other: realm}[at] },
		"too many hops": func(_ string, hop int) string { return fmt.Sprintf("R%d.TEST", hop) },
	} {
		s := newProxy(t, nil)
		n := newRealms(t, s.cfg.TGT)
		hop := 0
		_, err := run(t, s, func(_ int, r *Request) []byte {
			body := parseRequest(t, r.Message).Body
			if to, ok := body.SName.IsTGS(); ok {
				return n.refer(r, to)
			}
			i := newTGSIssue(t, r.Message, n.tgts[r.Realm])
			i.client(alice)
			i.service(messages.TGSName(next(r.Realm, hop)))
			hop++
			return i.seal(t)
		})
		var e *ReferralError
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("%s: error %v", reason, err)
		}
		if reason != "loop" && hop != MaxHops+1 {
			t.Errorf("%d hops", hop)
		}
	}
}

func TestS4U_OwnTGT(t *testing.T) {
	foreign := tgtFor(t, proxy, other, realm)
	if _, err := NewS4U2Self(S4U2SelfConfig{Session: Session{TGT: foreign}, Service: proxy.Name, User: alice}); err == nil {
		t.Error("S4U2Self with a foreign TGT")
	}
	if _, err := NewS4U2Self(S4U2SelfConfig{Service: proxy.Name, User: alice}); err == nil {
		t.Error("S4U2Self without a TGT")
	}
	if _, err := NewS4U2Proxy(S4U2ProxyConfig{Evidence: tgtFor(t, alice, realm, realm), Service: web}); err == nil {
		t.Error("S4U2Proxy without a TGT")
	}
	own := tgtFor(t, proxy, realm, realm)
	if _, err := NewS4U2Self(S4U2SelfConfig{Session: Session{TGT: own}, Service: proxy.Name}); err == nil {
		t.Error("S4U2Self without a user")
	}
	if _, err := NewS4U2Proxy(S4U2ProxyConfig{Session: Session{TGT: own}, Service: web}); err == nil {
		t.Error("S4U2Proxy without evidence")
	}
}
