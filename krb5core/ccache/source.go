package ccache

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A Source is a credential cache that another program fills. It is safe for concurrent use.
type Source interface {
	// String returns the name: a path, or a name with its type.
	String() string
	// Read returns what the cache holds now, and the same CCache again until that changes.
	// Of a collection it is the cache of the owner if there is one, else the primary one;
	// a zero owner always means the primary one. Callers do not modify the CCache.
	//
	// Its error wraps ErrEmpty if there is no cache, or none with a principal.
	Read(ctx context.Context, owner messages.Principal) (*CCache, error)
	// Late reports whether the cache may be filled after the program that reads it has
	// started: one that is not a file does not outlast a reboot.
	Late() bool
}

// ErrEmpty is wrapped by the errors of a cache that is not there, or not yet.
var ErrEmpty = errors.New("no credential cache")

// Bounds of what is read.
const (
	maxSize    = 16 << 20 // bytes of one cache
	maxMembers = 256      // caches of one collection
)

// Options are the settings of krb5.conf that caches depend on.
type Options struct {
	// KCMSocket is the path of the KCM daemon's socket; empty for the usual one, "-" where
	// KCM must not be used.
	KCMSocket string
}

// Open returns the cache of a name, TYPE:REST as in KRB5CCNAME, or a path. It reads nothing.
// Types that cannot be read are errors.
func Open(name string, o Options) (Source, error) {
	kind, rest, typed := strings.Cut(name, ":")
	if !typed || len(kind) == 1 { // C:\...
		return openFile(name)
	}
	switch strings.ToUpper(kind) {
	case "FILE":
		return openFile(rest)
	case "DIR":
		return openDir(rest)
	case "KCM":
		return openKCM(rest, o.KCMSocket)
	case "KEYRING":
		return openKeyring(rest)
	case "MEMORY", "API", "MSLSA":
		return nil, fmt.Errorf("%s: credential caches of type %s cannot be read by another program than the one that fills them, "+
			"or by the system's own library only; use FILE, DIR, KCM or KEYRING", name, kind)
	}
	return openFile(name)
}

func openFile(path string) (Source, error) {
	if path == "" {
		return nil, errors.New("FILE: names no file")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return File(path), nil
}

// same reports whether a cache of this principal is the one that is looked for.
func same(owner, principal messages.Principal) bool { return owner.IsZero() || owner.Equal(principal) }
