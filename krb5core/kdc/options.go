package kdc

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Defaults and bounds of [Options].
const (
	DefaultMaxReplySize       = 1 << 20
	DefaultUDPPreferenceLimit = 1465

	minReplySize = 1 << 12
	maxReplySize = 1 << 30
	// maxDatagram is the payload of the largest IPv4 datagram.
	maxDatagram = 65507
	maxDSCP     = 63
)

// Options are the settings of the sockets to KDCs. The zero value is the
// system's.
type Options struct {
	// LocalAddress is the address to send from: an IP address, optionally
	// with a port. With a port there is one exchange at a time.
	LocalAddress string
	// IPVersion is 4 or 6 to use only one of them, 0 for both.
	IPVersion int
	// DSCP is the differentiated services code point (RFC 2474), 0 to 63.
	DSCP int
	// DontFragment forbids fragments of datagrams. What is too big for the
	// path then goes over TCP.
	DontFragment bool
	// ReadBuffer and WriteBuffer are the sockets' buffers in bytes; 0 leaves
	// them as they are.
	ReadBuffer, WriteBuffer int
	// MaxReplySize is the longest reply accepted, in bytes, 4096 to 2^30; 0
	// is DefaultMaxReplySize.
	MaxReplySize int
	// UDPPreferenceLimit is the longest message, in bytes, that tries UDP
	// first, 1 to 65507; 0 is DefaultUDPPreferenceLimit. With 1 all go over
	// TCP first.
	UDPPreferenceLimit int
	// Proxy is a socks5:// or http:// (CONNECT) URL through which TCP and
	// HTTPS go. UDP is not used then, and names of KDCs are resolved by the
	// proxy. A user and password in it are offered to the proxy.
	Proxy *url.URL
	// RootCAs are the certificate authorities of KDC proxies; nil is the system's.
	RootCAs *x509.CertPool
	// ClientCertificates are shown to a KDC proxy that asks for one.
	ClientCertificates []tls.Certificate
}

// Check refuses values out of range and options that this operating system
// lacks. Errors name the option as kdc_options spells it.
func (o Options) Check() error {
	for _, check := range []func() error{o.checkLocalAddress, o.checkRanges, o.checkProxy, o.checkSystem} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) checkRanges() error {
	if o.IPVersion != 0 && o.IPVersion != 4 && o.IPVersion != 6 {
		return fmt.Errorf("ip_version %d: must be 4 or 6; leave it out for both", o.IPVersion)
	}
	for _, r := range []struct {
		name             string
		value, low, high int
	}{
		{"dscp", o.DSCP, 0, maxDSCP},
		{"read_buffer", o.ReadBuffer, 0, maxReplySize},
		{"write_buffer", o.WriteBuffer, 0, maxReplySize},
		{"max_reply_size", o.maxReplySize(), minReplySize, maxReplySize},
		{"udp_preference_limit", o.udpPreferenceLimit(), 1, maxDatagram},
	} {
		if r.value < r.low || r.value > r.high {
			return fmt.Errorf("%s %d: must be from %d to %d", r.name, r.value, r.low, r.high)
		}
	}
	return nil
}

func (o Options) checkLocalAddress() error {
	local, err := o.local()
	if err != nil || !local.IsValid() {
		return err
	}
	if v := o.IPVersion; v == 4 && !local.Addr().Is4() || v == 6 && !local.Addr().Is6() {
		return fmt.Errorf("local_address %s is not of ip_version %d: drop one of the two", o.LocalAddress, v)
	}
	return nil
}

// checkProxy does not quote the URL: what url.Parse took for another part of it may
// be a password.
func (o Options) checkProxy() error {
	if o.Proxy == nil {
		return nil
	}
	switch strings.ToLower(o.Proxy.Scheme) {
	case "socks5", "socks5h", "http":
	default:
		return errors.New("proxy: must be socks5://host:port or http://host:port")
	}
	host, _, err := splitHostPort(o.Proxy.Host)
	if err != nil || host == "" {
		return errors.New("proxy: has no host or a bad port; write it socks5://host:port or http://host:port")
	}
	if o.Proxy.Path != "" && o.Proxy.Path != "/" || o.Proxy.RawQuery != "" || o.Proxy.Fragment != "" {
		return errors.New("proxy: takes no path, query or fragment; in a password write / ? # as %2F %3F %23")
	}
	return nil
}

func (o Options) checkSystem() error {
	if o.DSCP != 0 && !hasDSCP {
		return fmt.Errorf("dscp: %w by %s; %s", ErrUnsupported, systemName, dscpRemedy)
	}
	if o.DontFragment && !hasDontFragment {
		return fmt.Errorf("dont_fragment: %w by %s; leave it out, and lower udp_preference_limit if datagrams get lost", ErrUnsupported, systemName)
	}
	return nil
}

// local is LocalAddress as address and port, which is 0 if absent; zero without LocalAddress.
func (o Options) local() (netip.AddrPort, error) {
	if o.LocalAddress == "" {
		return netip.AddrPort{}, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(o.LocalAddress, "[]")); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(o.LocalAddress)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("local_address %q: must be an IP address of this machine, with or without a port, such as 192.0.2.1 or [2001:db8::1]:1088", o.LocalAddress)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// usable reports whether the address may be connected to: of the IP version that
// ip_version or local_address prescribe.
func (o Options) usable(addr netip.Addr) bool {
	local, _ := o.local()
	is4 := o.IPVersion == 4 || o.IPVersion == 0 && local.Addr().Is4()
	return o.IPVersion == 0 && !local.IsValid() || is4 == addr.Is4()
}

func (o Options) network() string {
	return map[int]string{0: "ip", 4: "ip4", 6: "ip6"}[o.IPVersion]
}

func (o Options) fixedPort() bool {
	local, _ := o.local()
	return local.Port() != 0
}

func (o Options) maxReplySize() int { return cmp.Or(o.MaxReplySize, DefaultMaxReplySize) }

func (o Options) udpPreferenceLimit() int {
	return cmp.Or(o.UDPPreferenceLimit, DefaultUDPPreferenceLimit)
}

// localAddr is the local end for net.Dialer, nil for the system's choice.
func (o Options) localAddr(network string) net.Addr {
	local, _ := o.local() // Check has refused what cannot be read
	if !local.IsValid() {
		return nil
	}
	if strings.HasPrefix(network, "udp") {
		return net.UDPAddrFromAddrPort(local)
	}
	return net.TCPAddrFromAddrPort(local)
}
