package signin

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of the tokens of one address that fail: so many at once, and one in this time.
const (
	FailuresAtOnce = 20
	FailureEvery   = 200 * time.Millisecond
)

// maxAddresses bounds the addresses whose failures are counted. Each is forgotten at most
// FailuresAtOnce times FailureEvery after its last failure.
const maxAddresses = 1 << 16

// Throttle bounds the tokens that fail by the client's address, because each costs a decryption. It
// counts an IPv6 address as all of its /64, which one client can have. It is safe for concurrent
// use.
type Throttle struct {
	now func() time.Time

	mu sync.Mutex
	// full is when an address may fail FailuresAtOnce times again (the virtual scheduling of
	// the generic cell rate algorithm).
	full map[netip.Addr]time.Time
}

// Process is the throttle of this process: it outlives reloads.
var Process = NewThrottle(time.Now)

// NewThrottle returns a throttle that has counted nothing.
func NewThrottle(now func() time.Time) *Throttle {
	return &Throttle{now: now, full: make(map[netip.Addr]time.Time)}
}

// Wait is how long no token of an address is verified; 0 if one may be. The zero address stands for
// all clients that have none.
func (t *Throttle) Wait(address netip.Addr) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	full, failed := t.full[network(address)]
	if !failed {
		return 0
	}
	return max(0, full.Sub(t.now())-(FailuresAtOnce-1)*FailureEvery)
}

// Failed counts a token that failed.
func (t *Throttle) Failed(address netip.Addr) {
	address = network(address)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	full, failed := t.full[address]
	if !failed {
		t.makeRoom(now)
	}
	if full.Before(now) {
		full = now
	}
	t.full[address] = full.Add(FailureEvery)
}

// makeRoom drops addresses that are forgiven, or any if there are none among a few.
func (t *Throttle) makeRoom(now time.Time) {
	const few = 8
	seen := 0
	for address, full := range t.full { // in no order
		if seen++; seen > few {
			return
		}
		if !full.After(now) || len(t.full) >= maxAddresses {
			delete(t.full, address)
		}
	}
}

// network is the part of an address that one client has.
func network(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if !address.Is6() {
		return address
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.Addr()
}
