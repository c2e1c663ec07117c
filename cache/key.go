package cache

import (
	"strings"
	"time"
	"unique"
)

// Key names a value completely: two requests may share a ticket only if all of
// it is equal. The cache compares bytes and normalises nothing. Its callers
// bring each part into one form before they ask:
type Key struct {
	// Identity is the account that asks, in whatever form its owner keeps
	// identities apart (principal, realm and credential source).
	Identity string
	// User is the end user acted for, empty when the identity acts for
	// itself. It is never folded: whether "Alice" and "alice" are one person
	// is the KDC's to say.
	User string
	// Realm is the realm of the service, as asked for (empty if the KDC is to
	// find it), in capitals where the configuration says capitals.
	Realm string
	// SPN is the service principal as requested, its host in lower case, or
	// the name of a ticket-granting service.
	SPN string
	// ETypes is the list of encryption types asked for, in order, in one
	// spelling.
	ETypes string
	// Options are the KDC options asked for (RFC 4120 5.4.1). Flags of the
	// GSS-API do not belong here: they choose what is made of a ticket.
	Options uint32
}

// kept returns k in the form that is held for long: what many entries have in
// common is shared, and nothing is a slice of a caller's larger string.
func (k Key) kept() Key {
	k.Identity = unique.Make(k.Identity).Value()
	k.Realm = unique.Make(k.Realm).Value()
	k.ETypes = unique.Make(k.ETypes).Value()
	k.User = strings.Clone(k.User)
	k.SPN = strings.Clone(k.SPN)
	return k
}

// size is what the key itself adds to an entry, in bytes.
func (k Key) size() int64 { return int64(len(k.User) + len(k.SPN)) }

// Value is what a cache holds. It is comparable (a pointer, as a rule), so that
// a caller can say which one was refused, and safe for concurrent use.
type Value interface {
	comparable
	// Size is everything kept for the value, in bytes. If it grows later, tell
	// the cache with [Cache.Remeasure].
	Size() int64
	// Start is when the value was obtained; its refresh point is reckoned from
	// here.
	Start() time.Time
	// End is when it ceases to be good.
	End() time.Time
}

// Source says where a value came from. It is what operators see.
type Source string

// The sources of a value.
const (
	Cached  Source = "cache"   // held already, a remembered failure included
	Fetched Source = "kdc"     // fetched now, by this caller or one beside it
	Stored  Source = "storage" // taken from the Store
)
