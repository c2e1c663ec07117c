package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const other = "OTHER.TEST"

// tgtFor is a TGT for a realm's KDC as its neighbour gives it.
func tgtFor(t testing.TB, client messages.Principal, to, from string) *messages.Credential {
	t.Helper()
	return &messages.Credential{
		Client: client, Service: messages.Principal{Name: messages.TGSName(to), Realm: from}, Key: newKey(t, aes256),
		AuthTime: epoch.Add(-time.Minute).Truncate(time.Second), EndTime: epoch.Add(8 * time.Hour).Truncate(time.Second),
		RenewTill: epoch.Add(24 * time.Hour).Truncate(time.Second),
		Flags:     messages.TKT_FLG_FORWARDABLE | messages.TKT_FLG_RENEWABLE | messages.TKT_FLG_INITIAL,
		Ticket: messages.Ticket{
			Realm: from, SName: messages.TGSName(to),
			EncPart: messages.EncryptedData{EType: aes256, Cipher: []byte(client.String() + " to " + to)},
		}.Marshal(),
	}
}

func newTGS(t testing.TB, change func(*TGSConfig)) *TGS {
	t.Helper()
	cfg := TGSConfig{Session: testSession(tgtFor(t, alice, realm, realm)), Service: web}
	if change != nil {
		change(&cfg)
	}
	return must.OK(NewTGS(cfg))(t)
}

func canonicalize(t testing.TB, r *Request) bool {
	return parseRequest(t, r.Message).Body.KDCOptions&messages.KDC_OPT_CANONICALIZE != 0
}

func asked(t testing.TB, requests []*Request) []string {
	var list []string
	for _, r := range requests {
		s := fmt.Sprintf("%s@%s", parseRequest(t, r.Message).Body.SName, r.Realm)
		if canonicalize(t, r) {
			s += " canonicalize"
		}
		list = append(list, s)
	}
	return list
}

func wantAsked(t testing.TB, requests []*Request, want ...string) {
	t.Helper()
	if got := asked(t, requests); !slices.Equal(got, want) {
		t.Errorf("asked\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTGS_Ticket(t *testing.T) {
	var events trail
	m := newTGS(t, func(c *TGSConfig) {
		c.Trace = events.add
		c.Options = messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_PROXIABLE
	})
	requests := must.OK(run(t, m, granting(t, m.cfg.TGT, func(i *issue) {
		if got := i.auth.CTime.Add(time.Duration(i.auth.CUSec) * time.Microsecond); !got.Equal(epoch) {
			t.Errorf("authenticator's time is %s", got)
		}
		if i.subkey.IsZero() || i.subkey.Equal(m.cfg.TGT.Key) {
			t.Error("no subkey of its own")
		}
		body := i.req.Body
		if body.KDCOptions != messages.KDC_OPT_FORWARDABLE|messages.KDC_OPT_CANONICALIZE || !body.Till.Equal(m.cfg.TGT.EndTime) || !body.CName.IsZero() {
			t.Errorf("body: %+v", body)
		}
	})))(t)
	wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize")
	if r := m.Result(); !r.Credential.Service.Name.Equal(web) || !r.Credential.Client.Equal(alice) || r.Referrals != nil {
		t.Errorf("result: %+v", r)
	}
	if requests[0].PreAuth {
		t.Error("a TGS-REQ is no proof of a long-term key")
	}
	events.wants(t, "ticket for HTTP/web.krb5.test@KRB5.TEST as alice@KRB5.TEST")
}

func TestTGS_SpoiltReplies(t *testing.T) {
	for name, f := range replyFaults {
		t.Run(name, func(t *testing.T) {
			// Without canonicalize, for with it another sname is answered by asking again.
			m := newTGS(t, func(c *TGSConfig) { c.Service = messages.TGSName(realm) })
			_, err := run(t, m, granting(t, m.cfg.TGT, f.spoil))
			wantField(t, err, f.field)
		})
	}
	t.Run("AS-REP", func(t *testing.T) {
		m := newTGS(t, nil)
		_, err := run(t, m, granting(t, m.cfg.TGT, func(i *issue) { i.rep.MsgType = messages.KRB_AS_REP }))
		wantField(t, err, "msg-type")
	})
	t.Run("session key under the subkey's usage", func(t *testing.T) {
		m := newTGS(t, nil)
		_, err := run(t, m, granting(t, m.cfg.TGT, func(i *issue) { i.key = m.cfg.TGT.Key }))
		wantField(t, err, "enc-part")
	})
}

func TestTGS_Accepted(t *testing.T) {
	const rc4 = enctype.RC4_HMAC
	for name, c := range map[string]struct {
		etype  enctype.ID // of the TGT's key and all that is asked for
		change func(*issue, *messages.Credential)
		event  string
	}{
		"the session key, our subkey ignored": {aes256, func(i *issue, tgt *messages.Credential) {
			i.key, i.usage = tgt.Key, enctype.KEY_USAGE_TGS_REP_SESSION
		}, "ignored our subkey"},
		"RC4 with usage 8": {rc4, func(i *issue, _ *messages.Credential) { i.usage = enctype.KEY_USAGE_TGS_REP_SESSION }, ""},
		"a ticket of a type not asked for, as Active Directory's": {aes256, func(i *issue, _ *messages.Credential) {
			i.rep.Ticket.EncPart.EType = rc4
		}, ""},
		"another srealm": {aes256, func(i *issue, _ *messages.Credential) { corrected(i, "SUB."+realm, web) }, ""},
		"another case with canonicalize": {aes256, func(i *issue, _ *messages.Credential) {
			i.service(messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "http", "WEB.krb5.test"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var events trail
			m := newTGS(t, func(cfg *TGSConfig) {
				cfg.Trace, cfg.TGT.Key, cfg.ETypes = events.add, newKey(t, c.etype), []enctype.ID{c.etype}
			})
			must.OK(run(t, m, granting(t, m.cfg.TGT, func(i *issue) { c.change(i, m.cfg.TGT) })))(t)
			events.wants(t, c.event)
		})
	}
}

func TestTGS_ServiceNames(t *testing.T) {
	real := messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "real.krb5.test")
	t.Run("another name is asked again without canonicalize", func(t *testing.T) {
		var events trail
		m := newTGS(t, func(c *TGSConfig) { c.Trace = events.add })
		other := granting(t, m.cfg.TGT, func(i *issue) { i.service(real) })
		requests := must.OK(run(t, m, inTurn(other, granting(t, m.cfg.TGT))))(t)
		wantAsked(t, requests, "HTTP/web.krb5.test@KRB5.TEST canonicalize", "HTTP/web.krb5.test@KRB5.TEST")
		events.wants(t, "without canonicalize: the answer was for another service")
	})
	t.Run("another name without canonicalize is refused", func(t *testing.T) {
		m := newTGS(t, nil)
		_, err := run(t, m, granting(t, m.cfg.TGT, func(i *issue) { i.service(real) }))
		wantField(t, err, "sname")
	})
	t.Run("a referral without canonicalize is refused", func(t *testing.T) {
		m := newTGS(t, nil)
		referral := granting(t, m.cfg.TGT, func(i *issue) { i.service(messages.TGSName(other)) })
		_, err := run(t, m, inTurn(refusing(t, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN), referral))
		wantField(t, err, "sname")
	})
}

func TestTGS_UnknownServicePlain(t *testing.T) {
	for code, want := range map[messages.ErrorCode]int{
		messages.KDC_ERR_S_PRINCIPAL_UNKNOWN: 2, messages.KDC_ERR_BADOPTION: 2, messages.KDC_ERR_POLICY: 1, messages.KDC_ERR_ETYPE_NOSUPP: 1,
	} {
		requests, err := run(t, newTGS(t, nil), refusing(t, code))
		wantCode(t, err, code)
		if len(requests) != want {
			t.Errorf("%s: asked %v", code, asked(t, requests))
		}
	}
}

func TestTGS_StaleError(t *testing.T) {
	m := newTGS(t, nil)
	req := must.OK(m.Step(nil))(t)
	e := errorFor(t, req.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	e.CTime, e.CUSec = epoch.Truncate(time.Second), 17190
	must.Do(t, m.Check(e.Marshal())) // our own time
	e.CUSec++
	wantField(t, m.Check(e.Marshal()), "ctime")
	e.CTime, e.CUSec = time.Unix(1306652245, 0), 0
	must.Do(t, m.Check(e.Marshal())) // a ctime without cusec
	e = errorFor(t, req.Message, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	e.CName = messages.NewPrincipalName(1, "mallory")
	wantField(t, m.Check(e.Marshal()), "cname")
}

func TestTGS_Skew(t *testing.T) {
	const off = -20 * time.Minute
	m := newTGS(t, nil)
	requests, err := run(t, m, func(n int, r *Request) []byte {
		if n == 0 {
			e := errorFor(t, r.Message, messages.KRB_AP_ERR_SKEW)
			e.STime = e.STime.Add(off)
			return e.Marshal()
		}
		i := newTGSIssue(t, r.Message, m.cfg.TGT)
		if !i.auth.CTime.Equal(epoch.Add(off).Truncate(time.Second)) {
			t.Errorf("authenticator's time is %s", i.auth.CTime)
		}
		i.part.StartTime, i.part.AuthTime = i.part.StartTime.Add(off), i.part.AuthTime.Add(off)
		return i.seal(t)
	})
	if err != nil || len(requests) != 2 {
		t.Fatalf("%d requests, error %v", len(requests), err)
	}
	if r := m.Result(); r.Offset.Round(time.Second) != off || !r.OffsetConfirmed || r.OffsetRealm != realm {
		t.Errorf("result: %+v", r)
	}
	requests, err = run(t, newTGS(t, nil), refusing(t, messages.KRB_AP_ERR_SKEW))
	wantCode(t, err, messages.KRB_AP_ERR_SKEW)
	wantRequests(t, requests, 2)
}

func TestTGS_Renewal(t *testing.T) {
	m := newTGS(t, func(c *TGSConfig) { c.Renew, c.Service = true, messages.PrincipalName{} })
	requests := must.OK(run(t, m, granting(t, m.cfg.TGT, func(i *issue) {
		if o := i.req.Body.KDCOptions; o != messages.KDC_OPT_RENEW|messages.KDC_OPT_RENEWABLE {
			t.Errorf("options: %s", o)
		}
	})))(t)
	wantAsked(t, requests, "krbtgt/KRB5.TEST@KRB5.TEST")
	if c := m.Result().Credential; !c.Service.Equal(m.cfg.TGT.Service) || c.RenewTill.IsZero() {
		t.Errorf("renewed: %+v", c)
	}

	m = newTGS(t, func(c *TGSConfig) { c.Renew = true })
	_, err := run(t, m, granting(t, m.cfg.TGT, func(i *issue) { i.service(messages.TGSName(other)) }))
	wantField(t, err, "sname")

	tgt := tgtFor(t, alice, realm, realm)
	tgt.Flags = 0
	if _, err := NewTGS(TGSConfig{Session: Session{TGT: tgt}, Renew: true}); err == nil || !strings.Contains(err.Error(), "not renewable") {
		t.Errorf("a TGT that cannot be renewed: %v", err)
	}
}

func TestTGS_Forwarded(t *testing.T) {
	forwarded := func(c *TGSConfig) {
		c.Service, c.Options = messages.TGSName(realm), messages.KDC_OPT_FORWARDED|messages.KDC_OPT_FORWARDABLE
	}
	m := newTGS(t, forwarded)
	must.OK(run(t, m, granting(t, m.cfg.TGT)))(t)
	if f := m.Result().Credential.Flags; f != messages.TKT_FLG_FORWARDED|messages.TKT_FLG_FORWARDABLE {
		t.Errorf("flags: %s", f)
	}
	m = newTGS(t, forwarded)
	_, err := run(t, m, granting(t, m.cfg.TGT, func(i *issue) { i.part.Flags &^= messages.TKT_FLG_FORWARDED }))
	wantField(t, err, "flags")
	cfg := TGSConfig{Session: Session{TGT: tgtFor(t, alice, realm, realm)}}
	forwarded(&cfg)
	cfg.TGT.Flags = 0
	if _, err := NewTGS(cfg); err == nil || !strings.Contains(err.Error(), "cannot be forwarded") {
		t.Errorf("a TGT that is not forwardable: %v", err)
	}
}

func TestTGS_UnusableTGT(t *testing.T) {
	ticket := tgtFor(t, alice, realm, realm)
	ticket.Service.Name = web
	empty := tgtFor(t, alice, realm, realm)
	empty.Ticket = nil
	for _, tgt := range []*messages.Credential{nil, ticket, empty} {
		if _, err := NewTGS(TGSConfig{Session: Session{TGT: tgt}, Service: web}); err == nil {
			t.Errorf("%v serves", tgt)
		}
	}
	if _, err := NewTGS(TGSConfig{Session: Session{TGT: tgtFor(t, alice, realm, realm)}}); err == nil || errors.Is(err, ErrForeign) {
		t.Errorf("no service: %v", err)
	}
}
