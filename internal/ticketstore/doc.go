// Package ticketstore keeps tickets in Caddy's storage, sealed, so that the members of a
// fleet share them and they survive a restart: `ticket_store storage`. [Store] is the
// cache's store. [Breakers] keeps what is known of refused credentials, in any case, and
// [Shared] one content for all members of a fleet, such as keys.
//
// Tickets are sealed with AES-256-GCM under a key derived (RFC 5869) from the configured
// key, or from the identity's keytab. Who can write to the storage can delete tickets,
// but neither swap nor prolong them; who can read it does not learn whose they are.
//
// A storage that fails is not used for a while, and one that hangs blocks a bounded
// number of goroutines: requests are never delayed for more than the second that the
// cache waits. Begin with [New].
package ticketstore
