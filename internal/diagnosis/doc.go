// Package diagnosis maps errors to what clients and operators see of them: an HTTP
// status, the word of {http.negotiate.error}, the causes that `caddy kerberos check`
// reports, and a remedy.
//
// It is data: one ordered table for errors ([Of]) and one for refusals by upstreams
// ([OfRefusal]), which requests, the log and `check` share. Begin with rules.go.
//
// An error that names one cause of several is not always enough. What `check` learns
// beyond the error narrows the causes in evidence.go.
package diagnosis
