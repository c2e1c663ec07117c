// Package logging writes what happens to Caddy's log: the events of identities
// ([Events]), requests that are not authenticated ([Failure], [Refusal]), and the messages
// and decisions of exchanges with KDCs ([Tracer], with the packet file of `trace packets`).
//
// Messages are constant; data is in fields, which [Fields] lists. No key, password,
// ticket or token is logged at any level.
package logging
