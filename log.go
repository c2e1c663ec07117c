package caddynegotiate

import (
	"errors"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// observe logs what happens to an identity. The identity outlives the
// configuration that it was made for, so that the logger is asked for each time.
func observe(principal messages.Principal) func(negotiate.Event) {
	return func(e negotiate.Event) {
		logger := caddy.Log().Named("kerberos")
		switch e := e.(type) {
		case negotiate.LoggedIn:
			logger.Info("logged in", credentialFields(e.Credential, zap.Duration("duration", e.Took))...)
		case negotiate.LoginFailed:
			fields := errorFields(e.Err, zap.String("principal", e.Principal.String()))
			if !e.Opened.IsZero() {
				fields = append(fields, zap.Time("not_before", e.Opened))
			}
			logger.Error("cannot log in", fields...)
		case negotiate.TicketWon:
			if c := logger.Check(zapcore.DebugLevel, "got a service ticket"); c != nil {
				c.Write(credentialFields(e.Credential, zap.Duration("duration", e.Took))...)
			}
		case negotiate.TicketFailed:
			logger.Error("cannot get a service ticket",
				errorFields(e.Err, zap.String("principal", e.Principal.String()), zap.String("spn", e.SPN.String()))...)
		case negotiate.SecretChanged:
			logger.Info("credential file has changed", zap.String("principal", principal.String()), zap.String("path", e.Path))
		case negotiate.SecretBroken:
			logger.Warn("credential file has changed and cannot be used; what it held before serves on",
				zap.String("principal", principal.String()), zap.String("path", e.Path), zap.Error(e.Err))
		case negotiate.RenewFailed:
			logger.Warn("cannot renew the ticket of the credential cache; it serves until it ends",
				errorFields(e.Err, zap.String("path", e.Path), zap.Time("ticket_expires", e.Ends))...)
		case negotiate.SecretStale:
			logger.Warn("new credentials are refused; the old ones still serve",
				errorFields(e.Err, zap.String("principal", principal.String()), zap.String("path", e.Path))...)
		}
	}
}

func credentialFields(c *messages.Credential, more ...zap.Field) []zap.Field {
	return append([]zap.Field{
		zap.String("principal", c.Client.String()),
		zap.String("realm", c.Service.Realm),
		zap.String("spn", c.Service.Name.String()),
		zap.Stringer("etype", c.Key.EType()),
		zap.Time("ticket_expires", c.EndTime),
	}, more...)
}

// errorFields describes an error with its remedy.
func errorFields(err error, more ...zap.Field) []zap.Field {
	fields := append([]zap.Field{zap.Error(err)}, more...)
	if fail, ok := errors.AsType[*krb5core.Error](err); ok {
		fields = append(fields, zap.String("realm", fail.Realm))
		if fail.KDC != "" {
			fields = append(fields, zap.String("kdc", fail.KDC))
		}
		if fail.Refused {
			fields = append(fields, zap.Stringer("krb_error", fail.Code))
		}
		if fail.Status != 0 {
			fields = append(fields, zap.Stringer("nt_status", fail.Status))
		}
		if fail.HasSalt {
			fields = append(fields, zap.String("salt", fail.Salt))
		}
	}
	if remedy := diagnose(err).Remedy; remedy != "" {
		fields = append(fields, zap.String("remedy", remedy))
	}
	return fields
}

// logFailure logs why a request got no token.
func logFailure(logger *zap.Logger, out *outcome, err error) {
	level := zapcore.WarnLevel
	if out.trouble.Status < http.StatusInternalServerError {
		level = zapcore.InfoLevel
	}
	if c := logger.Check(level, "request not authenticated"); c != nil {
		fields := []zap.Field{zap.String("identity", out.identity), zap.String("spn", out.spn.String()), zap.String("result", out.trouble.Name)}
		if who, ok := errors.AsType[*userError](err); ok {
			fields = append(fields, zap.String("user_id", who.name))
		}
		c.Write(errorFields(err, fields...)...)
	}
}

// logRefusal logs that an upstream did not take a token.
func logRefusal(logger *zap.Logger, out *outcome, v negotiate.Verdict, message string, level zapcore.Level) {
	if c := logger.Check(level, message); c != nil {
		fields := []zap.Field{
			zap.String("identity", out.identity), zap.String("spn", out.spn.String()),
			zap.Time("ticket_expires", out.ticket.End()), zap.String("remedy", refusalRemedy(v)),
		}
		if v.Error != nil {
			fields = append(fields, zap.Stringer("krb_error", v.Error.Code()), zap.NamedError("reason", v.Error))
		}
		c.Write(fields...)
	}
}
