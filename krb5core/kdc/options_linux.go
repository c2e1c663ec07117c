package kdc

import "golang.org/x/sys/unix"

const (
	systemName      = "Linux"
	hasDSCP         = true
	hasDontFragment = true
	dscpRemedy      = ""
)

// dontFragmentV4 and dontFragmentV6 are the options that forbid fragments.
var (
	dontFragmentV4 = sockopt{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO}
	dontFragmentV6 = sockopt{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO}
)
