package cache

import (
	"encoding/binary"
	"strings"
	"time"
	"unique"
)

// Key identifies a value completely: two requests may share a ticket only if all
// fields are equal. The cache compares and normalizes nothing; its callers bring
// each field into one form first.
type Key struct {
	// Identity tells the accounts of this process apart.
	Identity string
	// User is the impersonated user, empty for the identity itself. It is never
	// folded: only the KDC can say whether "Alice" and "alice" are one user.
	User string
	// UserType is the user's Kerberos name type: an enterprise name and a principal
	// of the same text may be two users.
	UserType int32
	// Account is the user's account where the caller knows it, which a name can pass
	// from one to another; else empty.
	Account string
	// Options are the KDC options requested (RFC 4120, Section 5.4.1). GSS-API flags
	// do not belong here: they affect tokens, not tickets.
	Options uint32
	// Realm is the service's realm as requested, empty if the KDC is to find it.
	Realm string
	// SPN is the service principal as requested, its host in lower case.
	SPN string
	// Terms are the settings that the ticket is requested with. A handle is compared
	// and hashed as one word.
	Terms unique.Handle[Terms]
}

// MaxETypes is how many encryption types Terms can hold: more than there are.
const MaxETypes = 16

// Terms are settings of a client that decide what its tickets are like.
type Terms struct {
	// ETypes are the encryption types requested, in order; zero ends the list.
	ETypes [MaxETypes]int32
	// Armored: the login is protected by FAST armor (RFC 6113).
	Armored bool
	// Canonicalize: the KDC may correct names (RFC 6806).
	Canonicalize bool
	// Lifetime is the lifetime requested, zero for as long as the KDC allows.
	Lifetime time.Duration
}

// TermsValue returns the terms behind the handle, the zero Terms if there is none.
func (k Key) TermsValue() Terms {
	if k.Terms == (unique.Handle[Terms]{}) {
		return Terms{}
	}
	return k.Terms.Value()
}

// Append appends an unambiguous encoding of all fields but Identity, which has a
// meaning in this process only. It is for hashing, and equal in all processes.
func (k Key) Append(b []byte) []byte {
	for _, s := range []string{k.User, k.Realm, k.SPN} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(k.UserType))
	b = binary.BigEndian.AppendUint32(b, k.Options)
	t := k.TermsValue()
	for _, etype := range t.ETypes {
		b = binary.BigEndian.AppendUint32(b, uint32(etype))
	}
	for _, flag := range []bool{t.Armored, t.Canonicalize} {
		if flag {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = binary.BigEndian.AppendUint64(b, uint64(t.Lifetime))
	return append(b, k.Account...)
}

// kept returns k in the form that is kept for long: what many entries have in
// common is shared, and no field is a slice of a caller's larger string.
func (k Key) kept() Key {
	k.Identity = unique.Make(k.Identity).Value()
	k.Realm = unique.Make(k.Realm).Value()
	k.User, k.Account = strings.Clone(k.User), strings.Clone(k.Account)
	k.SPN = strings.Clone(k.SPN)
	return k
}

// size is what the key adds to the size of an entry, in bytes.
func (k Key) size() int64 { return int64(len(k.User) + len(k.Account) + len(k.SPN)) }

// Value is what a cache holds. It is comparable (usually a pointer), so that a
// caller can say which one was refused, and safe for concurrent use.
type Value interface {
	comparable
	// Size is everything kept for the value, in bytes. If it grows later, call
	// [Cache.Remeasure].
	Size() int64
	// Start is when the value was obtained; its refresh is timed from here.
	Start() time.Time
	// End is when the value expires.
	End() time.Time
}

// Source says where a value came from, for operators.
type Source string

// The sources of a value.
const (
	Cached  Source = "cache"   // held already, a remembered failure included
	Fetched Source = "kdc"     // fetched now, for this caller or another
	Stored  Source = "storage" // loaded from the Store
)
