package kdc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The schemes of a [Server].
const (
	// SchemeAny is UDP, and TCP if UDP fails.
	SchemeAny = ""
	// SchemeUDP is UDP alone.
	SchemeUDP = "udp"
	// SchemeTCP is TCP alone.
	SchemeTCP = "tcp"
	// SchemeHTTPS is a KDC proxy, see [MS-KKDCP].
	SchemeHTTPS = "https"
)

// Protocol is how a message travelled.
type Protocol string

// The protocols.
const (
	UDP   Protocol = "udp"
	TCP   Protocol = "tcp"
	HTTPS Protocol = "https"
)

// The ports and the path of a KDC that names none: RFC 4120, Section 7.2 and
// [MS-KKDCP], Section 2.1.
const (
	DefaultPort      = 88
	DefaultHTTPSPort = 443
	DefaultPath      = "/KdcProxy"
)

// Server is a KDC, or a proxy of KDCs, as configuration or the DNS names it.
// Servers are comparable.
type Server struct {
	// Scheme is one of SchemeAny, SchemeUDP, SchemeTCP, SchemeHTTPS.
	Scheme string
	// Host is a DNS name or an IP address, the latter without brackets.
	Host string
	// Port is 1 to 65535.
	Port int
	// Path is the path of the URL, for SchemeHTTPS only. It begins with "/".
	Path string
}

// ParseServer reads a KDC as users write it: host, host:port, [v6]:port,
// tcp/host, udp/host (Heimdal's syntax) and https://host[:port][/path], whose
// path is /KdcProxy if it has none.
func ParseServer(s string) (Server, error) {
	if s == "" {
		return Server{}, fmt.Errorf("empty KDC: write host, host:port, tcp/host, udp/host or https://host/KdcProxy")
	}
	if strings.Contains(s, "://") {
		return parseURL(s)
	}
	srv, rest := Server{Port: DefaultPort}, s
	if scheme, after, ok := strings.Cut(s, "/"); ok {
		switch scheme = strings.ToLower(scheme); scheme {
		case SchemeUDP, SchemeTCP:
			srv.Scheme, rest = scheme, after
		case "http", SchemeHTTPS, "kkdcp":
			return Server{}, fmt.Errorf("KDC %q: a KDC proxy is written https://host%s", s, DefaultPath)
		default:
			return Server{}, fmt.Errorf("KDC %q: only tcp/ or udp/ may precede the host, and a path needs https://", s)
		}
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return Server{}, fmt.Errorf("KDC %q: %w", s, err)
	}
	srv.Host = host
	if port != 0 {
		srv.Port = port
	}
	return srv, nil
}

func parseURL(s string) (Server, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Server{}, fmt.Errorf("KDC %q is not a URL: write https://host%s", s, DefaultPath)
	}
	switch {
	case u.Scheme != SchemeHTTPS:
		return Server{}, fmt.Errorf("KDC %q: only https:// URLs are supported; for TCP or UDP write tcp/host or udp/host", s)
	case u.User != nil:
		return Server{}, fmt.Errorf("KDC %q: a KDC proxy takes no user name; use tls_client_cert if it requires authentication", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return Server{}, fmt.Errorf("KDC %q: write https://host%s, without request or fragment", s, DefaultPath)
	}
	host, port, err := splitHostPort(u.Host)
	if err != nil {
		return Server{}, fmt.Errorf("KDC %q: %w", s, err)
	}
	srv := Server{Scheme: SchemeHTTPS, Host: host, Port: port, Path: u.EscapedPath()}
	if port == 0 {
		srv.Port = DefaultHTTPSPort
	}
	if srv.Path == "" || srv.Path == "/" {
		srv.Path = DefaultPath
	}
	return srv, nil
}

// splitHostPort takes host, host:port, [v6], [v6]:port or a bare IPv6 address
// apart. The port is 0 if there is none.
func splitHostPort(s string) (host string, port int, err error) {
	host = s
	switch {
	case strings.HasPrefix(s, "["):
		inside, after, ok := strings.Cut(s[1:], "]")
		if !ok {
			return "", 0, fmt.Errorf("the bracket is not closed: write [v6-address]:port")
		}
		if addr, err := netip.ParseAddr(inside); err != nil || !addr.Is6() {
			return "", 0, fmt.Errorf("%q is not an IPv6 address, and brackets are for these only", inside)
		}
		if after == "" {
			return inside, 0, nil
		}
		if !strings.HasPrefix(after, ":") {
			return "", 0, fmt.Errorf("after the bracket only :port may follow, not %q", after)
		}
		port, err = parsePort(after[1:])
		return inside, port, err
	case strings.Count(s, ":") > 1:
		if _, err := netip.ParseAddr(s); err != nil {
			return "", 0, fmt.Errorf("%q is neither host:port nor an IPv6 address: write [v6-address]:port", s)
		}
		return s, 0, nil
	}
	if name, digits, ok := strings.Cut(s, ":"); ok {
		if port, err = parsePort(digits); err != nil {
			return "", 0, err
		}
		host = name
	}
	if host == "" {
		return "", 0, errors.New("the host is missing: write a DNS name or an IP address")
	}
	return host, port, messages.CheckHostName(host)
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return int(n), nil
}

// String writes the server as [ParseServer] reads it, without default ports.
func (s Server) String() string {
	if s.Scheme == SchemeHTTPS {
		return SchemeHTTPS + "://" + s.hostPort(DefaultHTTPSPort) + s.Path
	}
	text := s.hostPort(DefaultPort)
	if s.Scheme != SchemeAny {
		text = s.Scheme + "/" + text
	}
	return text
}

func (s Server) hostPort(defaultPort int) string {
	if s.Port != defaultPort && s.Port != 0 {
		return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	}
	if strings.Contains(s.Host, ":") {
		return "[" + s.Host + "]"
	}
	return s.Host
}

func (s Server) port() int {
	switch {
	case s.Port != 0:
		return s.Port
	case s.Scheme == SchemeHTTPS:
		return DefaultHTTPSPort
	}
	return DefaultPort
}

func (s Server) speaks(p Protocol) bool {
	if s.Scheme == SchemeAny {
		return p == UDP || p == TCP
	}
	return s.Scheme == string(p)
}
