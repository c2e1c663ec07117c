//go:build !linux && !darwin && !windows

package kdc

import "runtime"

const (
	systemName      = runtime.GOOS
	hasDSCP         = false
	hasDontFragment = false
	dscpRemedy      = "leave it out, or mark the packets in the firewall"
)

// setSocketOptions has nothing to do: Check refuses what would need it.
func setSocketOptions(uintptr, bool, bool, Options) error { return nil }
