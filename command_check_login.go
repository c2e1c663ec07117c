package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkAccount checks everything up to the login, and tells whether there is one.
func (c *check) checkAccount(ctx context.Context, w *who) bool {
	if !c.checkFiles(w) {
		return false
	}
	servers := c.checkDiscovery(ctx, w)
	if len(servers) == 0 {
		return false
	}
	if !c.checkReach(ctx, w, servers) {
		return false
	}
	return c.checkLogin(ctx, w)
}

// checkFiles reads what the credentials name. What Caddy would warn of is a step too.
func (c *check) checkFiles(w *who) bool {
	logger := zap.New(warnCore{c})
	if err := w.read(c.doc.app, logger); err != nil {
		causes := []string{causeConfiguration}
		if weakOnly(w) {
			causes = []string{causeWeakKeys}
		}
		c.fail(stepFiles, err.Error(), "", causes...)
		return false
	}
	if err := w.prepare(); err != nil {
		c.fail(stepFiles, err.Error(), "", causeConfiguration)
		return false
	}
	kind, path := w.identity.Origin()
	switch {
	case kind == "keytab":
		c.ok(stepFiles, "keytab %s has %s of %s", path, keyList(w.identity.Keys()), w.identity.Principal())
	case path != "":
		c.ok(stepFiles, "%s %s of %s", kind, path, w.identity.Principal())
	default:
		c.ok(stepFiles, "password of %s", w.identity.Principal())
	}
	return true
}

// weakOnly tells whether a keytab has none but weak keys of the account.
func weakOnly(w *who) bool {
	if w.credentials.Keytab == "" {
		return false
	}
	file, err := negotiate.ReadKeytab(w.credentials.Keytab)
	if err != nil {
		return false
	}
	keys := file.Keys(w.principal)
	for _, e := range keys {
		if id := e.Key.EType(); id.Supported() && !id.Weak() {
			return false
		}
	}
	return len(keys) > 0
}

// keyList names the keys of each version: "aes256-cts-hmac-sha1-96 and
// aes128-cts-hmac-sha1-96 of version 3".
func keyList(keys []krb5core.HeldKey) string {
	var parts []string
	for i := 0; i < len(keys); {
		var types []string
		kvno := keys[i].KVNO
		for ; i < len(keys) && keys[i].KVNO == kvno; i++ {
			types = append(types, keys[i].EType.String())
		}
		parts = append(parts, fmt.Sprintf("version %d (%s)", kvno, strings.Join(types, ", ")))
	}
	return strings.Join(parts, ", ")
}

// checkLogin wins a ticket-granting ticket.
func (c *check) checkLogin(ctx context.Context, w *who) bool {
	c.progress("logging in as %s", w.identity.Principal())
	tgt, err := w.identity.Login(ctx, w.settings)
	if err != nil {
		c.tellLoginFailed(w, err)
		return false
	}
	cred := tgt.Credential()
	text := fmt.Sprintf("%s, until %s (%s)", cred.Client, cred.EndTime.Local().Format(time.DateTime), away(cred.EndTime, time.Now()))
	if key, ok := last[exchange.KeyChosen](w.probe); ok {
		text += fmt.Sprintf("; key %s", key.EType)
		if key.HasSalt {
			text += fmt.Sprintf(", salt %q", key.Salt)
		}
	}
	kvno, held := w.probe.kvno, w.newest(w.probe.etype)
	if kvno != 0 {
		text += fmt.Sprintf(", version %d", kvno)
	}
	if kvno != 0 && held != 0 && kvno != held {
		c.warn(stepLogin, fmt.Sprintf("%s; but the keytab says version %d", text, held),
			"logging in works all the same, but a service that takes the keytab for its own finds no key: export it again with the version that the KDC has", causeKeytabVersion)
		return true
	}
	c.ok(stepLogin, "%s", text)
	return true
}

// newest is the version of the newest key of the type, 0 if there is none.
func (w *who) newest(id enctype.ID) uint32 {
	for _, key := range w.identity.Keys() {
		if key.EType == id {
			return key.KVNO
		}
	}
	return 0
}

// tellLoginFailed says why there is no ticket-granting ticket.
func (c *check) tellLoginFailed(w *who, err error) {
	var (
		etypes   *exchange.ETypeError
		wrongKey *exchange.WrongKeyError
		far      *kdc.UnreachableError
	)
	// When a running Caddy would try again is of no interest here.
	if pause := (*negotiate.RefusedError)(nil); errors.As(err, &pause) {
		err = pause.Err
	}
	code, refused := krb5core.Code(err)
	switch {
	case errors.As(err, &wrongKey):
		c.tellWrongKey(w, err, wrongKey.KVNO)
	case refused && (code == messages.KDC_ERR_PREAUTH_FAILED || code == messages.KRB_AP_ERR_BAD_INTEGRITY):
		c.tellWrongKey(w, err, 0)
	case errors.As(err, &etypes), refused && code == messages.KDC_ERR_ETYPE_NOSUPP, errors.Is(err, exchange.ErrNoKey):
		causes := []string{causeEType}
		if weakOnly(w) {
			causes = []string{causeWeakKeys}
		}
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causes...)
	case refused && code == messages.KRB_AP_ERR_SKEW:
		c.fail(stepLogin, err.Error(), remedyClock, causeClock)
	case errors.As(err, &far):
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causeKDCDead)
	default:
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causeAccount)
	}
}

// tellWrongKey says why the KDC may not take the account's key. It does not say
// which version its own is of, unless it answered with it.
func (c *check) tellWrongKey(w *who, err error, kdcVersion uint32) {
	kind, path := w.identity.Origin()
	account := w.principal.Name.String()
	if kind != "keytab" {
		c.fail(stepLogin, err.Error(), fmt.Sprintf("the password of %s is wrong: set it right here, or anew at the KDC (AD: Set-ADAccountPassword %s -Reset; MIT: kadmin cpw %s). "+
			"In a file, no space may stand around it", account, account, account), causeWrongPassword)
		return
	}
	salt := ""
	if key, ok := last[exchange.KeyChosen](w.probe); ok {
		salt = key.Salt
	}
	keys := w.identity.Keys()
	held := uint32(0)
	if len(keys) > 0 {
		held = keys[0].KVNO
	}
	export := fmt.Sprintf("export it again: AD: ktpass /princ %s /mapuser %s /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out %s; MIT: kadmin ktadd -k %s %s",
		w.principal, account, path, path, account)
	if kdcVersion != 0 && kdcVersion != held {
		c.fail(stepLogin, fmt.Sprintf("%v; the KDC's key is of version %d, the keytab's newest of version %d", err, kdcVersion, held),
			"the password was changed after the keytab was made: "+export, causeKeytabVersion)
		return
	}
	c.fail(stepLogin, fmt.Sprintf("%v; the keytab's newest key is of version %d", err, held),
		fmt.Sprintf("one of three, which the protocol does not tell apart:\n1. the password was changed after the keytab was made: compare version %d with the account's (AD: Get-ADUser %s -Properties msDS-KeyVersionNumber; "+
			"MIT: kadmin getprinc %s); if they differ, %s\n2. they agree, but the key was made with another salt than the KDC's %q, as after a renaming: "+
			"caddy kerberos keytab add %s --principal %s --kvno %d --salt %q\n3. it was made of another password: the same command, with the right one",
			held, account, account, export, salt, path, w.principal, held, salt),
		causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
}

// warnCore makes steps of what would be logged as a warning.
type warnCore struct{ *check }

func (warnCore) Enabled(level zapcore.Level) bool    { return level >= zapcore.WarnLevel }
func (w warnCore) With([]zapcore.Field) zapcore.Core { return w }
func (warnCore) Sync() error                         { return nil }
func (w warnCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, w)
}

// Write implements zapcore.Core.
func (w warnCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var text strings.Builder
	text.WriteString(e.Message)
	for _, f := range fields {
		switch f.Key {
		case "path", "mode", "error":
			enc := zapcore.NewMapObjectEncoder()
			f.AddTo(enc)
			fmt.Fprintf(&text, " (%s %v)", f.Key, enc.Fields[f.Key])
		}
	}
	w.warn(stepFiles, text.String(), "", causeFilePermissions)
	return nil
}
