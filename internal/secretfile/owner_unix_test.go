//go:build unix

package secretfile

import (
	"io/fs"
	"syscall"
)

// owned reports whether a file has this owner and group.
func owned(info fs.FileInfo, uid, gid uint32) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Uid == uid && s.Gid == gid
}
