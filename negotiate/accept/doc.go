// Package accept verifies the tokens by which HTTP clients sign in with Kerberos (RFC 4559, RFC
// 4178, RFC 4121): it is the acceptor's side of what package negotiate does as an initiator.
//
// A token is one leg: the client's AP-REQ, in SPNEGO or bare, is judged by all of RFC 4120, Section
// 3.2.3, and the answer is final. An AP-REP goes back if mutual authentication was asked for. The
// ticket is returned as the evidence for constrained delegation ([MS-SFU], S4U2Proxy), and the
// account and its groups come from the PAC, if the domain issues one.
//
// Every refusal is an [*Error] with a [Reason], so that the caller can log the cause and answer in
// its own way. The replay cache ([Replays]) belongs to the key and not to the acceptor: an acceptor
// that is made again, as by a reload, refuses what the one before it accepted.
//
// [Ring] holds an account's keys over their changes: a key that was replaced opens tickets for a day.
//
// Left out: a second leg. A client that prefers another mechanism than Kerberos (RFC 4178, Section
// 5) would have to negotiate over the state of a connection; it is refused. User-to-user, DCE style
// and messages under the context's keys are left out too. A ticket-granting ticket that the client
// forwards is not kept.
//
// Begin with New and Acceptor.Accept.
package accept
