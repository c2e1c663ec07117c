//go:build !windows

package secretfile

import (
	"os"
	"path/filepath"
	"strings"
)

func open(path string) (*os.File, error) { return os.Open(path) }

// busy is false: files are not locked while another program writes them.
func busy(error) bool { return false }

// grantRemedy is for a file that Caddy's user may not read.
const grantRemedy = "let that user own it, mode 0600"

// Readable returns how users may read the file that its secret is not for, nil if none may or if there
// is no such file: everyone, or a group if the file is our own, so that we could change that. A file of
// another owner, usually root's, is readable for a group so that we can read it. What systemd hands
// to a unit (CREDENTIALS_DIRECTORY) is for its user only, by an access list that the mode does not show.
func Readable(path string) *Exposure {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	if abs, err := filepath.Abs(path); err == nil && folder != "" && strings.HasPrefix(abs, filepath.Clean(folder)+"/") {
		return nil
	}
	mode := info.Mode().Perm()
	if mode&0o007 == 0 && (mode&0o070 == 0 || !ours(info)) {
		return nil
	}
	return &Exposure{Mode: mode.String(), Remedy: "chmod 600 FILE"}
}
