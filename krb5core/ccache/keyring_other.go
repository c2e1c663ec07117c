//go:build !linux

package ccache

import (
	"fmt"
	"runtime"
)

func openKeyring(rest string) (Source, error) {
	return nil, fmt.Errorf("KEYRING:%s: only Linux has keyrings, not %s; use a cache of type FILE, DIR or KCM", rest, runtime.GOOS)
}
