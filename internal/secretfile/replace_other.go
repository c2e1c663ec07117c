//go:build !unix

package secretfile

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: a file has the access that its folder grants.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// syncFolder does nothing: folders cannot be synchronized here.
func syncFolder(string) error { return nil }

// ours is true: owners are not known here.
func ours(fs.FileInfo) bool { return true }
