package logging

import (
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// SignedIn logs, at debug level, that a client has signed in.
func SignedIn(log *zap.Logger, identity string, user messages.Principal, ends time.Time) {
	if c := log.Check(zapcore.DebugLevel, "client signed in"); c != nil {
		c.Write(zap.String(fieldIdentity, identity), zap.String(fieldUserID, user.String()), zap.Time(fieldExpires, ends))
	}
}

// SignInDenied logs that a user who has proved who they are may not enter.
func SignInDenied(log *zap.Logger, identity string, user messages.Principal, err error) {
	if c := log.Check(zapcore.InfoLevel, "user may not enter"); c != nil {
		c.Write(zap.Error(err), zap.String(fieldIdentity, identity), zap.String(fieldUserID, user.String()),
			zap.String(fieldResult, string(diagnosis.Denied)))
	}
}

// SignInFailed logs why a client did not sign in: as information if it does not use Kerberos, else
// as a warning.
func SignInFailed(log *zap.Logger, identity string, client netip.Addr, d diagnosis.SignIn, err error) {
	level := zapcore.WarnLevel
	if d.Result == diagnosis.NotKerberos || d.Result == diagnosis.WithoutToken {
		level = zapcore.InfoLevel
	}
	c := log.Check(level, "client not signed in")
	if c == nil {
		return
	}
	all := []zap.Field{zap.String(fieldIdentity, identity), zap.Stringer(fieldClientIP, client), zap.String(fieldResult, string(d.Result))}
	e, ok := errors.AsType[*accept.Error](err)
	if !ok {
		c.Write(ErrorFields(err, all...)...)
		return
	}
	all = append([]zap.Field{zap.Error(err)}, append(all, zap.Stringer(fieldReason, e.Reason))...)
	if len(e.Service.Name.NameString) > 0 {
		all = append(all, zap.String(fieldSPN, e.Service.String()), zap.Stringer(fieldEType, e.EType), zap.Uint32(fieldKVNO, e.KVNO))
	}
	if !e.Client.IsZero() {
		all = append(all, zap.String(fieldUserID, e.Client.String()))
	}
	if e.Offset != 0 {
		all = append(all, zap.Duration(fieldOffset, e.Offset))
	}
	c.Write(append(all, zap.String(fieldRemedy, d.Remedy))...)
}
