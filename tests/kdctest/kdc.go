package kdctest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a KDC: its realms, clock and randomness.
type Config struct {
	// Realms are the databases that it serves. Several KDCs may share one.
	Realms []*Realm
	// Host is the loopback address to listen on; 127.0.0.1 if empty.
	Host string
	// UDPLimit is the size in bytes above which an answer over UDP is
	// KRB_ERR_RESPONSE_TOO_BIG instead; 1465 if zero, as on Windows.
	UDPLimit int
	// Now is the KDC's clock; time.Now if nil.
	Now func() time.Time
	// Rand is the source of keys and confounders; crypto/rand if nil. It is
	// read under a lock, so a deterministic reader works.
	Rand io.Reader
	// MITStyle tags the encrypted part of AS-REPs APPLICATION 26, as the MIT KDC
	// does; the tag is 25 otherwise, as on Windows.
	MITStyle bool
	// MaxSkew bounds the difference of a client's clock; five minutes if zero.
	MaxSkew time.Duration
}

// KDC is one key distribution centre: sockets, faults and counts over the
// databases of its realms. Its methods are safe for concurrent use.
type KDC struct {
	cfg    Config
	rand   io.Reader
	realms map[string]*Realm
	offset atomic.Int64 // of the clock, in nanoseconds, by JumpClock

	counter       counter
	lookaside     lookaside
	conversations conversations

	faultsMu sync.Mutex
	faults   []Fault

	mu      sync.Mutex // guards the fields that Start and Stop change
	port    int
	server  *listener
	started bool
	release func() // releases the port that Interrupt reserved
}

// NewKDC returns a KDC that does not listen yet: Handle works immediately, Start opens
// the sockets.
func NewKDC(cfg Config) *KDC {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.UDPLimit == 0 {
		cfg.UDPLimit = 1465
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = 5 * time.Minute
	}
	k := &KDC{cfg: cfg, rand: &lockedReader{r: cfg.Rand}, realms: make(map[string]*Realm)}
	for _, r := range cfg.Realms {
		k.realms[r.name] = r
	}
	k.counter.reset()
	return k
}

// Start opens a UDP and a TCP socket on one free port, or on the port of the
// last Start. It fails if Err of a realm is not nil.
func (k *KDC) Start() error {
	for _, r := range k.cfg.Realms {
		if err := r.Err(); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.started {
		return errors.New("the kdc is running already")
	}
	l, err := listen(k.cfg.Host, k.port, k.answer, k.fieldTooLong)
	if err != nil {
		return err
	}
	k.unreserve()
	k.server, k.port, k.started = l, l.port(), true
	return nil
}

// Stop closes the sockets and every connection, drops answers that a fault holds
// back, and waits for all goroutines. The KDC can be started again.
func (k *KDC) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.halt()
	k.unreserve()
}

// Interrupt stops the KDC like Stop, and reserves its TCP port until the next Start.
func (k *KDC) Interrupt() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.halt()
	k.unreserve()
	_, release, err := reserve(net.JoinHostPort(k.cfg.Host, fmt.Sprint(k.port)))
	k.release = release
	return err
}

func (k *KDC) halt() {
	if k.started {
		k.server.close()
		k.server, k.started = nil, false
	}
}

func (k *KDC) unreserve() {
	if k.release != nil {
		k.release()
		k.release = nil
	}
}

// Addr returns host:port, the same for UDP and TCP; Stop does not change it.
func (k *KDC) Addr() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return net.JoinHostPort(k.cfg.Host, fmt.Sprint(k.port))
}

// Port returns the port of both sockets; zero before the first Start.
func (k *KDC) Port() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.port
}

// Now returns the time of the KDC's clock, jumps included.
func (k *KDC) Now() time.Time {
	return k.cfg.Now().Add(time.Duration(k.offset.Load()))
}

// JumpClock sets the difference d between the KDC's clock and the injected one. It
// replaces an earlier jump; zero removes it.
func (k *KDC) JumpClock(d time.Duration) { k.offset.Store(int64(d)) }

// Handle answers one message without a socket, faults included. It returns nil if
// the KDC is silent.
func (k *KDC) Handle(message []byte) []byte {
	a := k.answer(&Question{Protocol: "direct", Message: message, ctx: context.Background()})
	if len(a.Messages) == 0 {
		return nil
	}
	return a.Messages[len(a.Messages)-1]
}

// Krb5Conf returns a krb5.conf for MIT's and Heimdal's tools that names every realm
// and this KDC. The first realm is the default. Lines are added to [libdefaults].
func (k *KDC) Krb5Conf(lines ...string) string {
	var b strings.Builder
	b.WriteString("[libdefaults]\n")
	if len(k.cfg.Realms) > 0 {
		fmt.Fprintf(&b, "\tdefault_realm = %s\n", k.cfg.Realms[0].name)
	}
	b.WriteString("\tdns_lookup_kdc = false\n\tdns_lookup_realm = false\n" +
		"\trdns = false\n\tdns_canonicalize_hostname = false\n\tqualify_shortname = \"\"\n")
	for _, line := range lines {
		fmt.Fprintf(&b, "\t%s\n", line)
	}
	b.WriteString("[realms]\n")
	for _, r := range k.cfg.Realms {
		fmt.Fprintf(&b, "\t%s = {\n\t\tkdc = %s\n\t}\n", r.name, k.Addr())
	}
	b.WriteString("[domain_realm]\n")
	for _, r := range k.cfg.Realms {
		for _, domain := range r.ownDomains() {
			fmt.Fprintf(&b, "\t%s = %s\n", domain, r.name)
		}
	}
	return b.String()
}

// lockedReader makes a deterministic source safe for concurrent use.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return io.ReadFull(l.r, p)
}
