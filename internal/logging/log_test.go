package logging

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func observed(t *testing.T) (*zap.Logger, func() observer.LoggedEntry) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), func() observer.LoggedEntry {
		t.Helper()
		all := logs.TakeAll()
		if len(all) != 1 {
			t.Fatalf("%d lines, want one", len(all))
		}
		for _, f := range all[0].Context {
			if f.Key != "error" && !slices.Contains(Fields(), f.Key) {
				t.Errorf("field %s is not listed", f.Key)
			}
		}
		return all[0]
	}
}

func TestFailure(t *testing.T) {
	log, last := observed(t)
	denied := &negotiate.UserError{Name: "alice", Err: negotiate.ErrUserDenied}
	Failure(log, "intranet", spn, diagnosis.Of(denied), denied)
	if e := last(); e.Level != zapcore.InfoLevel || e.ContextMap()["user_id"] != "alice" || e.ContextMap()["result"] != "user_denied" || e.ContextMap()["spn"] != spn.String() {
		t.Errorf("%+v", e)
	}
	refused := &krb5core.Error{
		Op: krb5core.OpLogin, Refused: true, Code: messages.KDC_ERR_CLIENT_REVOKED, Status: messages.STATUS_ACCOUNT_DISABLED,
		Realm: "CORP.EXAMPLE", KDC: "dc1", HasSalt: true, Salt: "s", Err: errors.New("refused"),
	}
	Failure(log, "intranet", spn, diagnosis.Of(refused), refused)
	e := last()
	if fields := e.ContextMap(); e.Level != zapcore.WarnLevel || fields["krb_error"] != "KDC_ERR_CLIENT_REVOKED" || fields["nt_status"] != "STATUS_ACCOUNT_DISABLED" ||
		fields["kdc"] != "dc1" || fields["realm"] != "CORP.EXAMPLE" || fields["salt"] != "s" || !strings.Contains(fields["remedy"].(string), "Enable-ADAccount") {
		t.Errorf("%+v", e)
	}
}

func TestRefusal(t *testing.T) {
	log, last := observed(t)
	v := negotiate.Verdict{Refused: true, Error: &messages.KRBError{ErrorCode: messages.KRB_AP_ERR_MODIFIED}}
	for repeating, level := range map[bool]zapcore.Level{true: zapcore.DebugLevel, false: zapcore.WarnLevel} {
		Refusal(log, "intranet", spn, ticket(t), v, repeating)
		if e := last(); e.Level != level || e.ContextMap()["krb_error"] != "KRB_AP_ERR_MODIFIED" || e.ContextMap()["remedy"] == "" || e.ContextMap()["reason"] == nil {
			t.Errorf("%+v", e)
		}
	}
}

var (
	spn, _ = negotiate.ParseSPN("HTTP/web.corp.example")
	who    = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"}
)

// ticket is a ticket that ends in an hour.
func ticket(t *testing.T) *negotiate.Ticket {
	t.Helper()
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{Key: "k", Principal: who, Secret: negotiate.PasswordSecret("x")})
	if err != nil {
		t.Fatal(err)
	}
	b, err := negotiate.StoredTicket(credential(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := id.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func credential(t *testing.T) *messages.Credential {
	t.Helper()
	key, err := enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &messages.Credential{Client: who, Service: who, Key: key, AuthTime: time.Now(), EndTime: time.Now().Add(time.Hour), Ticket: []byte{0}}
}

func TestEvents(t *testing.T) {
	log, last := observed(t)
	observe := events(who, func() *zap.Logger { return log })
	failure := errors.New("a failure")
	for _, x := range []struct {
		event   negotiate.Event
		level   zapcore.Level
		message string
		fields  []string
	}{
		{negotiate.LoggedIn{Credential: credential(t)}, zapcore.InfoLevel, "logged in", []string{"principal", "realm", "spn", "etype", "ticket_expires", "duration"}},
		{
			negotiate.NameCorrected{Configured: who, Principal: who},
			zapcore.InfoLevel,
			"the KDC knows the account by another name than the configured one",
			[]string{"configured", "principal"},
		},
		{negotiate.LoginFailed{Principal: who, Err: failure, Opened: time.Now()}, zapcore.ErrorLevel, "cannot log in", []string{"principal", "not_before", "remedy", "error"}},
		{negotiate.GotTicket{Credential: credential(t)}, zapcore.DebugLevel, "got a service ticket", []string{"principal", "spn", "duration"}},
		{negotiate.TicketFailed{Principal: who, Err: failure}, zapcore.ErrorLevel, "cannot get a service ticket", []string{"principal", "spn", "remedy", "error"}},
		{negotiate.SecretChanged{Path: "/p"}, zapcore.InfoLevel, "credentials have changed", []string{"principal", "path"}},
		{negotiate.SecretBroken{Path: "/p", Err: failure}, zapcore.WarnLevel, "credentials cannot be read again; what was read before stays in use", []string{"principal", "path", "error"}},
		{negotiate.SecretStale{Path: "/p", Err: failure}, zapcore.WarnLevel, "new credentials are refused; the old ones stay in use", []string{"principal", "path", "error", "remedy"}},
		{negotiate.RenewFailed{Path: "/p", Err: failure}, zapcore.WarnLevel, "cannot renew the ticket of the credential cache; it stays in use until it ends", []string{"path", "ticket_expires", "remedy"}},
		{negotiate.FetchPanicked{Principal: who, Err: &cache.PanicError{Value: "oops", Stack: []byte("goroutine 1")}}, zapcore.ErrorLevel, "getting a ticket panicked", []string{"principal", "stack", "remedy", "error"}},
	} {
		observe(x.event)
		e := last()
		if e.Level != x.level || e.Message != x.message {
			t.Errorf("%T: %s %q", x.event, e.Level, e.Message)
		}
		for _, field := range x.fields {
			if _, ok := e.ContextMap()[field]; !ok {
				t.Errorf("%T: no field %s in %v", x.event, field, e.ContextMap())
			}
		}
	}
}
