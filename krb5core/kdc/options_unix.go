//go:build linux || darwin

package kdc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

type sockopt struct{ level, name, value int }

// setSocketOptions sets the options on a socket that is not yet connected.
func setSocketOptions(fd uintptr, v6, udp bool, o Options) error {
	set := func(option string, s sockopt) error {
		if err := unix.SetsockoptInt(int(fd), s.level, s.name, s.value); err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
		return nil
	}
	// The code point is the upper six bits of the byte (RFC 2474, Section 3).
	dscp, dontFragment := sockopt{unix.IPPROTO_IP, unix.IP_TOS, o.DSCP << 2}, dontFragmentV4
	if v6 {
		dscp, dontFragment = sockopt{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, o.DSCP << 2}, dontFragmentV6
	}
	if o.DSCP != 0 {
		if err := set("dscp", dscp); err != nil {
			return err
		}
	}
	if o.DontFragment && udp {
		if err := set("dont_fragment", dontFragment); err != nil {
			return err
		}
	}
	if o.fixedPort() {
		return set("local_address", sockopt{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	return nil
}
