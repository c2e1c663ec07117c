package kdc

import "golang.org/x/sys/unix"

const (
	systemName      = "macOS"
	hasDSCP         = true
	hasDontFragment = true
	dscpRemedy      = ""

	// ipDontFrag is IP_DONTFRAG of netinet/in.h, since macOS 11.
	ipDontFrag = 28
)

// dontFragmentV4 and dontFragmentV6 are the options that forbid fragments.
var (
	dontFragmentV4 = sockopt{unix.IPPROTO_IP, ipDontFrag, 1}
	dontFragmentV6 = sockopt{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1}
)
