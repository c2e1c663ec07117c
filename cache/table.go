package cache

import "sync/atomic"

// table is a hash table that is read without a lock. Its chains are changed by
// one writer at a time (the cache's mutex); a removed entry keeps its link, so
// that a reader which has got to it still reaches the end of the chain.
//
// It never grows, for the number of its slots follows from the memory that the
// entries may take: moving a table while it is read invites errors. Slots come in
// segments, made when first used.
type table[V Value] struct {
	segments []atomic.Pointer[segment[V]]
	mask     uint64
}

const segmentSlots = 256

type segment[V Value] [segmentSlots]atomic.Pointer[entry[V]]

// newTable returns a table for entries that take memory bytes together: a slot
// for each two kilobytes, which is about what a ticket takes.
func newTable[V Value](memory int64) table[V] {
	slots := int64(1 << 10)
	for slots < memory/2048 && slots < 1<<20 {
		slots <<= 1
	}
	n := slots / segmentSlots
	return table[V]{segments: make([]atomic.Pointer[segment[V]], n), mask: uint64(n - 1)}
}

func (t *table[V]) find(hash uint64, key Key) *entry[V] {
	seg := t.segments[hash/segmentSlots&t.mask].Load()
	if seg == nil {
		return nil
	}
	for e := seg[hash%segmentSlots].Load(); e != nil; e = e.next.Load() {
		if e.hash == hash && e.key == key {
			return e
		}
	}
	return nil
}

// slot returns the head of hash's chain. For writers.
func (t *table[V]) slot(hash uint64) *atomic.Pointer[entry[V]] {
	p := &t.segments[hash/segmentSlots&t.mask]
	seg := p.Load()
	if seg == nil {
		seg = new(segment[V])
		p.Store(seg)
	}
	return &seg[hash%segmentSlots]
}

// insert adds e, whose key must not be in the table. For writers.
func (t *table[V]) insert(e *entry[V]) {
	head := t.slot(e.hash)
	e.next.Store(head.Load())
	head.Store(e)
}

// remove takes e out, if it is there. For writers.
func (t *table[V]) remove(e *entry[V]) {
	for link := t.slot(e.hash); ; {
		at := link.Load()
		if at == nil {
			return
		}
		if at == e {
			link.Store(e.next.Load())
			return
		}
		link = &at.next
	}
}
