package exchange

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// common is what every machine has: the world outside, the clock's offset as learnt in this exchange, and which replies
// it has acted on already.
type common struct {
	etypes  []enctype.ID // allowed for session keys, in order of preference
	nowFunc func() time.Time
	rand    io.Reader
	maxSkew time.Duration
	trace   func(Event)
	fast    bool // requests are armored (RFC 6113 5.4)

	offset      time.Duration // KDC's time less ours
	offsetRealm string
	skewed      bool // offset was learnt from an error; not twice
	confirmed   bool // by a decrypted reply

	consumed [][sha256.Size]byte // digests of the replies acted on
	ended    bool
}

func newCommon(etypes []enctype.ID, now func() time.Time, random io.Reader, maxSkew time.Duration, trace func(Event)) *common {
	c := &common{etypes: etypes, nowFunc: now, rand: random, maxSkew: maxSkew, trace: trace}
	if c.etypes == nil {
		c.etypes = enctype.Strong()
	}
	if c.nowFunc == nil {
		c.nowFunc = time.Now
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.maxSkew == 0 {
		c.maxSkew = DefaultMaxSkew
	}
	if c.trace == nil {
		c.trace = func(Event) {}
	}
	return c
}

// now is the KDC's time as far as known.
func (c *common) now() time.Time { return c.nowFunc().Add(c.offset).UTC() }

// nonce makes the number that ties a reply to its request (RFC 4120 5.4.1). It has 31 bits because some KDCs read it as
// signed.
func (c *common) nonce() (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return 0, fmt.Errorf("making a nonce: %w", err)
	}
	return binary.BigEndian.Uint32(b[:]) & 0x7fffffff, nil
}

// learnOffset takes the offset from an error's stime (RFC 4120 3.1.4 leaves that to the client). It reports false after
// the first time. Anybody can have made the error, so the offset is provisional.
func (c *common) learnOffset(realm string, e *messages.KRBError) bool {
	if c.skewed {
		return false
	}
	c.offset, c.offsetRealm = e.ServerTime().Sub(c.nowFunc()), realm
	c.skewed, c.confirmed = true, false
	c.trace(SkewLearnt{realm, c.offset, false})
	return true
}

// confirmOffset compares the offset with the time, in full seconds, at which a KDC says in a decrypted reply that it
// answered a request sent at the given time by our clock. What an error claimed is kept only as far as both allow.
func (c *common) confirmOffset(realm string, kdcTime, sent time.Time) {
	if c.skewed && realm != c.offsetRealm {
		return
	}
	low, high := kdcTime.Sub(c.nowFunc()), kdcTime.Add(time.Second).Sub(sent)
	before := c.offset
	if c.skewed || low > c.maxSkew || high < -c.maxSkew {
		c.offset = max(low, min(c.offset, high))
		c.offsetRealm = realm
	}
	c.confirmed = true
	if c.skewed || c.offset != before {
		c.trace(SkewLearnt{realm, c.offset, true})
	}
}

// turn is Step, of whatever machine, around the machine's own step.
func (c *common) turn(reply []byte, step func([]byte) (*Request, error)) (*Request, error) {
	if c.ended {
		return nil, ErrFinished
	}
	req, err := step(slices.Clone(reply)) // parsed messages alias it
	if errors.Is(err, ErrForeign) {
		c.trace(ReplyRefused{err})
		return nil, err
	}
	c.ended = req == nil
	return req, c.hint(reply, err)
}

// note remembers a reply as acted on, so that a copy of it is known to be stale.
func (c *common) note(reply []byte) { c.consumed = append(c.consumed, sha256.Sum256(reply)) }

func (c *common) stale(reply []byte) bool {
	return slices.Contains(c.consumed, sha256.Sum256(reply))
}
