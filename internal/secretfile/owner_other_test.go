//go:build !unix

package secretfile

import "io/fs"

func owned(fs.FileInfo, uint32, uint32) bool { return true }
