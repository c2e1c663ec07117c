package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Credentials are the account to log in with, and how the KDCs of its realm are
// reached. They are part of a `negotiate` block, of a `transport negotiate` block,
// or of an `identity` of the global `kerberos` option, with the same meaning in
// each.
//
// Exactly one of `keytab`, `password`, `password_file`, `ccache`, `certificate` and
// `platform` is required, also beside `gmsa`.
type Credentials struct {
	// The account: `name@REALM`, `REALM/name`, `REALM\name`, or a UPN. With an
	// `@`, or if `realm` is set, a `/` belongs to the principal
	// (`HTTP/proxy.corp.example@CORP.EXAMPLE`). Without `realm`, the text after the
	// `@` is the realm, in capitals; if `realm` is set to another value, the whole
	// name is a UPN and is looked up in that realm. `{env.X}` and `{file./abs}` are
	// the only placeholders. Default: the principal of the keytab, ccache or
	// certificate, if it has only one.
	User string `json:"user,omitempty"`

	// The realm, if `user` names none or is a UPN with another suffix.
	// Default: from `user`, else `default_realm` of krb5.conf.
	Realm string `json:"realm,omitempty"`

	// Path of a keytab file with the account's keys. It is read again when it changes.
	Keytab string `json:"keytab,omitempty"`

	// The account's password. Use `{env.X}` or `{file./abs}`: a literal password
	// can be read in Caddy's configuration and causes a warning.
	Password string `json:"password,omitempty"`

	// Path of a file that holds the account's password and nothing else; one line
	// break at its end is ignored. It is read again when it changes.
	PasswordFile string `json:"password_file,omitempty"`

	// A credential cache that another program keeps filled, for instance `kinit` or
	// SSSD: a path, `FILE:path`, `DIR:folder`, `KCM:[NAME]` (SSSD's or Heimdal's daemon),
	// `KEYRING:persistent:UID`, `KEYRING:user:NAME` or `KEYRING:session:NAME` (Linux), or
	// `default`: the environment variable KRB5CCNAME, else krb5.conf's
	// `default_ccache_name`, else the system's. It is only read. A change is noticed
	// within 10 seconds. If the cache then has another principal than `user`, the tickets
	// that are held stay in use; without `user`, the new principal is used. Of a
	// collection (DIR, KCM, KEYRING), the cache of `user` is used, without `user` the
	// primary one.
	CCache string `json:"ccache,omitempty"`

	// A certificate to log in with (PKINIT). There is no fallback to another kind of
	// login.
	Certificate *Certificate `json:"certificate,omitempty"`

	// The group managed service account to log in as. The rest of the credentials, usually
	// this machine's keytab, is the account that reads its password. Default: the
	// credentials' own account logs in.
	GMSA *GMSA `json:"gmsa,omitempty"`

	// Change the account's own password (kpasswd, RFC 3244) before it is this old, and
	// write the new one to `password_file` or `keytab`. The age is that of the file.
	// The account must be Caddy's alone. All Caddys that use it must share the file, or
	// Caddy's storage and `ticket_store storage KEY`; else only one may have this.
	// Default: never.
	RotatePassword caddy.Duration `json:"rotate_password,omitempty"`

	// Use the tickets that Windows has for the account that Caddy runs as (SSPI, package
	// Kerberos): a service's domain account, a group managed service account, the machine's
	// account. No secret is configured. Only on Windows, and only with `timeout` beside it.
	// Default: `false`.
	Platform bool `json:"platform,omitempty"`

	// The realm's KDCs in order of preference: `host`, `host:port`, `tcp/host`,
	// `udp/host`, `https://host/KdcProxy`. Without one that speaks TCP, forged
	// datagrams are detected less reliably. Default: those of the `realm` block,
	// of krb5.conf, then of DNS SRV records.
	KDC []string `json:"kdc,omitempty"`

	// Send requests to KDCs over TCP only. Default: UDP first, and TCP at once if a
	// reply is too big for UDP.
	UseTCP bool `json:"use_tcp,omitempty"`

	// Permitted encryption types in order of preference, by their IANA names or
	// MIT's aliases. Default: aes256-cts-hmac-sha1-96,
	// aes128-cts-hmac-sha1-96, aes256-cts-hmac-sha384-192,
	// aes128-cts-hmac-sha256-128, camellia256-cts-cmac, camellia128-cts-cmac.
	EncryptionTypes []string `json:"encryption_types,omitempty"`

	// Permits the weak types (rc4-hmac, des3-cbc-sha1, des-cbc-md5, des-cbc-crc)
	// that `encryption_types` names. Default: `false`.
	AllowWeakCrypto bool `json:"allow_weak_crypto,omitempty"`

	// Ask the KDC to return the account's own name, as Windows does (RFC 6806): upstreams
	// and `{http.negotiate.principal}` then see the directory's spelling, and the KDC may
	// name the realm that the account is in. Some KDCs do not know the account otherwise.
	// Default: `canonicalize` of krb5.conf if it is set there, else `true`. It cannot be
	// set with `ccache`.
	Canonicalize *bool `json:"canonicalize,omitempty"`

	// How long it may take to get one ticket, all exchanges and KDCs together.
	// Default: `10s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Path of a krb5.conf to take realms, KDCs and limits from. Default: none,
	// but the system's is read if it exists and no `kdc` is set.
	//
	// It is used where Caddy's configuration has no setting of its own: from
	// `[libdefaults]` `default_realm`, `permitted_enctypes` (as a limit on the strong
	// types), `request_timeout` or `kdc_timeout`, `ticket_lifetime`, `clockskew`,
	// `canonicalize`, `udp_preference_limit`, `dns_lookup_kdc`, `default_ccache_name`,
	// `kcm_socket`; from `[realms]` `kdc`,
	// `primary_kdc`, `http_anchors`, `sitename`; `[domain_realm]` and `[capaths]`.
	// The rest is ignored, for example `allow_weak_crypto` (set it here),
	// `default_tkt_enctypes`, `forwardable` and the resolving of host names.
	Krb5Conf string `json:"krb5_conf,omitempty"`

	// Options of the sockets that are used with KDCs.
	KDCOptions *KDCOptions `json:"kdc_options,omitempty"`

	// Protects the login with another account's ticket (FAST). Default: none.
	FASTArmor *FASTArmor `json:"fast_armor,omitempty"`

	// Log in, in the background, when Caddy starts, so that a wrong password
	// shows at once. It never delays or fails the start. An identity that only
	// `negotiate_auth` uses does not log in. Default: `true`.
	LoginAtStart *bool `json:"login_at_start,omitempty"`

	// Log every message to and from a KDC at debug level, decoded, each
	// ciphertext replaced by its length. Default: `false`.
	Trace bool `json:"trace,omitempty"`

	// Path of a file to which, with `trace`, the raw messages are appended too
	// (mode 0600; not through a symbolic link, not to a file of another owner), as
	// text that `text2pcap -D -t ISO -u 1088,88` converts to a capture for
	// Wireshark. It contains tickets: protect it like a keytab.
	TracePackets string `json:"trace_packets,omitempty"`
}

// FASTArmor names the ticket that protects the login: Kerberos armoring, FAST
// (RFC 6113). With it, unprotected requests are not sent and unprotected replies
// are not accepted: login at a KDC without FAST fails.
//
// Exactly one of `keytab`, `ccache` and `anonymous` is required.
type FASTArmor struct {
	// Path of a keytab, usually that of this machine. Its principal logs in
	// without armor, and its ticket protects the account's login. It is read again
	// whenever such a ticket is needed.
	Keytab string `json:"keytab,omitempty"`

	// The keytab's principal to use. Default: the only one.
	Principal string `json:"principal,omitempty"`

	// A credential cache that another program keeps filled, in place of a keytab. It is
	// named as in the `ccache` of the credentials.
	CCache string `json:"ccache,omitempty"`

	// Get the ticket without an account, by anonymous PKINIT: the KDC proves by its
	// certificate who it is (`pkinit_ca`). Default: `false`.
	Anonymous bool `json:"anonymous,omitempty"`
}

// Check checks what the text alone shows: it opens no file and reads no
// environment variable.
func (c *Credentials) Check() error { return c.parse(new(Resolved)) }

// parse sets what the text alone determines.
func (c *Credentials) parse(r *Resolved) (err error) {
	err = cmp.Or(c.checkSecrets(), c.checkPlatform(), Setting("user", checkSecretPlaceholders(c.User)), Setting("password", checkSecretPlaceholders(c.Password)))
	if err != nil {
		return err
	}
	if r.ETypes, err = c.encryptionTypes(); err != nil {
		return Setting("encryption_types", err)
	}
	if r.Servers, err = parseServers(c.KDC); err != nil {
		return Setting("kdc", err)
	}
	if r.Timeout = time.Duration(c.Timeout); r.Timeout < 0 {
		return Setting("timeout", fmt.Errorf("%s: must not be negative; leave it out for 10s", r.Timeout))
	}
	if c.CCache != "" && c.Canonicalize != nil {
		return Setting("canonicalize", errors.New("does not apply to ccache, whose tickets name their client; remove it"))
	}
	if c.TracePackets != "" && !c.Trace {
		return Setting("trace_packets", errors.New("requires \"trace\": true"))
	}
	if r.Sockets, err = c.KDCOptions.parse(); err != nil {
		return Setting("kdc_options", err)
	}
	if r.passwordServers, err = c.KDCOptions.passwordServers(); err != nil {
		return Setting("kdc_options", err)
	}
	if err := c.checkRotation(); err != nil {
		return Setting("rotate_password", err)
	}
	if err := checkCCacheName(c.CCache); err != nil {
		return Setting("ccache", err)
	}
	if err := c.Certificate.check(); err != nil {
		return Setting("certificate", err)
	}
	if err := c.GMSA.check(); err != nil {
		return Setting("gmsa", err)
	}
	return Setting("fast_armor", c.FASTArmor.check())
}

// checkCCacheName rejects names of caches that cannot be read.
func checkCCacheName(name string) error {
	if name == "" || name == defaultCCache {
		return nil
	}
	_, err := ccache.Open(name, ccache.Options{})
	return err
}

// checkSecrets makes sure that exactly one secret is set.
func (c *Credentials) checkSecrets() error {
	var set []string
	for _, s := range []struct{ name, value string }{
		{"keytab", c.Keytab},
		{"password", c.Password},
		{"password_file", c.PasswordFile},
		{"ccache", c.CCache},
		{"certificate", c.Certificate.String()},
		{"platform", c.platform()},
	} {
		if s.value != "" {
			set = append(set, s.name)
		}
	}
	switch len(set) {
	case 1:
	case 0:
		return errors.New("nothing to log in with: set one of keytab FILE, password {env.NAME}, password_file FILE, ccache NAME, certificate CERT KEY or, on Windows, platform")
	default:
		return Setting(set[1], fmt.Errorf("%s is set too; keep one of them", set[0]))
	}
	if c.User == "" && (c.Password != "" || c.PasswordFile != "") {
		return errors.New("user is missing: name the account of the password, e.g. user svc-proxy@CORP.EXAMPLE")
	}
	return nil
}

// platform is a text that is not empty if platform is set.
func (c *Credentials) platform() string {
	if c.Platform {
		return "on"
	}
	return ""
}

// encryptionTypes returns the types of encryption_types in order of preference;
// nil if there are none.
func (c *Credentials) encryptionTypes() ([]enctype.ID, error) {
	var ids []enctype.ID
	for _, name := range c.EncryptionTypes {
		id, err := enctype.Parse(name)
		if err != nil {
			return nil, err
		}
		if id.Weak() && !c.AllowWeakCrypto {
			return nil, fmt.Errorf("%s is weak: remove it, or add allow_weak_crypto if the realm supports nothing better", id)
		}
		if slices.Contains(ids, id) {
			return nil, fmt.Errorf("%s is named twice", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// check makes sure that the armor has exactly one source; nil is valid.
func (f *FASTArmor) check() error {
	switch {
	case f == nil:
		return nil
	case f.Anonymous && (f.Keytab != "" || f.CCache != ""):
		return errors.New("anonymous armor needs no keytab and no ccache; keep one of them")
	case f.Anonymous:
		return RequireUnapproved("SHA-1 (RFC 4556, Section 3.2.1)", "set fast_armor keytab FILE")
	case f.Keytab != "" && f.CCache != "":
		return errors.New("keytab and ccache are both set; keep one of them")
	case f.CCache != "" && f.Principal != "":
		return errors.New("a ccache names its principal itself; leave the principal out")
	case f.Keytab == "" && f.CCache == "":
		return errors.New("nothing to protect the login with: set keytab FILE [PRINCIPAL], ccache NAME or anonymous")
	}
	return checkCCacheName(f.CCache)
}
