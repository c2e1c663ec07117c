package kdc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	systemName      = "Linux"
	hasDSCP         = true
	hasDontFragment = true
	dscpRemedy      = ""
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
		level, name, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
		if v6 {
			level, name, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
		}
		if err := unix.SetsockoptInt(int(fd), level, name, value); err != nil {
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
