package negotiate

import (
	"errors"
	"fmt"
)

// The errors of a request that is answered without asking a KDC or an upstream.
var (
	// ErrMethodRefused is returned for methods whose response repeats the request's
	// header, and with it the token.
	ErrMethodRefused = errors.New("TRACE and TRACK echo the request, and with it the token")
	// ErrSPNNotAllowed is returned for a service that allow_spns does not list.
	ErrSPNNotAllowed = errors.New("the service is not among allow_spns")
	// ErrUserMissing is returned if impersonate evaluates to no name.
	ErrUserMissing = errors.New("impersonate yields no user: who is signed in?")
	// ErrUserDenied is returned for a user that allow_users and deny_users exclude.
	ErrUserDenied = errors.New("the user may not be impersonated by allow_users and deny_users")
	// ErrAccountUnknown is an ErrUserDenied for a user whose account deny_users needs to
	// know.
	ErrAccountUnknown = fmt.Errorf("%w: no key of ours opens the user's ticket, which names the account", ErrUserDenied)
	// ErrUpstreamName is returned for an upstream whose address is not a host name,
	// so that no service principal follows from it.
	ErrUpstreamName = errors.New("the upstream's address is no host name: set spn HTTP/host")
	// ErrNoBinding is returned for a connection without a channel binding where one
	// is required.
	ErrNoBinding = errors.New("the connection offers nothing to bind the token to")
)

// UserError is an error about one user, with the name as the user signed in: logs
// show it, responses do not.
type UserError struct {
	Name string
	Err  error
}

func (e *UserError) Error() string { return e.Err.Error() }
func (e *UserError) Unwrap() error { return e.Err }
