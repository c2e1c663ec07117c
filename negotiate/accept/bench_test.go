package accept_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// ticketSize is that of the tickets measured, in bytes: of a user in some ten groups.
const ticketSize = 1300

// bench is a client with a ticket of ticketSize, filled up by a PAC or by something else.
func bench(b testing.TB, withPAC bool) (*gss.Template, *world) {
	b.Helper()
	w := newWorld(b)
	w.cfg.Now = nil
	w.cfg.Keys = anyService{must.OK(accept.NewKey(w.key, 3))(b)}
	sent := w.token()
	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	sent.ticket.AuthTime, sent.ticket.StartTime, sent.ticket.EndTime, sent.ticket.RenewTill = began, began, began.Add(10*time.Hour), time.Time{}
	if withPAC {
		groups := make([]uint32, 20)
		for i := range groups {
			groups[i] = uint32(1100 + i)
		}
		sent.addPAC(w, kdctest.PAC{Account: "alice", UPN: "alice@corp.example", Domain: "CORP", DNS: "corp.example", Groups: groups})
	}
	if room := ticketSize - len(sent.ticket.Marshal()); room > 0 {
		sent.ticket.AuthorizationData = append(sent.ticket.AuthorizationData,
			messages.IfRelevant(messages.AuthorizationDataElement{Type: -64, Value: make([]byte, room)}))
	}
	cipher := must.OK(w.key.Encrypt(zeros{}, enctype.KEY_USAGE_TICKET, sent.ticket.Marshal()))(b)
	ticket := messages.Ticket{
		Realm: sent.service.Realm, SName: sent.service.Name,
		EncPart: messages.EncryptedData{EType: w.key.EType(), KVNO: 3, HasKVNO: true, Cipher: cipher},
	}
	cred := &messages.Credential{
		Client: messages.Principal{Name: sent.ticket.CName, Realm: realm}, Service: sent.service, Key: sent.ticket.Key,
		AuthTime: began, EndTime: sent.ticket.EndTime, Ticket: ticket.Marshal(),
	}
	template := must.OK(gss.NewTemplate(cred, gss.TemplateConfig{
		Flags: gss.GSS_C_MUTUAL_FLAG | gss.GSS_C_INTEG_FLAG, Bindings: true, Framing: spnego.AppendInitPrefix, Clock: must.OK(gss.NewClock(gss.ClockConfig{}))(b),
	}))(b)
	return template, w
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkAccept verifies header values: SPNEGO, AES-256, subkey, channel bindings, AP-REP. The replay cache has every
// token of the run. The ratio is to minting the same values, in turns, so that both meet the same machine.
func BenchmarkAccept(b *testing.B) {
	for name, withPAC := range map[string]bool{"1.3kB": false, "1.3kB-pac": true} {
		b.Run(name, func(b *testing.B) {
			template, w := bench(b, withPAC)
			acceptor := w.acceptor()
			const turn = 200
			headers := make([]string, turn)
			bindings := gss.ChannelBindings{1}
			same := func(got gss.ChannelBindings) bool { return got == bindings }
			var ratios, minting, accepting []float64
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				for i := range headers {
					var err error
					if headers[i], _, err = template.Header(context.Background(), &bindings); err != nil {
						b.Fatal(err)
					}
				}
				minted := time.Now()
				for _, h := range headers {
					value, _ := strings.CutPrefix(h, "Negotiate ")
					result, err := acceptor.Accept(accept.Request{Base64: value, Bindings: same})
					if err != nil || (result.Account != nil) != withPAC {
						b.Fatal(err, "or account")
					}
				}
				accepted := time.Since(minted)
				ratios = append(ratios, float64(accepted)/float64(minted.Sub(began)))
				minting = append(minting, float64(minted.Sub(began))/turn)
				accepting = append(accepting, float64(accepted)/turn)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ratios), "ratio")
			b.ReportMetric(median(minting), "ns/mint")
			b.ReportMetric(median(accepting), "ns/accept")
		})
	}
}

func mint(b testing.TB, template *gss.Template, bindings *gss.ChannelBindings) (string, gss.Context) {
	b.Helper()
	header, sent, err := template.Header(context.Background(), bindings)
	must.Do(b, err)
	return header, sent
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// BenchmarkGarbage refuses tokens that cannot be read, and one whose ticket no key opens.
func BenchmarkGarbage(b *testing.B) {
	w := newWorld(b)
	a := w.acceptor()
	sent := w.token()
	sent.key = newKey(b, sent.key.EType())
	for name, token := range map[string][]byte{"unreadable": make([]byte, ticketSize), "another-key": sent.bytes(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Accept(accept.Request{Token: token}); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
