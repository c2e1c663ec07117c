package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
)

const (
	// rotateEvery is the age of `rotate_password` without an argument.
	rotateEvery = 30 * 24 * time.Hour
	// rotateSeldom is the least age that causes no warning: domains have a least age of a day.
	rotateSeldom = 2 * 24 * time.Hour
	// rotateAhead is the share of the age at which the password is changed before it is reached.
	rotateAhead = 10
)

// readRotatePassword reads `rotate_password [EVERY]`.
func (c *Credentials) readRotatePassword(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() == 0 {
		c.RotatePassword = caddy.Duration(rotateEvery)
		return nil
	}
	return ReadDuration(&c.RotatePassword)(d)
}

// checkRotation makes sure that a password that is to be changed can be written.
func (c *Credentials) checkRotation() error {
	switch {
	case c.RotatePassword == 0:
		return nil
	case c.RotatePassword < 0:
		return fmt.Errorf("%s: must not be negative; leave it out for never", time.Duration(c.RotatePassword))
	case c.Keytab == "" && c.PasswordFile == "":
		return errors.New("there is no file to write the new password to: log in with password_file FILE or keytab FILE")
	}
	return nil
}

// resolveRotation sets when the password is changed, and where. It is changed when nine tenths of its
// age are over, so that there is time for failures.
func (c *Credentials) resolveRotation(r *Resolved, env *Env) {
	every := time.Duration(c.RotatePassword)
	if every == 0 {
		return
	}
	r.Passwords = r.Realms.passwordFinder(r.Principal.Realm, r.passwordServers, r.Finder)
	if every < rotateSeldom {
		env.logger.Warn("the password is changed often: domains have a least age of passwords, usually a day, and each change has to reach all KDCs",
			zap.Stringer("principal", r.Principal), zap.Duration("rotate_password", every))
	}
}

// passwordServers returns the server that changes passwords, if one is named.
func (o *KDCOptions) passwordServers() ([]kdc.Server, error) {
	if o == nil || o.KpasswdServer == "" {
		return nil, nil
	}
	s, err := parsePasswordServer(o.KpasswdServer)
	if err != nil {
		return nil, fmt.Errorf("kpasswd_server: %w", err)
	}
	return []kdc.Server{s}, nil
}

// parsePasswordServer reads HOST[:PORT].
func parsePasswordServer(text string) (kdc.Server, error) {
	s, err := kdc.ParseServer(text)
	switch {
	case err != nil:
		return s, err
	case s.Scheme == kdc.SchemeHTTPS:
		return s, fmt.Errorf("%s: passwords are not changed through a KDC proxy; write host or host:port", text)
	case s.Port == kdc.DefaultPort && !strings.HasSuffix(text, fmt.Sprintf(":%d", kdc.DefaultPort)):
		s.Port = kpasswd.Port
	}
	return s, nil
}

// passwordFinder returns what finds the servers that change passwords in the own realm: the named ones,
// those of krb5.conf (kpasswd_server, else the hosts of admin_server), those of the DNS, and port 464
// of the KDCs.
func (r *RealmConfig) passwordFinder(own string, named []kdc.Server, kdcs kdc.Finder) kdc.Finder {
	if len(named) > 0 {
		return kdc.Static{own: named}
	}
	conf := r.conf.Realms[own]
	var servers []kdc.Server
	for _, text := range conf.KpasswdServers {
		if s, err := parsePasswordServer(text); err == nil {
			servers = append(servers, s)
		}
	}
	for _, text := range conf.AdminServers {
		if s, err := kdc.ParseServer(text); err == nil && len(conf.KpasswdServers) == 0 {
			s.Port = kpasswd.Port
			servers = append(servers, s)
		}
	}
	if len(servers) > 0 {
		return kdc.Static{own: servers}
	}
	if r.srv == nil {
		return passwordPorts{kdcs}
	}
	return kdc.First(kdc.NewSRV(kdc.SRVConfig{Service: "kpasswd"}), passwordPorts{kdcs})
}

// passwordPorts are the servers that change passwords on the hosts of KDCs.
type passwordPorts struct{ kdcs kdc.Finder }

func (p passwordPorts) KDCs(ctx context.Context, realm string) ([]kdc.Server, error) {
	found, err := p.kdcs.KDCs(ctx, realm)
	if err != nil {
		return nil, err
	}
	var servers []kdc.Server
	for _, s := range found {
		if s.Scheme != kdc.SchemeHTTPS {
			s.Port = kpasswd.Port
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("realm %s: its KDCs are reached through a proxy, which changes no passwords: set kdc_options kpasswd_server", realm)
	}
	return servers, nil
}
