package keytab

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A Keytab is the keys of a file, in its order.
type Keytab struct {
	Entries []Entry
}

// An Entry is one key of one principal. Printed, it shows no secret: Key does
// not.
type Entry struct {
	// Principal owns the key. Version 1 files have no name types:
	// theirs is KRB_NT_PRINCIPAL.
	Principal messages.Principal

	// Timestamp is when the entry was written, in whole seconds up to the
	// year 2106; zero where the file says 0, as ktpass writes.
	Timestamp time.Time

	// KVNO is the key version number, of which older files hold the low
	// eight bits only.
	KVNO uint32

	// Key is the key, of a type that may not be supported.
	Key enctype.Key
}

// String names the entry: principal, version and type, never the key.
func (e Entry) String() string {
	return fmt.Sprintf("%s kvno %d %s", e.Principal, e.KVNO, e.Key.EType())
}

// Principals returns the principals in the file, in order of appearance.
func (k *Keytab) Principals() []messages.Principal {
	var list []messages.Principal
	for _, e := range k.Entries {
		if !slices.ContainsFunc(list, e.Principal.Equal) {
			list = append(list, e.Principal)
		}
	}
	return list
}

// Keys returns the entries of a principal, newest version first and otherwise
// in the order of the file. Names and realms are compared exactly, name types
// are not.
func (k *Keytab) Keys(principal messages.Principal) []Entry {
	var entries []Entry
	for _, e := range k.Entries {
		if e.Principal.Equal(principal) {
			entries = append(entries, e)
		}
	}
	ranks := make(map[uint32]uint64)
	for _, e := range entries {
		ranks[e.KVNO] = max(ranks[e.KVNO], rank(e, entries))
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(ranks[b.KVNO], ranks[a.KVNO]) })
	return entries
}

// Key returns the key of a principal of one type and version; kvno 0 means the
// newest of that type. For a version above 255 an entry with its low eight bits
// is returned if there is none with all of it, because older files hold no more.
func (k *Keytab) Key(principal messages.Principal, etype enctype.ID, kvno uint32) (enctype.Key, bool) {
	var truncated enctype.Key
	for _, e := range k.Keys(principal) {
		if e.Key.EType() != etype {
			continue
		}
		if kvno == 0 || e.KVNO == kvno {
			return e.Key, true
		}
		if e.KVNO == kvno&0xff && truncated.IsZero() {
			truncated = e.Key
		}
	}
	return truncated, !truncated.IsZero()
}

// rank orders the versions of one principal's entries. A small number that was
// written no earlier than a large one ranks above it: versions are kept in eight
// bits by older files and in sixteen by some KDCs, and wrap, or start again when
// an account is created again.
func rank(e Entry, all []Entry) uint64 {
	if e.KVNO < 128 && slices.ContainsFunc(all, func(o Entry) bool {
		return o.KVNO > 240 && !e.Timestamp.Before(o.Timestamp)
	}) {
		return 1<<32 + uint64(e.KVNO)
	}
	return uint64(e.KVNO)
}
