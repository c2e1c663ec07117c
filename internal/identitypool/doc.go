// Package identitypool holds what outlives a reload of the configuration: the identities
// of the process with their tickets, the health of KDCs, and the limits of the ticket
// cache. All of it is in one [Pool], [Process].
//
// Each block of the configuration that logs in has a [Ref] to an identity, which it opens
// when it is provisioned and releases when it is cleaned up. Blocks with the same account
// and the same source of keys share one [Identity], also across reloads: its tickets, its
// breaker and its clock offsets. What differs from block to block (KDCs, encryption
// types, timeouts) is in the Ref's initiator. The last release drops the tickets.
//
// Opening a Ref changes nothing for others, so that a configuration that is rejected
// leaves no trace. Limits are of one configuration each ([Limits]); those of the last that
// was started and not stopped are in force. Begin with [Pool.Open].
package identitypool
