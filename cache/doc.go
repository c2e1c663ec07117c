// Package cache keeps what was won from a KDC: keyed, bounded in bytes,
// fetched once for all who wait, and replaced before it ends.
//
// One [Cache] serves a whole process. A read of a warm entry ([Cache.Get])
// takes no lock, allocates nothing and costs the same with ten entries as with
// a hundred thousand. Everything that changes the cache goes through one mutex,
// since every change stands beside a network exchange that costs a thousand
// times more.
//
// What an entry goes through:
//
//   - a miss starts one fetch for everybody who wants the key ([Cache.Fetch]);
//     it belongs to no caller, so the first one leaving does not end it;
//   - at a random point between 70 and 85 % of the value's life the next use
//     starts one background refresh, and the old value is served meanwhile, up
//     to its end less a margin; a failed refresh is retried on use with
//     growing pauses;
//   - a failure that says so is remembered for a while and served at once
//     ([Rememberer]);
//   - a value that a service refused is suspect: it is served until its
//     successor is there, and successors are rationed ([Cache.Successor]);
//   - when the memory is full the least recently used entry goes. Least
//     recently is approximate: the oldest of sixteen drawn at random.
//
// An optional [Store] behind it lets several processes share.
//
// The package knows nothing of Kerberos, HTTP or Caddy. It does not copy, seal
// or wipe values, has no goroutine of its own while nothing is being fetched,
// and never invalidates a value that a caller already holds.
//
// Begin with [Cache.Get] and [Cache.Fetch].
package cache
