package accept_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// windowsCapture is a token of Windows or of Kerberos.NET, what opens it and what is in it.
type windowsCapture struct {
	Name, Token, Framing string
	EType                enctype.ID
	Key                  vectors.Hex
	KVNO                 uint32
	Service, Client      string
	SessionEType         enctype.ID  `json:"session_etype"`
	SessionKey           vectors.Hex `json:"session_key"`
	Sent, End            time.Time
	USec                 int32
	Sequence             uint32
	Flags                gss.Flags
	Bindings             vectors.Hex // none if the client has sent zeros
	KnowsBindings        bool        `json:"knows_bindings"`
	Account              *struct {
		Name, Domain, UPN string
		SID               pac.SID
		Groups            []pac.SID
	}
	Reason string // why it is refused
}

func windowsCaptures(tb testing.TB) (accepted, refused []windowsCapture) {
	tb.Helper()
	var v struct{ Cases, Refused []windowsCapture }
	vectors.Load(tb, "kerberos-net.json", &v)
	if len(v.Cases) != 17 || len(v.Refused) != 5 {
		tb.Fatalf("%d tokens, %d to be refused", len(v.Cases), len(v.Refused))
	}
	return v.Cases, v.Refused
}

func (c *windowsCapture) config(tb testing.TB) accept.Config {
	tb.Helper()
	key := must.OK(enctype.NewKey(c.EType, c.Key))(tb)
	service := principal(tb, c.Service)
	return accept.Config{
		Keys:     keys{service.String(): {must.OK(accept.NewKey(key, c.KVNO))(tb)}},
		Services: []messages.Principal{service},
		ETypes:   append(enctype.Strong(), enctype.RC4_HMAC),
		Replays:  accept.NewReplays(accept.ReplayMemory, time.Time{}),
		Now:      func() time.Time { return c.Sent },
	}
}

// request is the token over the connection that it was made for.
func (c *windowsCapture) request() accept.Request {
	r := accept.Request{Base64: c.Token}
	if c.Bindings != nil {
		r.Bindings = func(got gss.ChannelBindings) bool { return bytes.Equal(got[:], c.Bindings) }
	}
	return r
}

func (c *windowsCapture) token(tb testing.TB) []byte {
	tb.Helper()
	return must.OK(base64.StdEncoding.DecodeString(c.Token))(tb)
}

// inner is the token inside of SPNEGO.
func (c *windowsCapture) inner(tb testing.TB) []byte {
	tb.Helper()
	if c.Framing == "spnego" {
		return must.OK(spnego.ParseInit(c.token(tb)))(tb).MechToken
	}
	return c.token(tb)
}

func (c *windowsCapture) req(tb testing.TB) *messages.APReq {
	tb.Helper()
	return must.OK(messages.ParseAPReq(must.OK(gss.ParseToken(c.inner(tb)))(tb).Body))(tb)
}

func TestAccept_Windows(t *testing.T) {
	accepted, _ := windowsCaptures(t)
	for _, c := range accepted {
		t.Run(c.Name, func(t *testing.T) {
			a := must.OK(accept.New(c.config(t)))(t)
			r := c.request()
			r.Base64 = must.OK(accept.ParseAuthorization([]string{"Negotiate " + c.Token}))(t)
			result := must.OK(a.Accept(r))(t)
			c.check(t, result)
			answer := result.Token
			if c.Framing == "spnego" {
				resp := must.OK(spnego.ParseResp(answer))(t)
				if offer := must.OK(spnego.ParseInit(c.token(t)))(t); resp.State != spnego.AcceptCompleted || resp.SupportedMech != offer.MechTypes[0] {
					t.Errorf("answer %+v", resp)
				}
				answer = resp.ResponseToken
			}
			c.checkAnswer(t, answer)
			if _, err := a.Accept(r); reasonOf(t, err) != accept.Replay {
				t.Errorf("again: %v", err)
			}

			// The Kerberos token alone, as clients without SPNEGO send it.
			r.Base64, r.Token = "", c.inner(t)
			result = must.OK(must.OK(accept.New(c.config(t)))(t).Accept(r))(t)
			c.check(t, result)
			c.checkAnswer(t, result.Token)
			if _, err := a.Accept(r); reasonOf(t, err) != accept.Replay {
				t.Errorf("again, bare: %v", err)
			}
		})
	}
}

// check compares a result with what is in the capture.
func (c *windowsCapture) check(t *testing.T, result *accept.Result) {
	t.Helper()
	if result.Client.String() != c.Client || result.Flags != c.Flags || result.Bound != (c.Bindings != nil) {
		t.Errorf("%+v", result)
	}
	key := must.OK(enctype.NewKey(c.SessionEType, c.SessionKey))(t)
	if e := result.Evidence; e.Service.String() != c.Service || !e.EndTime.Equal(c.End) || !e.Key.Equal(key) || !bytes.Equal(e.Ticket, c.req(t).Ticket.Raw) {
		t.Errorf("evidence %+v", e)
	}
	if c.Account == nil {
		if result.Account != nil {
			t.Errorf("account %+v", result.Account)
		}
		return
	}
	want := &accept.Account{Name: c.Account.Name, Domain: c.Account.Domain, UPN: c.Account.UPN, SID: c.Account.SID, Groups: c.Account.Groups}
	if diff := cmp.Diff(want, result.Account); diff != "" {
		t.Error(diff)
	}
}

// checkAnswer opens the AP-REP, which all of the clients have asked for.
func (c *windowsCapture) checkAnswer(t *testing.T, answer []byte) {
	t.Helper()
	rep := must.OK(messages.ParseAPRep(must.OK(gss.ParseToken(answer))(t).Body))(t)
	key := must.OK(enctype.NewKey(c.SessionEType, c.SessionKey))(t)
	part := must.OK(messages.ParseEncAPRepPart(must.OK(key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher))(t)))(t)
	if !part.CTime.Equal(c.Sent) || part.CUSec != c.USec || part.SeqNumber != c.Sequence || part.Subkey.EType() != c.SessionEType {
		t.Errorf("AP-REP of %s and %d us, number %d, with a subkey of %s", part.CTime, part.CUSec, part.SeqNumber, part.Subkey.EType())
	}
}

// Each token that is accepted as it was sent is refused in other circumstances.
func TestAccept_WindowsElsewhere(t *testing.T) {
	accepted, _ := windowsCaptures(t)
	for _, c := range accepted {
		t.Run(c.Name, func(t *testing.T) {
			refused := func(what string, want accept.Reason, change func(*accept.Config, *accept.Request)) {
				t.Helper()
				cfg, r := c.config(t), c.request()
				change(&cfg, &r)
				if _, err := must.OK(accept.New(cfg))(t).Accept(r); reasonOf(t, err) != want {
					t.Errorf("%s: %v, want %s", what, err, want)
				}
			}
			refused("a year later", accept.Skew, func(cfg *accept.Config, _ *accept.Request) {
				cfg.Now = func() time.Time { return c.Sent.AddDate(1, 0, 0) }
			})
			refused("at another service", accept.WrongService, func(cfg *accept.Config, _ *accept.Request) {
				cfg.Services = []messages.Principal{principal(t, "HTTP/other.example@EXAMPLE")}
			})
			refused("under another key", accept.WrongKey, func(cfg *accept.Config, _ *accept.Request) {
				cfg.Keys = keys{c.Service: {must.OK(accept.NewKey(newKey(t, c.EType), c.KVNO))(t)}}
			})
			if c.KVNO != 0 {
				refused("under a key of another version", accept.UnknownVersion, func(cfg *accept.Config, _ *accept.Request) {
					cfg.Keys = keys{c.Service: {must.OK(accept.NewKey(must.OK(enctype.NewKey(c.EType, c.Key))(t), 12))(t)}}
				})
			}
			if c.EType == enctype.RC4_HMAC {
				refused("without weak types", accept.WeakEType, func(cfg *accept.Config, _ *accept.Request) { cfg.ETypes = nil })
			}
			if c.Bindings != nil {
				refused("over another connection", accept.BindingsWrong, func(_ *accept.Config, r *accept.Request) {
					r.Bindings = func(gss.ChannelBindings) bool { return false }
				})
				refused("over one without TLS", accept.BindingsWrong, func(_ *accept.Config, r *accept.Request) { r.Bindings = nil })
				return
			}
			if c.KnowsBindings {
				refused("without its bindings", accept.BindingsMissing, func(_ *accept.Config, r *accept.Request) {
					r.Bindings = func(gss.ChannelBindings) bool { return true }
				})
			}
			refused("where they are required", accept.BindingsMissing, func(cfg *accept.Config, r *accept.Request) {
				cfg.Bindings, r.Bindings = accept.BindingsRequired, func(gss.ChannelBindings) bool { return true }
			})
		})
	}
}

// No byte of what is encrypted can be changed; one in each block is tried.
func TestAccept_WindowsChanged(t *testing.T) {
	accepted, _ := windowsCaptures(t)
	for _, c := range accepted {
		a := must.OK(accept.New(c.config(t)))(t)
		token, req, r := c.token(t), c.req(t), c.request()
		for want, cipher := range map[accept.Reason][]byte{accept.WrongKey: req.Ticket.EncPart.Cipher, accept.BadAuthenticator: req.Authenticator.Cipher} {
			start := bytes.Index(token, cipher)
			for i := 0; i < len(cipher); i += 11 {
				spoilt := bytes.Clone(token)
				spoilt[start+i] ^= 1 << (i % 8)
				r.Base64 = base64.StdEncoding.EncodeToString(spoilt)
				if _, err := a.Accept(r); reasonOf(t, err) != want {
					t.Fatalf("%s: byte %d: %v, want %s", c.Name, start+i, err, want)
				}
			}
		}
		must.OK(a.Accept(c.request()))(t)
	}
}

func TestAccept_WindowsRefused(t *testing.T) {
	_, refused := windowsCaptures(t)
	for _, c := range refused {
		cfg := accept.Config{Keys: anyService{}}
		if c.Key != nil {
			req := c.req(t)
			c.Service = messages.Principal{Name: req.Ticket.SName, Realm: req.Ticket.Realm}.String()
			cfg = c.config(t)
		}
		_, err := must.OK(accept.New(cfg))(t).Accept(accept.Request{Base64: c.Token})
		if got := reasonOf(t, err); got.String() != c.Reason {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Reason)
		}
	}
	if !slices.ContainsFunc(refused, func(c windowsCapture) bool { return c.Key != nil }) {
		t.Error("none with a key")
	}
}
