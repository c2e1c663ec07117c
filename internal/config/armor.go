package config

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// resolveArmor reads the armor's file, so that mistakes show early, and returns what
// makes armor; nil without fast_armor.
func (c *Credentials) resolveArmor(r *Resolved, env *Env) (*krb5core.Armor, error) {
	f := c.FASTArmor
	switch {
	case f == nil:
		return nil, nil
	case f.Anonymous:
		return krb5core.AnonymousArmor(), nil
	case f.CCache != "":
		return c.resolveCCacheArmor(r, env)
	}
	var principal messages.Principal
	if f.Principal != "" {
		var err error
		if principal, err = krb5core.ParseUser(f.Principal, r.Realms.UserForm("", r.Realms.DefaultRealm())); err != nil {
			return nil, err
		}
	}
	path, _, err := r.readKeytab(f.Keytab, &principal, "name one of them after the file")
	if err != nil {
		return nil, err
	}
	warnOfReadable(env.logger, "fast_armor", path)
	return negotiate.KeytabArmor(path, principal), nil
}

// resolveCCacheArmor opens the armor's cache, which may be filled later if it is not a file.
func (c *Credentials) resolveCCacheArmor(r *Resolved, env *Env) (*krb5core.Armor, error) {
	source, err := c.openCCache(c.FASTArmor.CCache, r, env)
	if err != nil {
		return nil, err
	}
	ctx, cancel := r.readContext()
	defer cancel()
	cache, err := source.Read(ctx, messages.Principal{})
	switch {
	case err == nil:
		warnOfReadable(env.logger, "fast_armor", strings.TrimPrefix(cache.Name, "DIR::"))
	case !source.Late():
		return nil, err
	default:
		env.logger.Warn("credential cache of fast_armor cannot be used yet: logins fail until it is filled", zap.Stringer("path", source), zap.Error(err))
	}
	return ccacheArmor(source), nil
}

func ccacheArmor(source ccache.Source) *krb5core.Armor {
	return krb5core.CCacheArmor(func(ctx context.Context, realm string) (*messages.Credential, error) {
		cache, err := source.Read(ctx, messages.Principal{})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", negotiate.ErrCCache, err)
		}
		tgt := cache.TGT(realm, time.Now().Add(cache.KDCOffset))
		if tgt == nil {
			return nil, fmt.Errorf("%w %s: no valid ticket-granting ticket for %s; fill it again (kinit -k -c %[2]s)",
				negotiate.ErrCCache, source, realm)
		}
		return tgt, nil
	})
}
