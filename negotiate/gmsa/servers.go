package gmsa

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
)

// ParseServer reads ldaps://HOST or ldaps://HOST:PORT.
func ParseServer(text string) (Server, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return Server{}, fmt.Errorf("%q: write ldaps://dc1.corp.example", text)
	case u.Scheme == "ldap":
		return Server{}, fmt.Errorf("%q: passwords are read over TLS only: write ldaps://%s (port %d)", text, u.Hostname(), DefaultPort)
	case u.Scheme != "ldaps" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return Server{}, fmt.Errorf("%q: write ldaps://dc1.corp.example, with a port if need be, and nothing after it", text)
	}
	s := Server{Host: u.Hostname(), Port: DefaultPort}
	if _, err := netip.ParseAddr(s.Host); err == nil {
		return Server{}, fmt.Errorf("%q: an address has no service principal: name the domain controller", text)
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return Server{}, fmt.Errorf("%q: the port is not a number from 1 to 65535", text)
		}
		s.Port = int(n)
	}
	return s, nil
}
