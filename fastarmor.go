package caddynegotiate

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// FASTArmor says with whose ticket the login is protected: Kerberos armoring, FAST (RFC 6113). With it nothing is sent or
// believed without: a KDC that does not know FAST is not logged in at.
//
// Exactly one of `keytab` and `ccache` is needed.
type FASTArmor struct {
	// Path of a keytab, as a rule that of the machine this runs on. Its principal logs in without armor, and its ticket
	// protects ours. It is read again whenever such a ticket is needed.
	Keytab string `json:"keytab,omitempty"`

	// Which principal of the keytab. Default: the only one.
	Principal string `json:"principal,omitempty"`

	// Path of a credential cache (FILE type) that somebody else keeps filled, in place of a keytab.
	CCache string `json:"ccache,omitempty"`
}

// path is that of the file.
func (f *FASTArmor) path() string {
	if f.Keytab != "" {
		return f.Keytab
	}
	path, _ := negotiate.CCachePath(f.CCache)
	return path
}

// armor reads what the armor is made of, to fail early, and gives it; nil without fast_armor.
func (c *Credentials) armor(known atlas) (*krb5core.Armor, error) {
	f := c.FASTArmor
	var (
		armor *krb5core.Armor
		err   error
	)
	switch {
	case f == nil:
		return nil, nil
	case f.Keytab != "" && f.CCache != "":
		err = errors.New("keytab and ccache are given; keep one of them")
	case f.Keytab != "":
		armor, err = c.keytabArmor(known)
	case f.CCache != "" && f.Principal != "":
		err = errors.New("a ccache says itself whose tickets it holds; leave the principal out")
	case f.CCache != "":
		armor, err = f.ccacheArmor()
	default:
		err = errors.New("nothing to protect the login with: give keytab FILE [PRINCIPAL] or ccache FILE")
	}
	return armor, c.Origin.wrap("fast_armor", err)
}

func (c *Credentials) keytabArmor(known atlas) (*krb5core.Armor, error) {
	path, err := filepath.Abs(c.FASTArmor.path())
	if err != nil {
		return nil, err
	}
	file, err := negotiate.ReadKeytab(path)
	if err != nil {
		return nil, err
	}
	var principal messages.Principal
	if name := c.FASTArmor.Principal; name != "" {
		principal, err = krb5core.ParseUser(name, krb5core.UserForm{Default: known.defaultRealm(), NetBIOS: known.netbios})
		if err != nil {
			return nil, err
		}
	} else {
		all := file.Principals()
		if len(all) != 1 {
			return nil, fmt.Errorf("%s: holds keys of %d principals; say after it which one is meant", path, len(all))
		}
		principal = all[0]
	}
	if err := c.checkKeytab(file, principal, known); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	clock := krb5core.NewClock(nil)
	return krb5core.KeytabArmor(func() (*krb5core.Account, error) {
		file, err := negotiate.ReadKeytab(path)
		if err != nil {
			return nil, err
		}
		keys, err := krb5core.KeytabKeys(file, principal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return krb5core.NewAccount(principal, keys, clock), nil
	}), nil
}

func (f *FASTArmor) ccacheArmor() (*krb5core.Armor, error) {
	if _, err := negotiate.CCachePath(f.CCache); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(f.path())
	if err != nil {
		return nil, err
	}
	if _, err := negotiate.ReadCCache(path); err != nil {
		return nil, err
	}
	return krb5core.CCacheArmor(func(realm string) (*messages.Credential, error) {
		file, err := negotiate.ReadCCache(path)
		if err != nil {
			return nil, fmt.Errorf("%w %w", negotiate.ErrCCache, err)
		}
		tgt := file.TGT(realm, time.Now().Add(file.KDCOffset))
		if tgt == nil {
			return nil, fmt.Errorf("%w %s: no ticket-granting ticket for %s that is still good; fill it again (kinit -k -c %s)",
				negotiate.ErrCCache, path, realm, path)
		}
		return tgt, nil
	}), nil
}

// readFASTArmor reads `fast_armor keytab FILE [PRINCIPAL]` and `fast_armor ccache FILE`.
func (c *Credentials) readFASTArmor(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 2 && args[0] == "keytab":
		c.FASTArmor = &FASTArmor{Keytab: args[1]}
	case len(args) == 3 && args[0] == "keytab":
		c.FASTArmor = &FASTArmor{Keytab: args[1], Principal: args[2]}
	case len(args) == 2 && args[0] == "ccache":
		c.FASTArmor = &FASTArmor{CCache: args[1]}
	default:
		return d.Err("fast_armor takes keytab FILE [PRINCIPAL], or ccache FILE")
	}
	return nil
}
