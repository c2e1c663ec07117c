//go:build !windows

package sspi

// Open returns ErrUnsupported.
func Open() (*Client, error) { return nil, ErrUnsupported }
