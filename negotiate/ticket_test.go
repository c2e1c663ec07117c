package negotiate

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// credential returns one like a KDC's, with a ticket of size bytes.
func credential(tb testing.TB, id enctype.ID, size int) *messages.Credential {
	tb.Helper()
	key := must.OK(enctype.GenerateKey(id, rand.Reader))(tb)
	now := time.Now().UTC()
	ticket := messages.Ticket{
		Realm: "CORP.EXAMPLE", SName: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example"),
		EncPart: messages.EncryptedData{EType: id, Cipher: bytes.Repeat([]byte{1}, size)},
	}
	return &messages.Credential{
		Client:   messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, strings.Clone("svc-proxy")), Realm: strings.Clone("CORP.EXAMPLE")},
		Service:  messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, strings.Clone("HTTP"), strings.Clone("web.corp.example")), Realm: strings.Clone("CORP.EXAMPLE")},
		Key:      key,
		AuthTime: now, StartTime: now, EndTime: now.Add(time.Hour), Ticket: ticket.Marshal(),
	}
}

// One credential may be another goroutine's too: a credential cache's, which is read
// while a ticket is made of it.
func TestTicket_CredentialUnchanged(t *testing.T) {
	stamps := must.OK(gss.NewClock(gss.ClockConfig{}))(t)
	cred := credential(t, enctype.AES256_CTS_HMAC_SHA1_96, 1000)
	client := &knownClient{cred.Client, cred.Client.String()}
	service := cred.Service.Name.NameString
	before := unsafe.StringData(service[0])
	made := newTicket(cred, client, stamps, time.Now(), 0)
	if unsafe.StringData(service[0]) != before {
		t.Error("the credential's name was written to")
	}
	if !made.Credential().Service.Equal(cred.Service) {
		t.Errorf("the ticket is for %s, the credential for %s", made.Credential().Service, cred.Service)
	}
}

func TestTicket_Size(t *testing.T) {
	stamps := must.OK(gss.NewClock(gss.ClockConfig{}))(t)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	first := credential(t, enctype.AES256_CTS_HMAC_SHA1_96, 0)
	client := &knownClient{first.Client, first.Client.String()}
	const many = 2000
	for _, id := range []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA384_192} {
		for _, size := range []int{1000, 6000} {
			for _, kinds := range [][]form{{}, {0}, {0, formMutual}} {
				t.Run(fmt.Sprintf("%s, %d bytes, %d templates", id, size, len(kinds)), func(t *testing.T) {
					tickets := make([]*Ticket, many)
					before := heap()
					for i := range tickets {
						tickets[i] = newTicket(credential(t, id, size), client, stamps, time.Now(), 0)
						for _, f := range kinds {
							template := must.OK(tickets[i].template(f))(t)
							if _, _, err := template.Header(t.Context(), nil); err != nil {
								t.Fatal(err)
							}
						}
					}
					taken := (heap() - before) / many
					reckoned := tickets[many/2].Size()
					runtime.KeepAlive(tickets)
					t.Logf("%d bytes taken, %d reckoned", taken, reckoned)
					if off := float64(taken) / float64(reckoned); off < 0.8 || off > 1.1 {
						t.Errorf("%d bytes are taken and %d reckoned", taken, reckoned)
					}
				})
			}
		}
	}
}

// An offset is kept until the service accepts a token by another one; that it is off is told once.
func TestTicket_KeepsTheAcceptorsOffset(t *testing.T) {
	var told []time.Duration
	id := &Identity{cfg: IdentityConfig{Observe: func(e Event) { told = append(told, e.(AcceptorClockOff).Offset) }}}
	id.proven.Store(new(messages.Principal))
	i, ticket := id.Initiator(nil), &Ticket{acceptor: new(acceptorClock)}
	for _, offset := range []time.Duration{10 * time.Minute, -time.Hour, time.Second, 20 * time.Minute} {
		i.keepOffset(&Target{}, ticket, offset)
		want := offset
		if offset == time.Second { // that is how long a refusal takes
			want = 0
		}
		if got := ticket.acceptor.kept(); got != want {
			t.Errorf("after %s: %s is kept", offset, got)
		}
	}
	if len(told) != 1 || told[0] != 10*time.Minute {
		t.Errorf("told of %v", told)
	}
	i.keepOffset(&Target{}, new(Ticket), time.Hour) // a ticket without one
}
