package config

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Readers returns what reads the subdirectives of credentials.
func (c *Credentials) Readers() Block {
	return Block{
		"user":              ReadString(&c.User),
		"realm":             ReadString(&c.Realm),
		"keytab":            ReadString(&c.Keytab),
		"password":          ReadString(&c.Password),
		"password_file":     ReadString(&c.PasswordFile),
		"ccache":            ReadString(&c.CCache),
		"rotate_password":   c.readRotatePassword,
		"certificate":       c.readCertificate,
		"platform":          ReadSwitch(&c.Platform),
		"gmsa":              c.readGMSA,
		"kdc":               ReadList(&c.KDC),
		"use_tcp":           ReadSwitch(&c.UseTCP),
		"encryption_types":  readCommaList(&c.EncryptionTypes),
		"allow_weak_crypto": ReadSwitch(&c.AllowWeakCrypto),
		"canonicalize":      readOptionalSwitch(&c.Canonicalize),
		"timeout":           ReadDuration(&c.Timeout),
		"krb5_conf":         ReadString(&c.Krb5Conf),
		"kdc_options":       c.readKDCOptions,
		"fast_armor":        c.readFASTArmor,
		"login_at_start":    readOptionalSwitch(&c.LoginAtStart),
		"trace":             c.readTrace,
	}
}

func (c *Credentials) readTrace(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0, len(args) == 1 && args[0] == "on":
		c.Trace = true
	case len(args) == 1 && args[0] == "off":
		c.Trace = false
	case len(args) == 2 && args[0] == "packets":
		c.Trace, c.TracePackets = true, args[1]
	default:
		return d.Err("trace takes on, off, packets FILE or no argument")
	}
	return nil
}

func (c *Credentials) readFASTArmor(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 2 && args[0] == "keytab":
		c.FASTArmor = &FASTArmor{Keytab: args[1]}
	case len(args) == 3 && args[0] == "keytab":
		c.FASTArmor = &FASTArmor{Keytab: args[1], Principal: args[2]}
	case len(args) == 2 && args[0] == "ccache":
		c.FASTArmor = &FASTArmor{CCache: args[1]}
	case len(args) == 1 && args[0] == "anonymous":
		c.FASTArmor = &FASTArmor{Anonymous: true}
	default:
		return d.Err("fast_armor takes keytab FILE [PRINCIPAL], ccache NAME, or anonymous")
	}
	return nil
}

func (c *Credentials) readKDCOptions(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.Err("kdc_options takes a block: kdc_options { ... }")
	}
	o := new(KDCOptions)
	c.KDCOptions = o
	bytes := func(to *int) Reader {
		return ReadSize(func(n int64) { *to = int(min(n, 1<<30)) })
	}
	return Block{
		"local_address":        ReadString(&o.LocalAddress),
		"ip_version":           readValue(o.readIPVersion),
		"dscp":                 readInt(&o.DSCP, 0, 63),
		"dont_fragment":        ReadSwitch(&o.DontFragment),
		"read_buffer":          bytes(&o.ReadBuffer),
		"write_buffer":         bytes(&o.WriteBuffer),
		"max_reply_size":       bytes(&o.MaxReplySize),
		"udp_preference_limit": readInt(&o.UDPPreferenceLimit, 1, 65507),
		"proxy":                ReadString(&o.Proxy),
		"tls_ca":               ReadString(&o.TLSCA),
		"pkinit_ca":            ReadString(&o.PKINITCA),
		"kpasswd_server":       ReadString(&o.KpasswdServer),
		"tls_client_cert": func(d *caddyfile.Dispenser) error {
			if !d.AllArgs(&o.TLSClientCert, &o.TLSClientKey) {
				return d.Err("tls_client_cert takes two values: CERT KEY")
			}
			return nil
		},
	}.Parse(d, NewPlaces(d))
}

func (o *KDCOptions) readIPVersion(name, value string) error {
	if value != "4" && value != "6" {
		return fmt.Errorf("%s takes 4 or 6; got %s", name, value)
	}
	o.IPVersion = int(value[0] - '0')
	return nil
}

// Readers returns what reads the subdirectives of a service.
func (s *Service) Readers() Block {
	return Block{
		"spn":           ReadString(&s.SPN),
		"allow_spns":    ReadList(&s.AllowSPNs),
		"mutual_auth":   readOneOf(&s.MutualAuth, "off", "on", "required"),
		"replay_buffer": ReadSize(func(n int64) { s.ReplayBuffer = &n }),
		"raw_kerberos":  ReadSwitch(&s.RawKerberos),
		"delegate":      s.readDelegate,
	}
}

func (s *Service) readDelegate(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
		s.Delegate = "marked"
	case len(args) == 1 && args[0] == "always":
		s.Delegate = "always"
	default:
		return d.Err("delegate takes always or no argument")
	}
	return nil
}

// Readers returns what reads the subdirectives of impersonation.
func (i *Impersonation) Readers() Block {
	return Block{
		"impersonate":       ReadString(&i.Impersonate),
		"trust_header":      ReadString(&i.TrustHeader),
		"user_realm":        ReadString(&i.UserRealm),
		"allow_users":       ReadList(&i.AllowUsers),
		"deny_users":        ReadList(&i.DenyUsers),
		"user_connections":  readInt(&i.UserConnections, 1, maxUserConnections),
		"share_connections": ReadSwitch(&i.ShareConnections),
	}
}

// Readers returns what reads the subdirectives of a realm.
func (r *Realm) Readers() Block {
	return Block{
		"kdc":     ReadList(&r.KDC),
		"domains": ReadList(&r.Domains),
		"netbios": ReadString(&r.NetBIOS),
		"site":    ReadString(&r.Site),
	}
}
