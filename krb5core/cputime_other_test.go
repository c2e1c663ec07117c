//go:build !unix

package krb5core_test

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
