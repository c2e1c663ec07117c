package caddynegotiate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// Credentials says who we are, and how our realm's KDCs are reached. It stands
// in a `negotiate` block, a `transport negotiate` block or an `identity` of the
// global `kerberos` option, and means the same in each.
//
// Exactly one of `keytab`, `password`, `password_file` and `ccache` is needed.
type Credentials struct {
	// The account: `name@REALM`, `REALM/name`, `REALM\name`, or a UPN. With an
	// `@`, or with `realm` given, a `/` belongs to the principal
	// (`HTTP/proxy.corp.example@CORP.EXAMPLE`). Without `realm`, what follows the
	// `@` is the realm, in capitals; with a `realm` that differs from it, the
	// whole is a UPN and is asked of that realm. `{env.X}` and `{file./abs}` are
	// the only placeholders. Default: the principal of the keytab or ccache, if it
	// holds one only.
	User string `json:"user,omitempty"`

	// The realm, where `user` names none or is a UPN with another suffix.
	// Default: from `user`, else `default_realm` of krb5.conf.
	Realm string `json:"realm,omitempty"`

	// Path of a keytab file with the account's keys. It is read again when it changes.
	Keytab string `json:"keytab,omitempty"`

	// The account's password. Use `{env.X}` or `{file./abs}`: a literal password
	// stays readable in Caddy's configuration, and is warned of.
	Password string `json:"password,omitempty"`

	// Path of a file that holds the account's password and nothing else; one line
	// end at its end is ignored. It is read again when it changes.
	PasswordFile string `json:"password_file,omitempty"`

	// Path of a credential cache (FILE type) that somebody else keeps filled, for
	// instance `kinit` or SSSD. It is read again when it is replaced.
	CCache string `json:"ccache,omitempty"`

	// The realm's KDCs in order of preference: `host`, `host:port`, `tcp/host`,
	// `udp/host`, `https://host/KdcProxy`. Default: those of the `realm` block,
	// of krb5.conf, then of DNS SRV records.
	KDC []string `json:"kdc,omitempty"`

	// Ask KDCs by TCP only. Default: UDP first, and TCP at once where an answer
	// is too big for UDP.
	UseTCP bool `json:"use_tcp,omitempty"`

	// Encryption types that may be used, in order of preference, by their IANA
	// names or MIT's aliases. Default: aes256-cts-hmac-sha1-96,
	// aes128-cts-hmac-sha1-96, aes256-cts-hmac-sha384-192,
	// aes128-cts-hmac-sha256-128, camellia256-cts-cmac, camellia128-cts-cmac.
	EncryptionTypes []string `json:"encryption_types,omitempty"`

	// Permits the weak types (rc4-hmac, des3-cbc-sha1, des-cbc-md5, des-cbc-crc)
	// that `encryption_types` names. Default: `false`.
	AllowWeakCrypto bool `json:"allow_weak_crypto,omitempty"`

	// How long one acquisition of a ticket may take, all exchanges and KDCs
	// together. Default: `10s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Path of a krb5.conf to take realms, KDCs and limits from. Default: none,
	// but the system's is read if it exists and no `kdc` is given.
	//
	// What counts of it, where the configuration says nothing itself: of
	// `[libdefaults]` `default_realm`, `permitted_enctypes` (as a limit on the
	// strong types), `request_timeout` or `kdc_timeout`, `ticket_lifetime`,
	// `clockskew`, `canonicalize`, `udp_preference_limit`, `dns_lookup_kdc`; of
	// `[realms]` `kdc` in all its forms, `primary_kdc`, `http_anchors`,
	// `sitename`; `[domain_realm]` and `[capaths]`. What does not:
	// `allow_weak_crypto` (it must be stated here), `default_tkt_enctypes` and
	// `default_tgs_enctypes`, `forwardable`, `renew_lifetime`, `kdc_timesync`
	// (always on), and all that resolves host names (they are taken as they are
	// given).
	Krb5Conf string `json:"krb5_conf,omitempty"`

	// Settings of the sockets towards the KDCs.
	KDCOptions *KDCOptions `json:"kdc_options,omitempty"`

	// Protects the login with another account's ticket (FAST). Default: none.
	FASTArmor *FASTArmor `json:"fast_armor,omitempty"`

	// Log in, in the background, when Caddy starts, so that a wrong password
	// shows at once. It never delays or fails the start. Default: `true`.
	LoginAtStart *bool `json:"login_at_start,omitempty"`

	// Log every message to and from a KDC at debug level, decoded, each
	// ciphertext replaced by its length. Default: `false`.
	Trace bool `json:"trace,omitempty"`

	// Path of a file to which, with `trace`, the raw messages are appended too
	// (mode 0600), as text that `text2pcap -D -t ISO -u 1088,88` makes a capture
	// of for Wireshark. It holds tickets: treat it as you would a keytab.
	TracePackets string `json:"trace_packets,omitempty"`

	// Where each setting stands in the Caddyfile (`file:line`), so that errors
	// can say so. Filled in by the Caddyfile adapter.
	Origin Origin `json:"origin,omitempty"`
}

// KDCOptions are the settings of the sockets towards the KDCs. An option that
// the operating system lacks is refused when the configuration is loaded.
type KDCOptions struct {
	// Local address, `HOST` or `HOST:PORT`, to send from. Default: the system's choice.
	LocalAddress string `json:"local_address,omitempty"`

	// IP version, 4 or 6, to use alone. Default: both.
	IPVersion int `json:"ip_version,omitempty"`

	// Differentiated services code point, 0 to 63, of what is sent. Default: the system's.
	DSCP int `json:"dscp,omitempty"`

	// Forbid fragmentation of what is sent. Default: the system's choice.
	DontFragment bool `json:"dont_fragment,omitempty"`

	// Receive buffer of the sockets, in bytes. Default: the system's.
	ReadBuffer int `json:"read_buffer,omitempty"`

	// Send buffer of the sockets, in bytes. Default: the system's.
	WriteBuffer int `json:"write_buffer,omitempty"`

	// The largest answer that is accepted from a KDC, in bytes. Default: 1 MiB.
	MaxReplySize int `json:"max_reply_size,omitempty"`

	// Requests larger than this many bytes go by TCP from the start. Default: 1465.
	UDPPreferenceLimit int `json:"udp_preference_limit,omitempty"`

	// URL of a proxy, `socks5://` or `http://`, through which KDCs are reached by
	// TCP and HTTPS. Default: none.
	Proxy string `json:"proxy,omitempty"`

	// Path of a PEM file of authorities that may vouch for HTTPS KDCs. Default: the system's.
	TLSCA string `json:"tls_ca,omitempty"`

	// Path of the PEM certificate that we show to HTTPS KDCs. Default: none.
	TLSClientCert string `json:"tls_client_cert,omitempty"`

	// Path of the PEM key that belongs to `tls_client_cert`.
	TLSClientKey string `json:"tls_client_key,omitempty"`
}

// Origin maps the name of a setting to the place where it stands.
type Origin map[string]string

// blockOrigin stands in an Origin for the block as a whole, where what is missing
// would be.
const blockOrigin = "block"

// wrap puts the setting's place, or that of the block it should stand in, and its
// name before an error.
func (o Origin) wrap(setting string, err error) error {
	if err == nil {
		return nil
	}
	if at := o[setting]; at != "" {
		return fmt.Errorf("%s: %s: %w", at, setting, err)
	}
	return o.missing(fmt.Errorf("%s: %w", setting, err))
}

// missing puts the block's place before an error, if it is known.
func (o Origin) missing(err error) error {
	if at := o[blockOrigin]; at != "" {
		return fmt.Errorf("%s: %w", at, err)
	}
	return err
}

// validate checks what can be known without reading a file.
func (c *Credentials) validate() error {
	if err := c.checkSources(); err != nil {
		return err
	}
	if _, err := c.enctypes(); err != nil {
		return c.Origin.wrap("encryption_types", err)
	}
	if _, err := c.servers(); err != nil {
		return c.Origin.wrap("kdc", err)
	}
	if c.Timeout < 0 {
		return c.Origin.wrap("timeout", errors.New("a time span cannot be negative; leave it out for 10s"))
	}
	if c.TracePackets != "" && !c.Trace {
		return c.Origin.wrap("trace_packets", errors.New("needs \"trace\": true beside it"))
	}
	return nil
}

// checkSources makes sure that exactly one secret is named.
func (c *Credentials) checkSources() error {
	var given []string
	for _, s := range []struct{ name, value string }{
		{"keytab", c.Keytab}, {"password", c.Password}, {"password_file", c.PasswordFile}, {"ccache", c.CCache},
	} {
		if s.value != "" {
			given = append(given, s.name)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		return c.Origin.missing(errors.New("nothing to log in with: give one of keytab FILE, password {env.NAME}, password_file FILE or ccache FILE"))
	default:
		return c.Origin.wrap(given[1], fmt.Errorf("%s is given too; keep one of them", given[0]))
	}
	if c.User == "" && (c.Password != "" || c.PasswordFile != "") {
		return c.Origin.missing(errors.New("user is missing: say whose password it is, e.g. user svc-proxy@CORP.EXAMPLE"))
	}
	return nil
}

// enctypes gives the permitted encryption types in order of preference.
func (c *Credentials) enctypes() ([]enctype.ID, error) {
	if len(c.EncryptionTypes) == 0 {
		return enctype.Strong(), nil
	}
	var ids []enctype.ID
	for _, name := range c.EncryptionTypes {
		id, err := enctype.Parse(name)
		if err != nil {
			return nil, err
		}
		if err := checkApproved(id); err != nil {
			return nil, err
		}
		if id.Weak() && !c.AllowWeakCrypto {
			return nil, fmt.Errorf("%s is weak: remove it, or state allow_weak_crypto beside it if the realm has nothing better", id)
		}
		if slices.Contains(ids, id) {
			return nil, fmt.Errorf("%s is named twice", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// servers parses the addresses of the KDCs.
func (c *Credentials) servers() ([]kdc.Server, error) {
	return parseServers(c.KDC)
}

func parseServers(addresses []string) ([]kdc.Server, error) {
	servers := make([]kdc.Server, 0, len(addresses))
	for _, a := range addresses {
		s, err := kdc.ParseServer(a)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// secretPlaceholders replaces {env.X} and {file./abs} in a setting, and refuses
// every other placeholder: none is known when the configuration is loaded.
func secretPlaceholders(value string) (string, error) {
	if !strings.Contains(value, "{") {
		return value, nil
	}
	for i := range len(value) {
		if value[i] != '{' || i > 0 && value[i-1] == '\\' {
			continue
		}
		if after := value[i+1:]; !strings.HasPrefix(after, "env.") && !strings.HasPrefix(after, "file.") {
			return "", errors.New("only {env.NAME} and {file./absolute/path} may stand here; write a literal { as \\{")
		}
	}
	out, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%w; is the variable set, does the file exist?", err)
	}
	return out, nil
}

// hasPlaceholder tells whether a value is taken from somewhere else.
func hasPlaceholder(value string) bool {
	return strings.Contains(value, "{env.") || strings.Contains(value, "{file.")
}

// options translates the socket settings.
func (o *KDCOptions) options() (kdc.Options, error) {
	if o == nil {
		return kdc.Options{}, nil
	}
	opts := kdc.Options{
		LocalAddress:       o.LocalAddress,
		IPVersion:          o.IPVersion,
		DSCP:               o.DSCP,
		DontFragment:       o.DontFragment,
		ReadBuffer:         o.ReadBuffer,
		WriteBuffer:        o.WriteBuffer,
		MaxReplySize:       o.MaxReplySize,
		UDPPreferenceLimit: o.UDPPreferenceLimit,
	}
	if o.Proxy != "" {
		u, err := url.Parse(o.Proxy)
		if err != nil { // which quotes all of it, the password too
			return opts, errors.New("proxy: no URL; write socks5://host:port or http://host:port")
		}
		opts.Proxy = u
	}
	if o.TLSCA != "" {
		pem, err := os.ReadFile(o.TLSCA)
		if err != nil {
			return opts, fmt.Errorf("tls_ca: %w", err)
		}
		opts.RootCAs = x509.NewCertPool()
		if !opts.RootCAs.AppendCertsFromPEM(pem) {
			return opts, fmt.Errorf("tls_ca: %s holds no certificate in PEM", o.TLSCA)
		}
	}
	if o.TLSClientCert != "" || o.TLSClientKey != "" {
		cert, err := tls.LoadX509KeyPair(o.TLSClientCert, o.TLSClientKey)
		if err != nil {
			return opts, fmt.Errorf("tls_client_cert: %w", err)
		}
		opts.ClientCertificates = []tls.Certificate{cert}
	}
	return opts, nil
}
