//go:build !linux

package kdctest

func reserve(address string) (string, func(), error) { return free(address) }
