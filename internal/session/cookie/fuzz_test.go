package cookie

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// example is a content with groups of several domains, and SIDs that have no last part of their own.
func example(groups int) *Content {
	begin := time.Unix(1_800_000_000, 0)
	c := &Content{
		Begin: begin, End: begin.Add(8 * time.Hour), Seen: begin.Add(time.Minute), Ticket: IDOf([]byte("ticket")),
		Principal: messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "HTTP", "alice"), Realm: "CORP.EXAMPLE"},
		Account:   &accept.Account{SID: "S-1-5-21-1-2-3-1104", DenyOnly: []pac.SID{"S-1-5-32-544"}},
	}
	c.Account.Groups = append(c.Account.Groups, "S-1-0x0123456789AB", "S-1-18-1")
	for i := range groups {
		c.Account.Groups = append(c.Account.Groups, pac.SID(fmt.Sprintf("S-1-5-21-1-2-3-%d", 500+i*i)))
	}
	return c
}

func TestContent(t *testing.T) {
	for _, c := range []*Content{example(0), example(100), {Principal: example(0).Principal, Begin: time.Unix(0, 0), End: time.Unix(1, 0), Seen: time.Unix(0, 0)}} {
		b := c.marshal()
		got, err := unmarshal(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v, want %+v: %v", got, c, err)
		}
		for i := range b {
			if got, err := unmarshal(b[:i]); err == nil {
				t.Errorf("cut to %d of %d bytes: %+v", i, len(b), got)
			}
		}
	}
}

// FuzzContent reads what only a holder of a master key can make: it does not panic, and what it reads
// is written in one form.
func FuzzContent(f *testing.F) {
	without := example(0)
	without.Account = nil
	for _, c := range []*Content{example(0), example(50), without} {
		f.Add(c.marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := unmarshal(b)
		if err != nil {
			return
		}
		written := c.marshal()
		again, err := unmarshal(written)
		if err != nil || !bytes.Equal(again.marshal(), written) {
			t.Errorf("%x is written as %x: %v", b, written, err)
		}
	})
}

// golden is a cookie's value with example(3), sealed with a key of zeros: cookies of one version are good
// for the next. It is the same in all processes of a fuzzer, which a new one would not be.
const golden = "AQAAAAAAAAAATPKkAkZvnBdwnih6dp73GgLkQByc2bLc1vvnFCI1CV8pXmyMVdD_a5Z3Welz0Ci47ny4e8HD5dnp96ejkQzmpWCRPIK7V3TslINvLUvxHVoywhMTGtbw9Wlf0O1OjDd4TleCVuRRFreSbiAtaAoVb-eKHx6ldaEuj0tMiv83Jf_1fj5AqONQxtVPryBoT51hPhQmMcfVLb0UFt4MLOlEnt9dn_0_Cay1a8BJLZb8V5ou2ttO"

var (
	goldenKey   = &Key{Key: make([]byte, KeySize)}
	goldenPlace = Place{Host: "app.example.com"}
)

func TestSeal_Golden(t *testing.T) {
	sealed, ok := Parse(golden)
	if !ok {
		t.Fatal("not a cookie's value")
	}
	c, err := goldenKey.Open(goldenPlace, sealed)
	if err != nil || !reflect.DeepEqual(c, example(3)) {
		t.Errorf("%+v: %v", c, err)
	}
	value, err := goldenKey.Seal(rand.Reader, "__Host-negotiate", goldenPlace, c)
	if err != nil || len(value) != len(golden) || value == golden {
		t.Errorf("sealed again: %s, %v", value, err)
	}
}

// FuzzCookie has a client send any value: no user is signed in by one that was not made here.
func FuzzCookie(f *testing.F) {
	for _, seed := range []string{golden, strings.ToUpper(golden), golden[:len(golden)-4], golden + "A", "", "AAAA", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		sealed, ok := Parse(value)
		if !ok {
			return
		}
		if c, err := goldenKey.Open(goldenPlace, sealed); err == nil && value != golden {
			t.Errorf("%q signs in as %s", value, c.Principal)
		}
	})
}

// FuzzKeys reads what is in the storage.
func FuzzKeys(f *testing.F) {
	f.Add(AppendKeys(nil, []*Key{{Made: time.Unix(2, 0), Key: make([]byte, KeySize)}, {ID: KeyID{1}, Made: time.Unix(1, 0), Key: make([]byte, KeySize)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys := ParseKeys(b)
		if again := ParseKeys(AppendKeys(nil, keys)); len(b)/storedSize != len(keys) || !reflect.DeepEqual(again, keys) {
			t.Errorf("%x has %d keys, then %d", b, len(keys), len(again))
		}
	})
}
