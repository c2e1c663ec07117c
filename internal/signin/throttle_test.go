package signin

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestThrottle_TwentyAtOnceAndFiveASecond(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	th := NewThrottle(func() time.Time { return now })
	a := netip.MustParseAddr("192.0.2.1")
	fail := func() (n int) {
		for th.Wait(a) == 0 {
			if n++; n > 1000 {
				t.Fatal("no bound")
			}
			th.Failed(a)
		}
		return n
	}
	if n := fail(); n != FailuresAtOnce {
		t.Errorf("%d at once", n)
	}
	if wait := th.Wait(a); wait != FailureEvery {
		t.Errorf("wait %s", wait)
	}
	now = now.Add(time.Second)
	if n := fail(); n != 5 {
		t.Errorf("%d after a second", n)
	}
	now = now.Add(time.Hour)
	if n := fail(); n != FailuresAtOnce {
		t.Errorf("%d after an hour", n)
	}
	if th.Wait(netip.MustParseAddr("192.0.2.2")) != 0 {
		t.Error("another address waits")
	}
	if th.Wait(netip.MustParseAddr("::ffff:192.0.2.1")) == 0 {
		t.Error("the same address as IPv6 does not wait")
	}
}

func TestThrottle_IPv6NetworkIsOneClient(t *testing.T) {
	th := NewThrottle(time.Now)
	for i := range FailuresAtOnce {
		th.Failed(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}))
	}
	if th.Wait(netip.MustParseAddr("2001:db8::ffff:ffff:ffff:ffff%eth0")) == 0 {
		t.Error("the same /64 does not wait")
	}
	if th.Wait(netip.MustParseAddr("2001:db8:0:1::1")) != 0 {
		t.Error("the next /64 waits")
	}
}

func TestThrottle_Bounded(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	th := NewThrottle(func() time.Time { return now })
	for i := range 3 * maxAddresses {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i))
		th.Failed(netip.AddrFrom4(b))
		if len(th.full) > maxAddresses {
			t.Fatalf("%d addresses", len(th.full))
		}
	}
	now = now.Add(time.Minute)
	for range 2 * maxAddresses / 7 { // each new address drops up to eight
		th.Failed(netip.AddrFrom4([4]byte{10}))
		delete(th.full, netip.AddrFrom4([4]byte{10}))
	}
	if len(th.full) > 16 {
		t.Errorf("%d addresses are left of an attack that has ended", len(th.full))
	}
}
