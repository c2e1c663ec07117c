package kdc

import (
	"fmt"

	"golang.org/x/sys/windows"
)

const (
	systemName = "Windows"
	// Windows ignores IP_TOS; only a policy marks packets there.
	hasDSCP         = false
	hasDontFragment = true
	dscpRemedy      = "set it by policy: New-NetQosPolicy with -DSCPAction"

	// IP_DONTFRAGMENT and IPV6_DONTFRAG of ws2ipdef.h.
	ipDontFragment = 14
	ipv6DontFrag   = 14
)

// setSocketOptions sets the options on a socket that is not yet connected.
func setSocketOptions(fd uintptr, v6, udp bool, o Options) error {
	if o.DontFragment && udp {
		level, name := windows.IPPROTO_IP, ipDontFragment
		if v6 {
			level, name = windows.IPPROTO_IPV6, ipv6DontFrag
		}
		if err := windows.SetsockoptInt(windows.Handle(fd), level, name, 1); err != nil {
			return fmt.Errorf("dont_fragment: %w", err)
		}
	}
	return nil
}
