package kdc

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A dead KDC is put last for deadMin at first, for twice as long each time it
// fails again, and never for longer than deadMax.
const (
	deadMin = 5 * time.Second
	deadMax = 60 * time.Second
	// maxRemembered bounds the memory; the DNS says how many KDCs there are.
	maxRemembered = 1024
)

// Memory keeps the health of KDCs between requests. It is safe for
// concurrent use.
type Memory struct {
	mu      sync.Mutex
	peers   map[peer]*Health
	streams map[Server]bool // to be asked by TCP first
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{peers: make(map[peer]*Health), streams: make(map[Server]bool)}
}

// peer is one address of a server; the zero address means one that the
// proxy resolves, or that could not be resolved.
type peer struct {
	server Server
	addr   netip.Addr
}

func (p peer) addrString() string {
	if !p.addr.IsValid() {
		return ""
	}
	return p.addr.String()
}

// Health is what is known of one address of a KDC.
type Health struct {
	Server Server
	// Addr is the IP address; empty if the name could not be resolved or is
	// left to a proxy.
	Addr string
	// Asked counts requests, Answered those that it answered, PassedOver
	// foreign or malformed replies.
	Asked, Answered, PassedOver uint64
	// Failures counts failures since the last answer.
	Failures int
	// DeadUntil is when it takes its place in the order again; zero or past
	// if it is not put last.
	DeadUntil time.Time
	// LastError is why it failed last, at LastErrorTime; nil if never. It is
	// kept after an answer.
	LastError     error
	LastErrorTime time.Time
	// LastAnswer is when it answered last; zero if never.
	LastAnswer time.Time
	// TCPFirst reports that UDP failed, so that TCP is tried first.
	TCPFirst bool
}

// Health returns what is known of each KDC, in the order of their names.
func (m *Memory) Health() []Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Health, 0, len(m.peers))
	for _, h := range m.peers {
		view := *h
		view.TCPFirst = m.streams[h.Server]
		all = append(all, view)
	}
	slices.SortFunc(all, func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Server.String(), b.Server.String()), cmp.Compare(a.Addr, b.Addr))
	})
	return all
}

// entry finds or makes the entry of a peer; the lock is held.
func (m *Memory) entry(p peer) *Health {
	if h := m.peers[p]; h != nil {
		return h
	}
	for len(m.peers) >= maxRemembered {
		m.forgetOldest()
	}
	h := &Health{Server: p.server, Addr: p.addrString()}
	m.peers[p] = h
	return h
}

// forgetOldest drops the least recently used entry.
func (m *Memory) forgetOldest() {
	var oldest peer
	var when time.Time
	first := true
	for p, h := range m.peers {
		used := h.LastAnswer
		if h.LastErrorTime.After(used) {
			used = h.LastErrorTime
		}
		if first || used.Before(when) {
			oldest, when, first = p, used, false
		}
	}
	delete(m.peers, oldest)
	delete(m.streams, oldest.server)
}

func (m *Memory) asked(p peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entry(p).Asked++
}

func (m *Memory) passedOver(p peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entry(p).PassedOver++
}

// answered clears the memory of failures and reports whether it was dead.
func (m *Memory) answered(p peer, now time.Time) (wasDead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.entry(p)
	wasDead = h.Failures > 0
	h.Answered++
	h.LastAnswer, h.Failures, h.DeadUntil = now, 0, time.Time{}
	if p.addr.IsValid() {
		// The name resolves, so a remembered failure to do so is over.
		delete(m.peers, peer{server: p.server})
	}
	return wasDead
}

// failed remembers a failure of what was asked at began, and until when the
// peer is put last. Failures of requests that were under way together count
// once.
func (m *Memory) failed(p peer, began, now time.Time, err error) (until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.entry(p)
	together := h.Failures > 0 && began.Before(h.LastErrorTime)
	h.LastError, h.LastErrorTime = errors.New(err.Error()), now // keeps the text alone
	if together && now.Before(h.DeadUntil) {
		return h.DeadUntil
	}
	h.Failures++
	h.DeadUntil = now.Add(min(deadMin<<min(h.Failures-1, 10), deadMax))
	delete(m.streams, p.server)
	return h.DeadUntil
}

// dead reports whether a peer is to be put last.
func (m *Memory) dead(p peer, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.peers[p]
	return h != nil && now.Before(h.DeadUntil)
}

// deadServers are those of which every address that is known is dead.
func (m *Memory) deadServers(now time.Time) map[Server]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	dead := make(map[Server]bool)
	for p, h := range m.peers {
		is := now.Before(h.DeadUntil)
		if before, ok := dead[p.server]; ok {
			is = is && before
		}
		dead[p.server] = is
	}
	return dead
}

func (m *Memory) tcpFirst(s Server) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams[s]
}

func (m *Memory) preferTCP(s Server, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if yes {
		if len(m.streams) >= maxRemembered {
			clear(m.streams)
		}
		m.streams[s] = true
		return
	}
	delete(m.streams, s)
}
