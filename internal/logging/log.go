package logging

import (
	"errors"
	"net/http"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// The fields of the log, without those of `trace`.
const (
	fieldIdentity   = "identity"       // the identity's name, or its principal
	fieldPrincipal  = "principal"      // the account
	fieldConfigured = "configured"     // the account's name in the configuration
	fieldRealm      = "realm"          // whose KDC was asked
	fieldSPN        = "spn"            // the service
	fieldUserID     = "user_id"        // the user to impersonate, by the name that the access log has
	fieldEType      = "etype"          // of the session key
	fieldExpires    = "ticket_expires" // when the ticket ends
	fieldDuration   = "duration"       // how long it took to get the ticket
	fieldKDC        = "kdc"            // the KDC that replied
	fieldKRBError   = "krb_error"      // the Kerberos error, by its registered name
	fieldNTStatus   = "nt_status"      // what Windows says beside it
	fieldSalt       = "salt"           // the KDC's salt of the password
	fieldNotBefore  = "not_before"     // no login, or change of the password, is attempted until then
	fieldNextChange = "next_change"    // when the password is changed next
	fieldPath       = "path"           // file of the credentials
	fieldChanged    = "changed"        // whether another password was held before
	fieldResult     = "result"         // as in {http.negotiate.error}
	fieldReason     = "reason"         // the upstream's, for its refusal; why a client's token is refused
	fieldClientIP   = "client_ip"      // of a client that signs in
	fieldKVNO       = "kvno"           // version of the key that a ticket is encrypted with
	fieldOffset     = "offset"         // a client's clock, or an upstream's, minus ours
	fieldRemedy     = "remedy"         // what to do
	fieldStack      = "stack"          // of a panic
)

var fields = []string{
	fieldIdentity, fieldPrincipal, fieldConfigured, fieldRealm, fieldSPN, fieldUserID, fieldEType, fieldExpires, fieldDuration, fieldKDC,
	fieldKRBError, fieldNTStatus, fieldSalt, fieldNotBefore, fieldNextChange, fieldPath, fieldChanged, fieldResult, fieldReason,
	fieldClientIP, fieldKVNO, fieldOffset, fieldRemedy, fieldStack,
}

// Fields lists the names of the log's fields, without those of `trace` and Caddy's own.
func Fields() []string { return slices.Clone(fields) }

// Logger is that of the `kerberos` app. An identity outlives the configuration that it
// was created for, and its logger: it asks for the current one each time.
func Logger() *zap.Logger { return caddy.Log().Named("kerberos") }

// Events returns a function that logs the events of the principal's identity.
func Events(principal messages.Principal) func(negotiate.Event) { return events(principal, Logger) }

func events(principal messages.Principal, logger func() *zap.Logger) func(negotiate.Event) {
	who := zap.String(fieldPrincipal, principal.String())
	if len(principal.Name.NameString) == 0 { // not known before the credential cache is filled
		who = zap.Skip()
	}
	return func(e negotiate.Event) {
		log := logger()
		switch e := e.(type) {
		case negotiate.LoggedIn:
			log.Info("logged in", credentialFields(e.Principal, e.Credential, e.Credential.Key.EType(), zap.Duration(fieldDuration, e.Took))...)
		case negotiate.NameCorrected:
			log.Info("the KDC knows the account by another name than the configured one",
				zap.String(fieldConfigured, e.Configured.String()), zap.String(fieldPrincipal, e.Principal.String()))
		case negotiate.LoginFailed:
			more := []zap.Field{zap.String(fieldPrincipal, e.Principal.String())}
			if !e.Opened.IsZero() {
				more = append(more, zap.Time(fieldNotBefore, e.Opened))
			}
			log.Error("cannot log in", ErrorFields(e.Err, more...)...)
		case negotiate.GotTicket:
			if c := log.Check(zapcore.DebugLevel, "got a service ticket"); c != nil {
				c.Write(credentialFields(e.Credential.Client, e.Credential, e.EType, zap.Duration(fieldDuration, e.Took))...)
			}
		case negotiate.TicketFailed:
			log.Error("cannot get a service ticket", ErrorFields(e.Err, zap.String(fieldPrincipal, e.Principal.String()), zap.String(fieldSPN, e.SPN.String()))...)
		case negotiate.AcceptorClockOff:
			log.Warn("the upstream's clock is off: its tokens have its time from now on, so that it accepts them",
				zap.String(fieldPrincipal, e.Principal.String()), zap.String(fieldSPN, e.SPN.String()), zap.Duration(fieldOffset, e.Offset),
				zap.String(fieldRemedy, diagnosis.RemedyUpstreamClock))
		case negotiate.FetchPanicked:
			// The only place where the stack is logged.
			log.Error("getting a ticket panicked", ErrorFields(e.Err, who, zap.ByteString(fieldStack, e.Err.Stack))...)
		case negotiate.PurgeFailed:
			log.Warn("Windows did not forget a ticket", zap.String(fieldSPN, e.SPN.String()), zap.Error(e.Err),
				zap.String(fieldRemedy, "forget the tickets of Caddy's logon session: klist purge, as the account that Caddy runs as (klist -li 0x3e7 purge for LocalSystem, 0x3e4 for NetworkService)"))
		case negotiate.SecretChanged:
			log.Info("credentials have changed", who, zap.String(fieldPath, e.Path))
		case negotiate.SecretBroken:
			log.Warn("credentials cannot be read again; what was read before stays in use", who, zap.String(fieldPath, e.Path), zap.Error(e.Err))
		case negotiate.PasswordRead:
			log.Info("read the password of the managed account", who, zap.String(fieldKDC, e.Server), zap.Bool(fieldChanged, e.Changed))
		case negotiate.PasswordUnread:
			log.Warn("the password of the managed account cannot be read again; what was read before stays in use", ErrorFields(e.Err, who)...)
		case negotiate.RenewFailed:
			log.Warn("cannot renew the ticket of the credential cache; it stays in use until it ends",
				ErrorFields(e.Err, zap.String(fieldPath, e.Path), zap.Time(fieldExpires, e.Ends))...)
		case negotiate.SecretStale:
			log.Warn("new credentials are refused; the old ones stay in use", ErrorFields(e.Err, who, zap.String(fieldPath, e.Path))...)
		}
	}
}

func credentialFields(principal messages.Principal, c *messages.Credential, etype enctype.ID, more ...zap.Field) []zap.Field {
	return append([]zap.Field{
		zap.String(fieldPrincipal, principal.String()),
		zap.String(fieldRealm, c.Service.Realm),
		zap.String(fieldSPN, c.Service.Name.String()),
		zap.Stringer(fieldEType, etype),
		zap.Time(fieldExpires, c.EndTime),
	}, more...)
}

// ErrorFields describes an error, with its remedy at the end.
func ErrorFields(err error, more ...zap.Field) []zap.Field {
	all := append([]zap.Field{zap.Error(err)}, more...)
	if fail, ok := errors.AsType[*krb5core.Error](err); ok {
		all = append(all, zap.String(fieldRealm, fail.Realm))
		if fail.KDC != "" {
			all = append(all, zap.String(fieldKDC, fail.KDC))
		}
		if fail.Refused {
			all = append(all, zap.Stringer(fieldKRBError, fail.Code))
		}
		if fail.Status != 0 {
			all = append(all, zap.Stringer(fieldNTStatus, fail.Status))
		}
		if fail.HasSalt {
			all = append(all, zap.String(fieldSalt, fail.Salt))
		}
	}
	if remedy := diagnosis.Of(err).Remedy; remedy != "" {
		all = append(all, zap.String(fieldRemedy, remedy))
	}
	return all
}

// Failure logs why a request got no token; at debug level if an event of the identity has said the
// same. Only this line has the user that it was refused to.
func Failure(log *zap.Logger, identity string, spn negotiate.SPN, d diagnosis.Diagnosis, err error) {
	level := zapcore.WarnLevel
	if d.Status < http.StatusInternalServerError {
		level = zapcore.InfoLevel
	}
	user, byUser := errors.AsType[*negotiate.UserError](err)
	if negotiate.Reported(err) && (!byUser || d.Status >= http.StatusInternalServerError) {
		level = zapcore.DebugLevel
	}
	if c := log.Check(level, "request not authenticated"); c != nil {
		more := []zap.Field{zap.String(fieldIdentity, identity), zap.String(fieldSPN, spn.String()), zap.String(fieldResult, string(d.Word))}
		if byUser {
			more = append(more, zap.String(fieldUserID, user.Name))
		}
		c.Write(ErrorFields(err, more...)...)
	}
}

// Refusal logs that an upstream refused a token: at debug level if the request is
// repeated, else as a warning.
func Refusal(log *zap.Logger, identity string, spn negotiate.SPN, ticket *negotiate.Ticket, v negotiate.Verdict, repeating bool) {
	level, message := zapcore.WarnLevel, "upstream refuses the token"
	if repeating {
		level, message = zapcore.DebugLevel, "token refused, repeating the request"
	}
	if c := log.Check(level, message); c != nil {
		all := []zap.Field{
			zap.String(fieldIdentity, identity), zap.String(fieldSPN, spn.String()),
			zap.Time(fieldExpires, ticket.End()), zap.String(fieldRemedy, diagnosis.OfRefusal(v).Remedy),
		}
		if v.Error != nil {
			all = append(all, zap.Stringer(fieldKRBError, v.Error.Code()), zap.NamedError(fieldReason, v.Error))
		}
		c.Write(all...)
	}
}
