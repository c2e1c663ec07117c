package command

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// checkFiles reports what the files of the credentials contain. What the server would log as a
// warning is a step too.
func (c *check) checkFiles(a *checkedAccount) bool {
	for _, w := range a.warnings {
		cause := diagnosis.CauseConfiguration
		if _, ok := w.ContextMap()["mode"]; ok {
			cause = diagnosis.CauseFilePermissions
		}
		c.warn(stepFiles, warningText(w), "", cause)
	}
	if a.err != nil {
		cause := diagnosis.CauseConfiguration
		if errors.Is(a.err, config.ErrWeakKeys) {
			cause = diagnosis.CauseWeakKeys
		}
		c.fail(stepFiles, a.err.Error(), "", cause)
		return false
	}
	if missing := a.resolved.Missing; missing != nil {
		c.failAs(stepFiles, missing.Error(), diagnosis.Of(missing))
		return false
	}
	if a.reader != nil {
		return c.checkFiles(a.reader)
	}
	kind, path := a.identity().Origin()
	switch {
	case kind == negotiate.KindKeytab:
		c.ok(stepFiles, "keytab %s has %s of %s", path, keyList(a.identity().Keys()), a.resolved.Principal)
	case kind == negotiate.KindCertificate:
		return c.checkCertificate(a, path)
	case kind == negotiate.KindPlatform:
		c.ok(stepFiles, "no file: Windows has the tickets, of %s", a.resolved.Principal)
	case path != "":
		c.ok(stepFiles, "%s %s of %s", kind, path, a.resolved.Principal)
	default:
		c.ok(stepFiles, "password of %s", a.resolved.Principal)
	}
	return true
}

// checkCertificate reports the certificate to log in with. One that Caddy manages is known to the
// running Caddy only.
func (c *check) checkCertificate(a *checkedAccount, path string) bool {
	cert := a.identity().Certificate()
	if cert == nil {
		c.warn(stepFiles, fmt.Sprintf("certificate %s is managed by Caddy, and only the running Caddy has it: the login is not tried", path),
			"caddy kerberos identities shows the running Caddy's login", diagnosis.CauseClientCertificate)
		return false
	}
	text := fmt.Sprintf("certificate %s of %s: %q, issued by %q, until %s (%s)",
		path, a.resolved.Principal, cert.Subject, cert.Issuer, cert.NotAfter.Local().Format(time.DateTime), relativeTime(cert.NotAfter))
	switch now := time.Now(); {
	case now.After(cert.NotAfter):
		c.fail(stepFiles, text, "it has expired: renew it", diagnosis.CauseClientCertificate)
		return false
	case now.Add(certificateMargin).After(cert.NotAfter):
		c.warn(stepFiles, text, "it ends soon: renew it", diagnosis.CauseClientCertificate)
	default:
		c.ok(stepFiles, "%s", text)
	}
	return true
}

// certificateMargin is how long a certificate should last, at least.
const certificateMargin = 24 * time.Hour

// warningText appends to a log message the fields that name its object.
func warningText(w observer.LoggedEntry) string {
	text, fields := w.Message, w.ContextMap()
	for _, name := range []string{"path", "mode", "realm", "error"} {
		if value, ok := fields[name]; ok {
			text += fmt.Sprintf(" (%s %v)", name, value)
		}
	}
	return text
}

// keyList names the keys of each version, as in "version 3 (aes256-cts-hmac-sha1-96)".
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

// checkLogin gets a ticket-granting ticket.
func (c *check) checkLogin(ctx context.Context, a *checkedAccount) bool {
	c.waiting("logging in as %s", a.resolved.Principal)
	tgt, err := a.initiator.Login(ctx)
	if a.namelessForLogin(err) {
		c.warn(stepLogin, fmt.Sprintf("%s is no name to log in with, which negotiate_auth does not need: %v", a.resolved.Principal, err),
			"to have the keys checked, add --user NAME --password-file FILE", diagnosis.CauseAccount)
		return c.passwordFile != ""
	}
	if err != nil {
		c.reportLoginError(a, err)
		return false
	}
	cred := tgt.Credential()
	text := fmt.Sprintf("%s, until %s (%s)", a.resolved.Principal, cred.EndTime.Local().Format(time.DateTime), relativeTime(cred.EndTime))
	if !cred.Client.Equal(a.identity().Configured()) {
		text += fmt.Sprintf("; the KDC names the account %s", cred.Client)
	}
	key, kvno, etype := a.observer.login()
	if key.EType != 0 {
		text += fmt.Sprintf("; key %s", key.EType)
	}
	if key.HasSalt {
		text += fmt.Sprintf(", salt %q", key.Salt)
	}
	if kvno != 0 {
		text += fmt.Sprintf(", version %d", kvno)
	}
	if kdc := a.observer.certificate(); kdc != nil {
		text += fmt.Sprintf("; the KDC's certificate is %q, issued by %q, until %s",
			kdc.Certificate.Subject, kdc.Root.Subject, kdc.Certificate.NotAfter.Local().Format(time.DateTime))
		if kdc.Digest == crypto.SHA1 {
			c.warn(stepLogin, text, "the KDC signs with SHA-1, which is broken: update it, or configure it for SHA-256", diagnosis.CauseKDCCertificate)
			return true
		}
	}
	keys := a.identity().Keys() // the newest first
	newest := slices.IndexFunc(keys, func(k krb5core.HeldKey) bool { return k.EType == etype })
	if newest >= 0 && kvno != 0 && keys[newest].KVNO != 0 && keys[newest].KVNO != kvno {
		// The key is the right one, as the login has shown. Tickets that users bring have its version in them, but none come.
		text += fmt.Sprintf("; the keytab calls it version %d, which does not matter to a login", keys[newest].KVNO)
	}
	c.ok(stepLogin, "%s", text)
	return true
}

// reportLoginError reports why there is no ticket-granting ticket.
func (c *check) reportLoginError(a *checkedAccount, err error) {
	// When a running Caddy would try again does not matter here.
	if pause, ok := errors.AsType[*negotiate.RefusedError](err); ok {
		err = pause.Err
	}
	d, text := diagnosis.Of(err), err.Error()
	switch {
	case slices.Contains(d.Causes, diagnosis.CauseWrongPassword):
		e := a.keyEvidence(err)
		d = e.Narrow(d)
		if e.Kind == negotiate.KindKeytab {
			text += fmt.Sprintf("; the keytab's newest key has version %d", e.Held)
		}
		if e.KDC != 0 {
			text += fmt.Sprintf(", the KDC's version %d", e.KDC)
		}
	case d.Word == diagnosis.NoCommonEType && a.weakOnly():
		d.Causes = []diagnosis.Cause{diagnosis.CauseWeakKeys}
	}
	c.failAs(stepLogin, text, d)
}

// keyEvidence collects what is known of a refused key. The KDC names the version of its own key
// only in a reply that the key failed to decrypt.
func (a *checkedAccount) keyEvidence(err error) diagnosis.KeyEvidence {
	chosen, _, _ := a.observer.login()
	e := diagnosis.KeyEvidence{Principal: a.resolved.Principal, Salt: chosen.Salt}
	e.Kind, e.Path = a.identity().Origin()
	if keys := a.identity().Keys(); len(keys) > 0 {
		e.Held = keys[0].KVNO
	}
	if wrong, ok := errors.AsType[*exchange.WrongKeyError](err); ok {
		e.KDC = wrong.KVNO
	}
	return e
}

// checkManagedPassword reads the password of a group managed service account as the running Caddy
// does: the domain controllers, TLS, the bind, who may read, the password.
func (c *check) checkManagedPassword(ctx context.Context, a *checkedAccount) bool {
	account, reader := a.resolved.Principal, a.reader.resolved.Principal
	c.waiting("reading the password of %s", account)
	ctx, cancel := context.WithTimeout(ctx, a.initiator.Settings().Client.Timeout())
	defer cancel()
	servers, err := a.resolved.Directory.Servers(ctx)
	if err == nil {
		names := make([]string, len(servers))
		for i, s := range servers {
			names[i] = s.String()
		}
		c.ok(stepDirectory, "domain controllers of %s: %s", account.Realm, strings.Join(names, ", "))
	}
	r, err := a.initiator.Settings().Passwords.Read(ctx, account)
	if err != nil {
		if e, ok := errors.AsType[*negotiate.PasswordError](err); ok && slices.Index(gmsa.Stages(), e.Stage()) > slices.Index(gmsa.Stages(), gmsa.StageBind) {
			c.ok(stepDirectory, "TLS, and bind as %s", reader)
		}
		c.failAs(stepDirectory, err.Error(), diagnosis.Of(err))
		return false
	}
	c.ok(stepDirectory, "%s: %s, certificate %q; bind as %s, and the server proved itself",
		r.Server, tls.VersionName(r.TLS.Version), r.TLS.PeerCertificates[0].Subject, reader)
	until := time.Now().Add(r.Password.Query)
	text := fmt.Sprintf("%s may read the password of %s", reader, account)
	if !r.Set.IsZero() {
		text += ", which was set " + relativeTime(r.Set)
	}
	c.ok(stepDirectory, "%s; it changes %s (%s)", text, until.Local().Format(time.DateTime), relativeTime(until))
	return true
}
