package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// KDCOptions are options of the sockets that are used with KDCs. An option that
// the operating system lacks is rejected when the configuration is loaded.
type KDCOptions struct {
	// Local address, `HOST` or `HOST:PORT`, to send from. Default: the system's choice.
	LocalAddress string `json:"local_address,omitempty"`

	// The only IP version to use, 4 or 6. Default: both.
	IPVersion int `json:"ip_version,omitempty"`

	// Differentiated services code point of sent packets, 0 to 63. Default: the system's.
	DSCP int `json:"dscp,omitempty"`

	// Forbid fragmentation of sent packets. Default: the system's choice.
	DontFragment bool `json:"dont_fragment,omitempty"`

	// Receive buffer of the sockets, in bytes. Default: the system's.
	ReadBuffer int `json:"read_buffer,omitempty"`

	// Send buffer of the sockets, in bytes. Default: the system's.
	WriteBuffer int `json:"write_buffer,omitempty"`

	// The largest reply that is accepted from a KDC, in bytes. Default: 1 MiB.
	MaxReplySize int `json:"max_reply_size,omitempty"`

	// Requests larger than this many bytes are sent over TCP first. Default: 1465.
	UDPPreferenceLimit int `json:"udp_preference_limit,omitempty"`

	// URL of a proxy, `socks5://` or `http://`, through which KDCs are reached over
	// TCP and HTTPS. `{env.X}` and `{file./abs}` are allowed, for the whole URL or a
	// part; a literal password causes a warning. Characters that separate the parts of
	// URLs are written percent-encoded in user and password. Default: none.
	Proxy string `json:"proxy,omitempty"`

	// Path of a PEM file of the CAs that are trusted for HTTPS KDCs. Default: the system's.
	TLSCA string `json:"tls_ca,omitempty"`

	// Path of a PEM file of the CAs that may sign a KDC's certificate, for `certificate`
	// and `fast_armor anonymous`. Default: the system's, which sign web servers'
	// certificates rather than KDCs'.
	PKINITCA string `json:"pkinit_ca,omitempty"`

	// The server that changes passwords, `host` or `host:port`, for `rotate_password`.
	// Default: krb5.conf's `kpasswd_server` or `admin_server`, then DNS SRV records
	// (`_kpasswd`), then port 464 of the KDCs.
	KpasswdServer string `json:"kpasswd_server,omitempty"`

	// Path of the PEM client certificate for HTTPS KDCs. Default: none.
	TLSClientCert string `json:"tls_client_cert,omitempty"`

	// Path of the PEM key of `tls_client_cert`.
	TLSClientKey string `json:"tls_client_key,omitempty"`
}

// parse returns the options that need no file; those of nil are the defaults.
func (o *KDCOptions) parse() (kdc.Options, error) {
	if o == nil {
		return kdc.Options{}, nil
	}
	options := kdc.Options{
		LocalAddress: o.LocalAddress, IPVersion: o.IPVersion, DSCP: o.DSCP, DontFragment: o.DontFragment,
		ReadBuffer: o.ReadBuffer, WriteBuffer: o.WriteBuffer, MaxReplySize: o.MaxReplySize, UDPPreferenceLimit: o.UDPPreferenceLimit,
	}
	if (o.TLSClientCert == "") != (o.TLSClientKey == "") {
		return options, errors.New("tls_client_cert: set both the certificate and its key")
	}
	err := checkSecretPlaceholders(o.Proxy)
	if err == nil && !strings.Contains(o.Proxy, "{") {
		options.Proxy, err = parseProxy(o.Proxy)
	}
	if err != nil {
		return options, fmt.Errorf("proxy: %w", err)
	}
	if err := options.Check(); !errors.Is(err, kdc.ErrUnsupported) {
		return options, err
	}
	return options, nil // another system may support it
}

// parseProxy parses the URL of a proxy; nil if there is none.
func parseProxy(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil { // it quotes the whole URL, which may have a password
		return nil, errors.New("not a URL; write socks5://host:port or http://host:port, and other characters than letters and digits in a password as %XX")
	}
	return u, nil
}

// hasLiteralPassword reports whether a password is written out in the URL of a proxy.
func hasLiteralPassword(proxy string) bool {
	_, rest, _ := strings.Cut(proxy, "://")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return false
	}
	_, password, _ := strings.Cut(rest[:at], ":")
	return password != "" && Literal(password)
}

// resolve adds to the parsed options the value of placeholders and the certificates of
// the files.
func (o *KDCOptions) resolve(options *kdc.Options, logger *zap.Logger) error {
	if o == nil {
		return options.Check()
	}
	proxy, err := ExpandSecret(o.Proxy)
	if err == nil {
		options.Proxy, err = parseProxy(proxy)
	}
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if err := options.Check(); err != nil {
		return err
	}
	if hasLiteralPassword(o.Proxy) {
		logger.Warn("plaintext password of the proxy to the KDCs in the configuration: anyone who can read the configuration or the admin API can read it; " +
			"use kdc_options proxy socks5://user:{env.NAME}@host:port")
	}
	if o.TLSCA != "" {
		options.RootCAs = x509.NewCertPool()
		if err := addCertificates(options.RootCAs, o.TLSCA, o.TLSCA); err != nil {
			return fmt.Errorf("tls_ca: %w", err)
		}
	}
	if o.TLSClientCert != "" {
		cert, err := tls.LoadX509KeyPair(o.TLSClientCert, o.TLSClientKey)
		if err != nil {
			return fmt.Errorf("tls_client_cert: %w", err)
		}
		options.ClientCertificates = []tls.Certificate{cert}
	}
	return nil
}

// parseServers parses addresses of KDCs.
func parseServers(addresses []string) ([]kdc.Server, error) {
	servers := make([]kdc.Server, 0, len(addresses))
	for _, address := range addresses {
		s, err := kdc.ParseServer(address)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}
