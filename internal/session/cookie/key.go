package cookie

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// Key is a master key, from which the keys of cookies are derived.
type Key struct {
	ID   KeyID
	Made time.Time
	Key  []byte // KeySize bytes
}

// KeyID tells master keys apart.
type KeyID [8]byte

// KeySize is the size of a master key, in bytes.
const KeySize = 32

// The stored form of the master keys, of one after the other:
//
//	id      8 bytes
//	made    8 bytes, seconds since 1970, big-endian
//	key     32 bytes
const storedSize = len(KeyID{}) + 8 + KeySize

// AppendKeys appends keys as they are stored.
func AppendKeys(b []byte, keys []*Key) []byte {
	for _, k := range keys {
		b = append(b, k.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(k.Made.Unix()))
		b = append(b, k.Key...)
	}
	return b
}

// ParseKeys returns the keys in what AppendKeys has appended, the newest last. An unfinished one at
// the end is left out.
func ParseKeys(b []byte) (keys []*Key) {
	for stored := range slices.Chunk(b, storedSize) {
		if len(stored) < storedSize {
			break
		}
		k := &Key{Made: time.Unix(int64(binary.BigEndian.Uint64(stored[len(KeyID{}):])), 0), Key: stored[len(KeyID{})+8:]}
		copy(k.ID[:], stored)
		keys = append(keys, k)
	}
	slices.SortStableFunc(keys, func(a, b *Key) int { return cmp.Compare(a.Made.Unix(), b.Made.Unix()) })
	return keys
}
