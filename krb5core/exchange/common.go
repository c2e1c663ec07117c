package exchange

import (
	"cmp"
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

// common is the state that every machine has: its environment, the clock offset learnt in this
// exchange, and the replies that were used already.
type common struct {
	Env       // with its defaults
	fast bool // requests are armored (RFC 6113, Section 5.4)

	anonymous bool // the client is (RFC 8062)

	offset      time.Duration // the KDC's clock minus ours
	offsetRealm string
	skewed      bool // offset was learnt from an error; not twice
	confirmed   bool // by a decrypted reply

	consumed [][sha256.Size]byte // digests of the replies used
	ended    bool
}

func newCommon(e Env) *common {
	if e.ETypes == nil {
		e.ETypes = enctype.Strong()
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Rand == nil {
		e.Rand = rand.Reader
	}
	e.MaxSkew = cmp.Or(e.MaxSkew, DefaultMaxSkew)
	if e.Trace == nil {
		e.Trace = func(Event) {}
	}
	return &common{Env: e}
}

// now is the KDC's time, as far as known.
func (c *common) now() time.Time { return c.Now().Add(c.offset).UTC() }

// nonce returns the number that ties a reply to its request (RFC 4120, Section 5.4.1). It has 31
// bits because some KDCs read it as a signed number.
func (c *common) nonce() (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(c.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("making a nonce: %w", err)
	}
	return binary.BigEndian.Uint32(b[:]) & 0x7fffffff, nil
}

// learnOffset takes the offset from an error's stime (RFC 4120, Section 3.1.4 leaves that to the
// client). It reports false after the first time. The error may be forged, so the offset is
// provisional.
func (c *common) learnOffset(realm string, e *messages.KRBError) bool {
	if c.skewed {
		return false
	}
	c.offset, c.offsetRealm = e.ServerTime().Sub(c.Now()), realm
	c.skewed, c.confirmed = true, false
	c.Trace(SkewLearnt{realm, c.offset, false})
	return true
}

// confirmOffset compares the offset with the time, in full seconds, at which a KDC says in a
// decrypted reply that it answered a request sent at the given time by our clock. An offset from an
// error is kept only within these bounds.
func (c *common) confirmOffset(realm string, kdcTime, sent time.Time) {
	if c.skewed && realm != c.offsetRealm {
		return
	}
	low, high := kdcTime.Sub(c.Now()), kdcTime.Add(time.Second).Sub(sent)
	before := c.offset
	if c.skewed || low > c.MaxSkew || high < -c.MaxSkew {
		c.offset = max(low, min(c.offset, high))
		c.offsetRealm = realm
	}
	c.confirmed = true
	if c.skewed || c.offset != before {
		c.Trace(SkewLearnt{realm, c.offset, true})
	}
}

// turn implements Step of every machine around its own step.
func (c *common) turn(reply []byte, step func([]byte) (*Request, error)) (*Request, error) {
	if c.ended {
		return nil, ErrFinished
	}
	req, err := step(slices.Clone(reply)) // parsed messages alias it
	if errors.Is(err, ErrForeign) {
		c.Trace(ReplyRefused{err})
		return nil, err
	}
	c.ended = req == nil
	return req, c.hint(reply, err)
}

// note records a reply as used, so that a copy of it is recognized as stale.
func (c *common) note(reply []byte) { c.consumed = append(c.consumed, sha256.Sum256(reply)) }

func (c *common) stale(reply []byte) bool { return slices.Contains(c.consumed, sha256.Sum256(reply)) }

// till is the end time to request. 1970 means the latest possible (RFC 4120, Section 5.4.1).
func till(now time.Time, lifetime time.Duration) time.Time {
	if lifetime == 0 {
		return time.Unix(0, 0).UTC()
	}
	return now.Add(lifetime)
}

// armored reports whether a reply has armor. judge has verified the armor of a reply that it
// accepts.
func armored(reply []byte) bool {
	e, err := messages.ParseKRBError(reply)
	if err != nil {
		return false
	}
	_, ok := e.Data().PAData.Find(messages.PA_FX_FAST)
	return ok
}

// hint wraps the error that ends an exchange if it replies to an armored request without armor.
func (c *common) hint(reply []byte, err error) error {
	var (
		e      *messages.KRBError
		marked *UnarmoredError
	)
	if !c.fast || !errors.As(err, &e) || errors.As(err, &marked) || armored(reply) {
		return err
	}
	return &UnarmoredError{e}
}

// apReq builds an AP-REQ that presents a TGT (RFC 4120, Section 5.2.7.1). The authenticator names the TGT's client; its
// CTime has microseconds.
func apReq(tgt *messages.Credential, auth messages.Authenticator, usage enctype.Usage, rand io.Reader) ([]byte, error) {
	auth.CRealm, auth.CName = tgt.Client.Realm, tgt.Client.Name
	auth.CUSec = int32(auth.CTime.Nanosecond() / int(time.Microsecond))
	auth.CTime = auth.CTime.Truncate(time.Second)
	cipher, err := tgt.Key.Encrypt(rand, usage, auth.Marshal())
	if err != nil {
		return nil, fmt.Errorf("encrypting the authenticator: %w", err)
	}
	req := messages.APReq{
		Ticket:        messages.Ticket{Raw: tgt.Ticket},
		Authenticator: messages.EncryptedData{EType: tgt.Key.EType(), Cipher: cipher},
	}
	return req.Marshal(), nil
}
