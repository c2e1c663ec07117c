package gmsa

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Stage is how far the reading of a password came.
type Stage string

// The stages, in their order.
const (
	StageFind       Stage = "find a domain controller"
	StageConnect    Stage = "connect"
	StageTLS        Stage = "TLS"
	StageLogin      Stage = "ticket for LDAP"
	StageBind       Stage = "bind"
	StageSearch     Stage = "search"
	StageAccount    Stage = "account"    // no such account, or not a group managed one
	StagePermission Stage = "permission" // the reader may not read the password
	StagePassword   Stage = "password"   // the attribute cannot be parsed
)

// stages has the stages in their order.
var stages = []Stage{
	StageFind, StageConnect, StageTLS, StageLogin, StageBind, StageSearch, StageAccount, StagePermission, StagePassword,
}

// Stages lists the stages in their order.
func Stages() []Stage { return append([]Stage(nil), stages...) }

// Error is how a reading fails.
type Error struct {
	Stage  Stage
	Server string // host:port of the domain controller; empty if none was found
	Err    error
}

func (e *Error) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", e.Server, e.Stage)) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// The errors of an account.
var (
	errNoAccount  = errors.New("the directory has no such account")
	errNotManaged = errors.New("the account is not a group managed service account")
	errNotAllowed = errors.New("the directory does not show the password to this reader")
)

// ResultError is a result of LDAP other than success (RFC 4511, Section 4.1.9).
type ResultError struct {
	Code    int32
	Message string // the server's, shortened
}

func (e *ResultError) Error() string {
	return fmt.Sprintf("LDAP result %d (%s) %q", e.Code, cmp.Or(resultNames[e.Code], "unknown"), e.Message)
}

// The results that are spoken of (RFC 4511, Appendix A).
const (
	resultSuccess            = 0
	resultSASLBindInProgress = 14
	resultInvalidCredentials = 49
)

// resultNames are the names of results that domain controllers send.
var resultNames = map[int32]string{
	1: "operationsError", 2: "protocolError", 3: "timeLimitExceeded", 4: "sizeLimitExceeded", 7: "authMethodNotSupported",
	8: "strongerAuthRequired", 10: "referral", 12: "unavailableCriticalExtension", 13: "confidentialityRequired",
	resultSASLBindInProgress: "saslBindInProgress", 32: "noSuchObject", resultInvalidCredentials: "invalidCredentials",
	50: "insufficientAccessRights", 51: "busy", 52: "unavailable", 53: "unwillingToPerform", 80: "other",
}
