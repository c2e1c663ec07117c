// Package cache keeps what was obtained from a KDC: keyed, bounded in bytes,
// fetched once for all who wait, and replaced before it ends.
//
// One [Cache] serves a whole process. A read of a warm entry ([Cache.Get]) takes
// no lock, allocates nothing and costs the same with ten entries as with a hundred
// thousand. Everything that changes the cache holds one mutex, since every change
// accompanies a network exchange that costs a thousand times more; what needs the
// mutex is a method of the type locked.
//
// The life of an entry:
//
//   - a miss starts one fetch for all callers that want the key ([Cache.Fetch]).
//     The fetch belongs to no caller: it continues when the first one leaves;
//   - at a random point between 70 and 85 % of the value's life the next use
//     starts one background refresh. The old value stays in use meanwhile, up to
//     its end less a margin; a failed refresh is retried on use, with growing
//     pauses;
//   - an error that is a [Rememberer] is kept for a while and returned at once;
//   - a value that a service refused is suspect: it stays in use until its
//     successor is there, and successors are rationed ([Cache.Successor]);
//   - when the memory is full, the least recently used entry is evicted, where
//     "least recently" means the oldest of sixteen drawn at random.
//
// An optional [Store] behind it lets several processes share.
//
// The package imports the standard library only. It does not copy, seal or wipe
// values, runs no goroutine while nothing is being fetched, and never invalidates
// a value that a caller already holds.
//
// Begin with [Cache.Get] and [Cache.Fetch].
package cache
