package cookie

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// Content is what a cookie holds:
//
//	begin     seconds since 1970
//	end       seconds after begin
//	seen      seconds after begin
//	ticket    16 bytes
//	type      of the principal's name, then the number of its parts, the parts, the realm
//	account   0, or 1 and then the SID, the groups, those that only deny
//
// Numbers are varints, texts have their length before them, SIDs are packed.
type Content struct {
	Begin, End time.Time
	Seen       time.Time // when the last cookie of the session was set
	Ticket     TicketID
	Principal  messages.Principal
	Account    *accept.Account // SID, Groups and DenyOnly; nil without a PAC
}

// TicketID tells tickets apart: a part of the hash of the encoding.
type TicketID [16]byte

// IDOf returns the ID of a ticket.
func IDOf(ticket []byte) (id TicketID) {
	sum := sha256.Sum256(ticket)
	copy(id[:], sum[:])
	return id
}

// errUnpacked is for SIDs, times and the like that are none.
var errUnpacked = errors.New("not the content of a session")

func (c *Content) marshal() []byte {
	begin := c.Begin.Unix()
	b := binary.AppendVarint(make([]byte, 0, 256), begin)
	b = binary.AppendVarint(b, c.End.Unix()-begin)
	b = binary.AppendVarint(b, c.Seen.Unix()-begin)
	b = append(b, c.Ticket[:]...)
	b = binary.AppendVarint(b, int64(c.Principal.Name.NameType))
	b = binary.AppendUvarint(b, uint64(len(c.Principal.Name.NameString)))
	for _, part := range c.Principal.Name.NameString {
		b = appendText(b, part)
	}
	b = appendText(b, c.Principal.Realm)
	if c.Account == nil {
		return append(b, 0)
	}
	b = appendText(append(b, 1), string(c.Account.SID))
	return appendSIDs(appendSIDs(b, c.Account.Groups), c.Account.DenyOnly)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendSIDs appends SIDs by domain: its text, the number of SIDs, and their last parts, each as the
// difference to the one before. Those without such a part come first, as texts.
func appendSIDs(b []byte, sids []pac.SID) []byte {
	var whole, domains []string
	members := make(map[string][]uint32)
	for _, sid := range sids {
		domain, rid, ok := cutSID(sid)
		if !ok {
			whole = append(whole, string(sid))
			continue
		}
		if members[domain] == nil {
			domains = append(domains, domain)
		}
		members[domain] = append(members[domain], rid)
	}
	b = binary.AppendUvarint(b, uint64(len(whole)))
	for _, sid := range whole {
		b = appendText(b, sid)
	}
	b = binary.AppendUvarint(b, uint64(len(domains)))
	for _, domain := range domains {
		rids := slices.Compact(slices.Sorted(slices.Values(members[domain])))
		b = binary.AppendUvarint(appendText(b, domain), uint64(len(rids)))
		before := uint32(0)
		for _, rid := range rids {
			b = binary.AppendUvarint(b, uint64(rid-before))
			before = rid
		}
	}
	return b
}

// cutSID separates the last part of a SID from its domain.
func cutSID(sid pac.SID) (domain string, rid uint32, ok bool) {
	i := strings.LastIndexByte(string(sid), '-')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(string(sid[i+1:]), 10, 32)
	if err != nil || joinSID(string(sid[:i]), uint32(n)) != sid {
		return "", 0, false
	}
	return string(sid[:i]), uint32(n), true
}

func joinSID(domain string, rid uint32) pac.SID {
	return pac.SID(domain + "-" + strconv.FormatUint(uint64(rid), 10))
}

// unpacker reads what marshal has written. After a failure everything is zero.
type unpacker struct {
	b      []byte
	failed bool
}

// unmarshal reads a content, and nothing after it.
func unmarshal(b []byte) (*Content, error) {
	r := &unpacker{b: b}
	c := new(Content)
	c.Begin = time.Unix(r.seconds(), 0)
	c.End = c.Begin.Add(time.Duration(r.seconds()) * time.Second)
	c.Seen = c.Begin.Add(time.Duration(r.seconds()) * time.Second)
	copy(c.Ticket[:], r.take(uint64(len(c.Ticket))))
	c.Principal.Name.NameType = messages.NameType(r.number())
	for range r.count() {
		c.Principal.Name.NameString = append(c.Principal.Name.NameString, r.text())
	}
	c.Principal.Realm = r.text()
	if has := r.take(1); !r.failed && has[0] != 0 {
		c.Account = &accept.Account{SID: pac.SID(r.text())}
		c.Account.Groups, c.Account.DenyOnly = r.sids(), r.sids()
	}
	if r.failed || len(r.b) > 0 {
		return nil, errUnpacked
	}
	return c, nil
}

func (r *unpacker) fail() {
	r.b, r.failed = nil, true
}

// seconds reads a number of seconds, as small as can be added to a time.
func (r *unpacker) seconds() int64 {
	n := r.number()
	if n > math.MaxInt32*4 || n < -math.MaxInt32 {
		r.fail()
		return 0
	}
	return n
}

func (r *unpacker) number() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads a number of things that take a byte each at least.
func (r *unpacker) count() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)-size) {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *unpacker) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *unpacker) text() string { return string(r.take(r.count())) }

func (r *unpacker) sids() []pac.SID {
	var sids []pac.SID
	for range r.count() {
		sids = append(sids, pac.SID(r.text()))
	}
	for range r.count() {
		domain, rid := r.text(), uint64(0)
		for range r.count() {
			more, size := binary.Uvarint(r.b)
			if rid += more; size <= 0 || more > math.MaxUint32 || rid > math.MaxUint32 {
				r.fail()
				return nil
			}
			r.b = r.b[size:]
			sids = append(sids, joinSID(domain, uint32(rid)))
		}
	}
	return sids
}
