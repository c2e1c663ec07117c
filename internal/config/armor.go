package config

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// resolve reads the armor's file, so that mistakes show early, and returns what
// makes armor; nil without fast_armor.
func (f *FASTArmor) resolve(r *Resolved, logger *zap.Logger) (armor *krb5core.Armor, err error) {
	var path string
	switch {
	case f == nil:
		return nil, nil
	case f.CCache != "":
		path, _, err = readCCache(f.CCache)
		armor = ccacheArmor(path)
	default:
		var principal messages.Principal
		if f.Principal != "" {
			if principal, err = krb5core.ParseUser(f.Principal, r.Realms.UserForm("", r.Realms.DefaultRealm())); err != nil {
				return nil, err
			}
		}
		path, _, err = r.readKeytab(f.Keytab, &principal, "name one of them after the file")
		armor = negotiate.KeytabArmor(path, principal)
	}
	if err != nil {
		return nil, err
	}
	warnOfReadable(logger, "fast_armor", path)
	return armor, nil
}

func ccacheArmor(path string) *krb5core.Armor {
	return krb5core.CCacheArmor(func(realm string) (*messages.Credential, error) {
		file, err := negotiate.ReadCCache(path)
		if err != nil {
			return nil, fmt.Errorf("%w %w", negotiate.ErrCCache, err)
		}
		tgt := file.TGT(realm, time.Now().Add(file.KDCOffset))
		if tgt == nil {
			return nil, fmt.Errorf("%w %s: no valid ticket-granting ticket for %s; fill it again (kinit -k -c %s)",
				negotiate.ErrCCache, path, realm, path)
		}
		return tgt, nil
	})
}
