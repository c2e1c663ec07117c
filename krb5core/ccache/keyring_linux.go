package ccache

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

func openKeyring(rest string) (Source, error) {
	k, err := newKeyring(rest, withKeys)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// withKeys calls f on a thread whose own keyring then has the keys that were searched: only
// what a keyring of the thread leads to may be read by the owner's permissions. Nothing
// else of the system is changed.
func withKeys(f func(keyService) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { _, _ = unix.KeyctlInt(unix.KEYCTL_CLEAR, unix.KEY_SPEC_THREAD_KEYRING, 0, 0, 0) }()
	return f(threadKeys{})
}

// threadKeys are the kernel's keys, as a thread sees them.
type threadKeys struct{}

func (threadKeys) open(a anchor, uid int) (int, error) {
	switch a {
	case anchorUser:
		return unix.KEY_SPEC_USER_KEYRING, nil
	case anchorPersistent:
		ring, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, uid, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		if errors.Is(err, unix.EOPNOTSUPP) && uid == unix.Geteuid() { // as MIT does
			return unix.KEY_SPEC_USER_KEYRING, nil
		}
		return ring, keyError("keyctl_get_persistent", err)
	default:
		return unix.KEY_SPEC_SESSION_KEYRING, nil
	}
}

func (threadKeys) search(ring int, kind, description string) (int, error) {
	key, err := unix.KeyctlSearch(ring, kind, description, unix.KEY_SPEC_THREAD_KEYRING)
	return key, keyError("keyctl_search", err)
}

func (threadKeys) read(key, limit int) ([]byte, error) {
	b := make([]byte, min(limit, 4096))
	for {
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, key, b, 0)
		switch {
		case err != nil:
			return nil, keyError("keyctl_read", err)
		case n <= len(b):
			return b[:n], nil
		case n > limit:
			return nil, errTooBig
		}
		b = make([]byte, n) // it may grow meanwhile
	}
}

func (threadKeys) describe(key int) (string, error) {
	description, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, key)
	return description, keyError("keyctl_describe", err)
}

// keyError names the call. A key that has expired or was revoked is none.
func keyError(call string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		return fmt.Errorf("%s: %w", call, errNoKey)
	}
	return fmt.Errorf("%s: %w", call, err)
}
