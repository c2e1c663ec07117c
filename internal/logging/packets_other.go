//go:build !unix

package logging

import (
	"errors"
	"io/fs"
	"os"
)

// openPackets opens the packet file for appending, or creates it. It does not follow a symbolic
// link.
func openPackets(path string) (*os.File, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := checkPacketFile(path, info); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// foreign is false: who owns a file is not among the information about it.
func foreign(fs.FileInfo) bool { return false }
