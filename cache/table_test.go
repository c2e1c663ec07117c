package cache

import "testing"

// Two keys whose hashes are equal are still two keys: a collision must never
// give one user another's ticket.
func TestTable_EqualHashes(t *testing.T) {
	tab := newTable[*ticket](1 << 20)
	const hash = 0xfeedface
	entries := make([]*entry[*ticket], 5)
	for i := range entries {
		entries[i] = &entry[*ticket]{hash: hash, key: key(i)}
		tab.insert(entries[i])
	}
	check := func() {
		t.Helper()
		for i, e := range entries {
			if got := tab.find(hash, key(i)); got != e {
				t.Errorf("found %v under key %d", got, i)
			}
		}
		if got := tab.find(hash, key(99)); got != nil {
			t.Errorf("found %v under a key that is not there", got.key)
		}
	}
	check()
	for _, i := range []int{4, 2, 0} { // first, in the middle and last of the chain
		e := entries[i]
		link := e.next.Load()
		tab.remove(e)
		tab.remove(e)
		if e.next.Load() != link {
			t.Errorf("entry %d lost its link, a reader on it would lose its way", i)
		}
		entries[i] = nil
		check()
	}
}
