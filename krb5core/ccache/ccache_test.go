package ccache

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// ticket makes a credential of alice, from noon on, for so many hours.
func ticket(t *testing.T, service string, hours int) messages.Credential {
	t.Helper()
	key := must.OK(enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, []byte(strings.Repeat("S", 32))))(t)
	return messages.Credential{
		Client: filetest.Principal(t, "alice@A"), Service: filetest.Principal(t, service), Key: key,
		AuthTime: noon, StartTime: noon, EndTime: noon.Add(time.Duration(hours) * time.Hour),
		Flags: messages.TKT_FLG_FORWARDABLE, Ticket: []byte("ticket for " + service),
	}
}

func TestTGT_Longest(t *testing.T) {
	invalid := ticket(t, "krbtgt/A@A", 99)
	invalid.Flags |= messages.TKT_FLG_INVALID
	toUser := ticket(t, "krbtgt/A@A", 98)
	toUser.IsSKey = true
	bob := ticket(t, "krbtgt/A@A", 97)
	bob.Client = filetest.Principal(t, "bob@A")
	later := ticket(t, "krbtgt/A@A", 96)
	later.StartTime = noon.Add(90 * time.Hour)
	c := &CCache{DefaultPrincipal: filetest.Principal(t, "alice@A"), Credentials: []messages.Credential{
		ticket(t, "krbtgt/A@A", 1), ticket(t, "krbtgt/A@A", 10), ticket(t, "krbtgt/A@A", 2), ticket(t, "krbtgt/B@A", 3),
		invalid, toUser, bob, later,
	}}
	for _, tt := range []struct {
		realm string
		at    time.Duration
		want  int // index, -1 for none
	}{
		{"A", 0, 1},
		{"A", 9 * time.Hour, 1},
		{"A", 10 * time.Hour, -1},
		{"A", -4 * time.Minute, 1},
		{"A", -6 * time.Minute, -1},
		{"A", 90*time.Hour - time.Minute, 7},
		{"B", 0, 3},
		{"C", 0, -1},
		{"a", 0, -1},
	} {
		got := c.TGT(tt.realm, noon.Add(tt.at))
		var want *messages.Credential
		if tt.want >= 0 {
			want = &c.Credentials[tt.want]
		}
		if got != want {
			t.Errorf("realm %s at noon%+v: %v, want %v", tt.realm, tt.at, got, want)
		}
	}
}

func TestTicket(t *testing.T) {
	c := &CCache{DefaultPrincipal: filetest.Principal(t, "alice@A"), Credentials: []messages.Credential{
		ticket(t, "HTTP/web@A", 1), ticket(t, "HTTP/web@B", 2),
	}}
	name := messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web") // a type that does not matter
	for realm, want := range map[string]*messages.Credential{"A": &c.Credentials[0], "B": &c.Credentials[1], "": &c.Credentials[1], "C": nil} {
		if got := c.Ticket(name, realm, noon); got != want {
			t.Errorf("realm %q: %v, want %v", realm, got, want)
		}
	}
	if got := c.Ticket(messages.NewPrincipalName(1, "HTTP", "WEB"), "", noon); got != nil {
		t.Errorf("another case: %v", got)
	}
}

// full is a cache with everything that the format holds.
func full(t *testing.T) *CCache {
	t.Helper()
	cred := ticket(t, "HTTP/web.a@A", 8)
	cred.RenewTill = noon.Add(7 * 24 * time.Hour)
	cred.Addresses = []messages.HostAddress{{AddrType: messages.ADDRTYPE_IPV4, Address: []byte{127, 0, 0, 1}}}
	cred.AuthData = messages.AuthorizationData{{Type: messages.AD_IF_RELEVANT, Value: []byte{0x30, 0}}}
	cred.IsSKey, cred.SecondTicket = true, []byte("second")
	return &CCache{
		DefaultPrincipal: filetest.Principal(t, "alice@A"),
		KDCOffset:        -1500 * time.Millisecond,
		Config: map[ConfigKey][]byte{
			{"fast_avail", "krbtgt/A@A"}: []byte("yes"), {"start_realm", ""}: []byte("A"), {"refresh_time", ""}: nil,
		},
		Credentials: []messages.Credential{ticket(t, "krbtgt/A@A", 10), cred},
	}
}

func TestMarshal_KeepsEverything(t *testing.T) {
	b := must.OK(full(t).Marshal())(t)
	again := must.OK(Parse(b))(t)
	filetest.Same(t, cacheFormat.Show(full(t)), cacheFormat.Show(again))
}

func TestMarshal_Errors(t *testing.T) {
	for name, change := range map[string]func(*CCache){
		"a time before 1970":  func(c *CCache) { c.Credentials[0].AuthTime = time.Unix(-1, 0) },
		"a time after 2106":   func(c *CCache) { c.Credentials[0].RenewTill = time.Unix(1<<32, 0) },
		"a clock offset wide": func(c *CCache) { c.KDCOffset = 70 * 365 * 24 * time.Hour },
	} {
		c := full(t)
		change(c)
		if _, err := c.Marshal(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNoVerbShowsASessionKey(t *testing.T) {
	c := full(t)
	filetest.NoSecret(t, 'S', c, *c, c.Credentials)
}

func TestCCachePrintsNoContents(t *testing.T) {
	c := full(t)
	for _, v := range []any{c, *c} {
		if s := fmt.Sprint(v); s != "credential cache of alice@A with 2 tickets" {
			t.Errorf("%T prints as %q", v, s)
		}
	}
}

func TestMarshal_MITReads(t *testing.T) {
	b := must.OK(full(t).Marshal())(t)
	got := filetest.MIT(t, "", "klist", "-c", "-C", "-f", "-a", "-n", filetest.WriteFile(t, b))[1:]
	want := []string{
		"Default principal: alice@A",
		"Valid starting Expires Service principal",
		"config: fast_avail(krbtgt/A@A) = yes",
		"Addresses: (none)",
		"config: refresh_time =",
		"Addresses: (none)",
		"config: start_realm = A",
		"Addresses: (none)",
		"01/01/30 12:00:00 01/01/30 22:00:00 krbtgt/A@A",
		"Flags: F",
		"Addresses: (none)",
		"01/01/30 12:00:00 01/01/30 20:00:00 HTTP/web.a@A",
		"renew until 01/08/30 12:00:00, Flags: F",
		"Addresses: 127.0.0.1",
	}
	filetest.Same(t, want, got)
}
