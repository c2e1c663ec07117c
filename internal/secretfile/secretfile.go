// Package secretfile reads the files that credentials come from: keytabs, passwords,
// credential caches. They are small, and what cannot be read gets an error with the remedy.
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrBusy is wrapped by the error of a file that another program has open for itself, as Windows
// allows: it can be read soon.
var ErrBusy = errors.New("another program has it open")

// Read reads a file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, explain(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: is a folder, not a file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, explain(path, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes: not the file that is meant?", path, limit)
	}
	return content, nil
}

// explain adds a remedy to the error of a file that cannot be read.
func explain(path string, err error) error {
	switch {
	case busy(err):
		return fmt.Errorf("%s: %w; it is read again when that is over", path, ErrBusy)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file; is the path right, and visible to the user that Caddy runs as? (%w)", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: not readable for the user that Caddy runs as; %s (%w)", path, grantRemedy, fs.ErrPermission)
	}
	return err
}

// Same reports whether a file is as it was. nil is a file that is not there.
func Same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// ErrUTF16 is of a file that Windows PowerShell has written, where UTF-8 is needed.
var ErrUTF16 = errors.New("is UTF-16, as Windows PowerShell's > writes; save it as UTF-8 (Set-Content -Encoding utf8)")

// IsUTF16 reports whether a text begins with the byte order mark of UTF-16.
func IsUTF16(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
}

// maxPassword bounds a file with a password, in bytes.
const maxPassword = 64 << 10

// ReadPassword reads a file that contains a password and nothing else, except for one
// line end after it.
func ReadPassword(path string) (string, error) {
	content, err := Read(path, maxPassword)
	if err != nil {
		return "", err
	}
	if IsUTF16(content) {
		return "", fmt.Errorf("%s: %w", path, ErrUTF16)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	content = bytes.TrimSuffix(content, []byte("\n"))
	content = bytes.TrimSuffix(content, []byte("\r"))
	if len(content) == 0 {
		return "", fmt.Errorf("%s: the file is empty; it must hold the password", path)
	}
	return string(content), nil
}
