package accept_test

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// opens reports whether a ring has the key that a ticket is encrypted with.
func (w *world) opens(r *accept.Ring, k accept.LongTermKey, at time.Time) bool {
	w.tb.Helper()
	sent := w.token()
	sent.key, sent.kvno = k.Key, k.KVNO
	w.cfg.Keys = ringKeys{r, at}
	_, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(w.tb)})
	if reason := reasonOf(w.tb, err); reason != 0 && !reason.OfKeys() && reason != accept.WrongService {
		w.tb.Fatal(err)
	}
	return err == nil
}

type ringKeys struct {
	ring *accept.Ring
	at   time.Time
}

func (k ringKeys) KeysFor(p messages.Principal) []*accept.Key { return k.ring.KeysFor(p, k.at) }

func TestRing_ReplacedKeysOpenForADay(t *testing.T) {
	w, ring := newWorld(t), new(accept.Ring)
	key := func(kvno uint32) accept.LongTermKey {
		return accept.LongTermKey{Principal: principal(t, service), Key: newKey(t, enctype.AES256_CTS_HMAC_SHA1_96), KVNO: kvno}
	}
	one, two := key(1), key(2)
	if w.opens(ring, one, now) {
		t.Fatal("an empty ring opens a ticket")
	}
	if !ring.Replace([]accept.LongTermKey{one}, now) || ring.Replace([]accept.LongTermKey{one}, now) {
		t.Error("whether a key is new")
	}
	held := ring.KeysFor(principal(t, "http/WEB.corp.example"), now)
	if len(held) != 1 || held[0] != ring.KeysFor(principal(t, service), now)[0] {
		t.Error("not the same key again")
	}
	if !ring.Replace([]accept.LongTermKey{two, two}, now) {
		t.Error("the second key is not new")
	}
	if again := ring.KeysFor(principal(t, service), now); len(again) != 2 || again[1] != held[0] {
		t.Errorf("%d keys, the replaced one last", len(again))
	}
	late := now.Add(accept.RetiredKeyLife)
	for _, row := range []struct {
		key  accept.LongTermKey
		at   time.Time
		want bool
	}{{one, now, true}, {two, now, true}, {one, late.Add(-time.Second), true}, {one, late, false}, {two, late, true}} {
		if w.opens(ring, row.key, row.at) != row.want {
			t.Errorf("version %d at %s: want %t", row.key.KVNO, row.at, row.want)
		}
	}
	if ring.Replace([]accept.LongTermKey{one}, now) || len(ring.KeysFor(principal(t, service), late)) != 1 {
		t.Error("a key that comes back is in use again, and not a new one")
	}
	ring.Forget()
	if w.opens(ring, two, now) || !w.opens(ring, one, now) {
		t.Error("after Forget the replaced key is gone, and no other")
	}
	if got := ring.Principals(); len(got) != 1 || got[0].String() != service+"@"+realm {
		t.Errorf("principals %v", got)
	}
}

// A file that is replaced again and again does not fill the memory.
func TestRing_Bounded(t *testing.T) {
	ring := new(accept.Ring)
	for i := range 500 {
		ring.Replace([]accept.LongTermKey{{Principal: principal(t, service), Key: newKey(t, enctype.AES128_CTS_HMAC_SHA1_96), KVNO: uint32(i)}}, now)
	}
	if n := len(ring.KeysFor(principal(t, service), now)); n != 65 {
		t.Errorf("%d keys", n)
	}
}

// What cannot be used is left out.
func TestRing_UnusableKey(t *testing.T) {
	ring := new(accept.Ring)
	if ring.Replace([]accept.LongTermKey{{Principal: principal(t, service)}}, now) || len(ring.KeysFor(principal(t, service), now)) != 0 {
		t.Error("the zero key is held")
	}
}
