package kdc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	systemName      = "macOS"
	hasDSCP         = true
	hasDontFragment = true
	dscpRemedy      = ""

	// ipDontFrag is IP_DONTFRAG of netinet/in.h, since macOS 11.
	ipDontFrag = 28
)

// setSocketOptions sets the options on a socket that is not yet connected.
func setSocketOptions(fd uintptr, v6, udp bool, o Options) error {
	if o.DSCP != 0 {
		// The code point is the upper six bits of the octet (RFC 2474 section 3).
		level, name := unix.IPPROTO_IP, unix.IP_TOS
		if v6 {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		if err := unix.SetsockoptInt(int(fd), level, name, o.DSCP<<2); err != nil {
			return fmt.Errorf("dscp: %w", err)
		}
	}
	if o.DontFragment && udp {
		level, name := unix.IPPROTO_IP, ipDontFrag
		if v6 {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG
		}
		if err := unix.SetsockoptInt(int(fd), level, name, 1); err != nil {
			return fmt.Errorf("dont_fragment: %w", err)
		}
	}
	if o.fixedPort() {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("local_address: %w", err)
		}
	}
	return nil
}
