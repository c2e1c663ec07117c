package negotiate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// maxKeytab bounds a keytab file, in bytes.
const maxKeytab = 4 << 20

// A Secret is what an account logs in with.
type Secret struct {
	Kind SecretKind
	// Path is the file, or the name of the credential cache; empty for a password in the
	// configuration.
	Path string
	// Pinned is the only principal whose tickets are used from a credential cache; zero for
	// whichever the file has.
	Pinned messages.Principal
	ccache ccache.Source
	read   func() (exchange.KeySource, error)

	certificate func() (*pkinit.Identity, error) // in place of read
	more        []string                         // files beside Path
	managed     bool                             // the certificate is looked up at each login

	// RotateEvery is how old the file may become before its secret is changed; 0 if it is not
	// changed by itself.
	RotateEvery time.Duration

	platform Platform
}

// SecretKind says what kind of secret an account logs in with.
type SecretKind string

// The kinds of secrets.
const (
	KindKeytab       SecretKind = "keytab"
	KindPassword     SecretKind = "password"
	KindPasswordFile SecretKind = "password_file"
	KindCCache       SecretKind = "ccache"
	KindCertificate  SecretKind = "certificate"
	KindPlatform     SecretKind = "platform"
	KindGMSA         SecretKind = "gmsa"
)

// follows reports whether the account may become another one: who fills a credential cache, or
// runs the process, decides.
func (s Secret) follows() bool { return s.Kind == KindCCache || s.Kind == KindPlatform }

// PlatformSecret uses the tickets that the operating system has for the account that the process
// runs as.
func PlatformSecret(p Platform) Secret { return Secret{Kind: KindPlatform, platform: p} }

// CCacheSecret uses the tickets of a credential cache in place of keys. If the cache gets
// another principal, so does the identity. A FILE or DIR cache must be readable when the
// identity is made; another one may be filled later.
func CCacheSecret(source ccache.Source) Secret {
	return Secret{Kind: KindCCache, Path: source.String(), ccache: source}
}

// PinnedCCacheSecret is a CCacheSecret that is used only while the cache has this principal;
// of a collection, the cache that has.
func PinnedCCacheSecret(source ccache.Source, principal messages.Principal) Secret {
	return Secret{Kind: KindCCache, Path: source.String(), Pinned: principal, ccache: source}
}

// KeytabSecret uses the principal's keys of a keytab file.
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

// PasswordSecret derives keys from a password.
func PasswordSecret(password string) Secret {
	keys := krb5core.PasswordKeys(func() (string, error) { return password, nil })
	return Secret{Kind: KindPassword, read: func() (exchange.KeySource, error) { return keys, nil }}
}

// PasswordFileSecret derives keys from the password in a file.
func PasswordFileSecret(path string) Secret {
	return Secret{Kind: KindPasswordFile, Path: path, read: func() (exchange.KeySource, error) {
		// Read at once, so that the keys belong to the state of the file that was noted;
		// they are derived later, when the KDC has sent the salt.
		password, err := secretfile.ReadPassword(path)
		if err != nil {
			return nil, err
		}
		return krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil
	}}
}

// Open reads the keys or the certificate. A clock that is nil is the system's.
func (s Secret) Open(principal messages.Principal, clock *krb5core.Clock) (*krb5core.Account, error) {
	if s.certificate == nil {
		keys, err := s.read()
		if err != nil {
			return nil, err
		}
		return krb5core.NewAccount(principal, keys, clock), nil
	}
	id, err := s.certificate()
	if err != nil {
		return nil, err
	}
	return krb5core.NewCertificateAccount(principal, func() (*pkinit.Identity, error) { return id, nil }, clock), nil
}

// candidateSecret returns what the candidate of an account is sealed with: its present keys, or a key
// of its present password.
func candidateSecret(present *krb5core.Account) []byte {
	return present.KeyMaterial("caddy-negotiate candidate " + present.Principal().String())
}

// SealCandidate seals the next password of an account for the file that is beside that of its present
// secret (candidate.Path).
func SealCandidate(c candidate.Candidate, present *krb5core.Account) ([]byte, error) {
	return candidate.Seal(c, candidateSecret(present), present.Principal().String())
}

// ReadCandidate reads the next password of an account whose present secret is in a file. The error
// wraps fs.ErrNotExist if there is none, and candidate.ErrNotOpened if it does not belong to that
// secret.
func ReadCandidate(path string, present *krb5core.Account) (candidate.Candidate, error) {
	content, err := secretfile.Read(candidate.Path(path), candidate.MaxSize)
	if err != nil {
		return candidate.Candidate{}, err
	}
	return candidate.Open(content, candidateSecret(present), present.Principal().String())
}

// ReadKeytab reads a keytab file.
func ReadKeytab(path string) (*keytab.Keytab, error) {
	content, err := secretfile.Read(path, maxKeytab)
	if err != nil {
		return nil, err
	}
	file, err := keytab.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// watchedFile is a file that is read again when it changes. If it cannot be read again, what was
// read before stays in use; the failure is reported once, however often the file is written.
type watchedFile struct {
	path    string   // empty for a secret without a file
	more    []string // further files, which are read with it
	observe func(Event)
	info    []fs.FileInfo // of the state that was read, symbolic links followed; nil for a file that is not there
	loaded  bool
	broken  string // the failure that was reported last, empty after a success
}

// stat returns the present state of the files.
func (w *watchedFile) stat() (now []fs.FileInfo) {
	if w.path == "" {
		return nil
	}
	for _, path := range append([]string{w.path}, w.more...) {
		info, _ := os.Stat(path)
		now = append(now, info)
	}
	return now
}

// reload reads the file unless it is as it was, and reports whether its content is another than
// that of the first reading.
func (w *watchedFile) reload(read func() error) (changed bool, err error) {
	now := w.stat()
	if w.loaded && slices.EqualFunc(now, w.info, secretfile.Same) {
		return false, nil
	}
	err = read()
	const most = 3 // a file that changes all the time is read again the next time
	for range most {
		// Files that belong together are replaced one after the other.
		before := now
		if now = w.stat(); slices.EqualFunc(now, before, secretfile.Same) {
			break
		}
		err = read()
	}
	if err != nil && !w.loaded {
		return false, err
	}
	if errors.Is(err, secretfile.ErrBusy) {
		return false, nil // being written: it is read next time
	}
	changed = w.loaded && err == nil
	w.info, w.loaded = now, true
	switch {
	case err == nil:
		w.broken = ""
		if changed {
			w.observe(SecretChanged{Path: w.path})
		}
	case err.Error() != w.broken:
		w.broken = err.Error()
		w.observe(SecretBroken{Path: w.path, Err: err})
	}
	return changed, nil
}

// modified is when the file was changed; zero if it is not there. What lies beside it, such as the
// next password while it is not known which one counts, does not make it younger.
func (w *watchedFile) modified() (at time.Time) {
	if len(w.info) > 0 && w.info[0] != nil {
		at = w.info[0].ModTime()
	}
	return at
}
