// Package kpasswd changes the password of an account: version 1 of the protocol of RFC 3244, in
// which the client proves its present password by a ticket for kadmin/changepw, and sends the new
// one in a KRB-PRIV.
//
// An [Exchange] is without I/O. It makes a request for each connection ([Exchange.Request]), and
// reads the reply to any of them ([Exchange.Result]). A reply counts only if its AP-REP and its
// KRB-PRIV are encrypted with keys that the server learnt from the ticket. A KRB-ERROR takes their
// place where the server could not read the request; anyone can forge one.
//
// A password may be changed although no reply comes. So a caller that sends an Exchange is not done
// before it has logged in with one of the two passwords.
//
// Left out: version 0xff80, by which an administrator sets the password of another account.
//
// Begin with New.
package kpasswd
