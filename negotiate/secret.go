package negotiate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Bounds of the files that secrets are read from.
const (
	maxKeytab   = 4 << 20
	maxPassword = 64 << 10
)

// A Secret is where an account's long-term keys come from.
type Secret struct {
	// Kind is one of the kinds below.
	Kind string
	// Path is the file, empty for a password that stands in the configuration.
	Path string
	read func() (exchange.KeySource, error)
}

// The kinds of secrets.
const (
	KindKeytab       = "keytab"
	KindPassword     = "password"
	KindPasswordFile = "password_file"
	KindCCache       = "ccache"
)

// CCacheSecret takes the tickets of a credential cache in place of keys.
func CCacheSecret(path string) Secret { return Secret{Kind: KindCCache, Path: path} }

// KeytabSecret takes the principal's keys from a keytab file.
func KeytabSecret(path string, principal messages.Principal) Secret {
	return Secret{Kind: KindKeytab, Path: path, read: func() (exchange.KeySource, error) {
		file, err := ReadKeytab(path)
		if err != nil {
			return nil, err
		}
		keys, err := krb5core.KeytabKeys(file, principal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return keys, nil
	}}
}

// PasswordSecret makes keys of a password.
func PasswordSecret(password string) Secret {
	keys := krb5core.PasswordKeys(func() (string, error) { return password, nil })
	return Secret{Kind: KindPassword, read: func() (exchange.KeySource, error) { return keys, nil }}
}

// PasswordFileSecret makes keys of the password in a file.
func PasswordFileSecret(path string) Secret {
	return Secret{Kind: KindPasswordFile, Path: path, read: func() (exchange.KeySource, error) {
		// Read at once, so that the keys are those of the file as it was seen to
		// change, and made of it when the KDC has said how.
		password, err := ReadPassword(path)
		if err != nil {
			return nil, err
		}
		return krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil
	}}
}

// ReadKeytab reads a keytab file.
func ReadKeytab(path string) (*keytab.Keytab, error) {
	content, err := readFile(path, maxKeytab)
	if err != nil {
		return nil, err
	}
	file, err := keytab.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// ReadPassword reads a file that holds a password and nothing else. One line end
// at its end does not count.
func ReadPassword(path string) (string, error) {
	content, err := readFile(path, maxPassword)
	if err != nil {
		return "", err
	}
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return "", fmt.Errorf("%s: is UTF-16, as Windows PowerShell's > writes; save it as UTF-8 (Set-Content -Encoding utf8)", path)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	content = bytes.TrimSuffix(content, []byte("\n"))
	content = bytes.TrimSuffix(content, []byte("\r"))
	if len(content) == 0 {
		return "", fmt.Errorf("%s: the file is empty; it must hold the password", path)
	}
	return string(content), nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: is a folder, not a file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes: not the file that is meant?", path, limit)
	}
	return content, nil
}

// fileError says what to do about a file that cannot be read.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file; is the path right, and visible to the user that Caddy runs as? (%w)", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: not readable for the user that Caddy runs as; let that user own it, mode 0600 (%w)", path, fs.ErrPermission)
	}
	return err
}

// stamp tells one state of a file from another, symbolic links followed.
type stamp struct {
	info fs.FileInfo
	err  bool
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	return stamp{info, err != nil}
}

func (s stamp) equal(other stamp) bool {
	if s.err || other.err {
		return s.err == other.err
	}
	if s.info == nil || other.info == nil {
		return s.info == other.info
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.modTime().Equal(other.modTime())
}

func (s stamp) modTime() time.Time { return s.info.ModTime() }
