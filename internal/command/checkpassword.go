package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

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
