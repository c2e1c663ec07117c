//go:build !windows

package secretfile

import "os"

func open(path string) (*os.File, error) { return os.Open(path) }

// busy is false: files are not locked while another program writes them.
func busy(error) bool { return false }

// grantRemedy is for a file that Caddy's user may not read.
const grantRemedy = "let that user own it, mode 0600"

// Readable returns how other users may read the file, nil if they may not or if there is no such
// file.
func Readable(path string) *Exposure {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return &Exposure{Mode: info.Mode().Perm().String(), Remedy: "chmod 600 FILE"}
}
