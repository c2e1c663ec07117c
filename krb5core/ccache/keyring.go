package ccache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// keyring is a cache in a keyring of the kernel, or the primary one of a collection there. The
// layout is MIT's: below the anchor a keyring for the collection; in it a key with the
// primary's name, and a keyring for each cache, which has a key for the principal and one
// for each credential.
type keyring struct {
	name       string // KEYRING:anchor:collection[:cache]
	anchor     anchor
	uid        int // whose keyring anchorPersistent is
	collection string
	cache      string // empty for the collection's primary one

	// with calls a function with the kernel's keys.
	with func(func(keyService) error) error

	mu   sync.Mutex
	last parsed
}

// anchor is a keyring that collections are in.
type anchor string

const (
	anchorSession    anchor = "session"
	anchorUser       anchor = "user"
	anchorPersistent anchor = "persistent"
	anchorLegacy     anchor = "legacy" // of KEYRING:name: the session's
)

// keyService is what the kernel does with keys. A key is named by its serial number.
type keyService interface {
	// open returns the keyring that an anchor is.
	open(a anchor, uid int) (ring int, err error)
	// search finds a key by its type and description, in a keyring and those in it. It fails
	// with errNoKey if there is none, or only an expired one.
	search(ring int, kind, description string) (key int, err error)
	// read returns at most limit bytes of what is in a key, or fails with errTooBig. What is
	// in a keyring is the serial numbers, 32 bits each in the machine's order.
	read(key, limit int) ([]byte, error)
	// describe returns "type;uid;gid;permissions;description".
	describe(key int) (string, error)
}

// errNoKey is for a key that is not there, or not any more.
var errNoKey = errors.New("no such key")

// The types and descriptions of keys.
const (
	typeKeyring = "keyring"
	typeUser    = "user"

	keyPrimary    = "krb_ccache:primary"
	keyPrincipal  = "__krb5_princ__"
	keyOffsets    = "__krb5_time_offsets__"
	ringPrefix    = "_krb_"
	ringInUsers   = "_krb"
	unnamedCache  = "tkt"
	primaryFormat = 1
)

// newKeyring reads what follows KEYRING: in a name.
func newKeyring(rest string, with func(func(keyService) error) error) (*keyring, error) {
	name := "KEYRING:" + rest
	first, more, ok := strings.Cut(rest, ":")
	if !ok {
		first, more = string(anchorLegacy), rest
	}
	collection, cache, _ := strings.Cut(more, ":")
	k := &keyring{name: name, anchor: anchor(first), uid: os.Getuid(), collection: collection, cache: cache, with: with}
	switch k.anchor {
	case anchorSession, anchorUser, anchorLegacy:
		return k, nil
	case anchorPersistent:
		if collection == "" {
			return k, nil
		}
		uid, err := strconv.ParseUint(collection, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not the number of a user; write KEYRING:persistent:UID", name, collection)
		}
		k.uid = int(uid)
		return k, nil
	case "process", "thread":
		return nil, fmt.Errorf("%s: only Caddy itself can fill its %s keyring, and it does not; use KEYRING:persistent:UID, KEYRING:user:NAME "+
			"or KEYRING:session:NAME", name, k.anchor)
	}
	return nil, fmt.Errorf("%s: %q is not a keyring; write KEYRING:persistent:UID, KEYRING:user:NAME or KEYRING:session:NAME", name, first)
}

func (k *keyring) String() string { return k.name }

func (k *keyring) Late() bool { return true }

// Read does not wait: all that it asks is the kernel.
func (k *keyring) Read(_ context.Context, owner messages.Principal) (*CCache, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var p *parts
	err := k.with(func(keys keyService) (err error) {
		p, err = k.read(keys, owner)
		return err
	})
	if err != nil {
		return nil, k.explain(err)
	}
	return k.last.parse(p)
}

// explain adds a remedy.
func (k *keyring) explain(err error) error {
	switch uid := os.Getuid(); {
	case errors.Is(err, errNoKey) && (k.anchor == anchorSession || k.anchor == anchorLegacy):
		return fmt.Errorf("%w in %s: the session keyring is that of the process which started Caddy, and systemd gives each service one of its own; "+
			"use KEYRING:persistent:%d, and run kinit as that user", ErrEmpty, k, uid)
	case errors.Is(err, errNoKey):
		return fmt.Errorf("%w in %s, as the user that Caddy runs as (uid %d) sees it; run kinit -c %s as that user: each user has keyrings of "+
			"their own", ErrEmpty, k, uid, k)
	case errors.Is(err, os.ErrPermission) && k.anchor == anchorPersistent && k.uid != uid:
		return fmt.Errorf("%s: the keyring of uid %d may not be read by uid %d, as which Caddy runs; fill the cache as that user, "+
			"KEYRING:persistent:%[3]d (%w)", k, k.uid, uid, err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%s: the kernel does not let Caddy read keys; in a container, its seccomp profile blocks keyctl (Docker's default "+
			"one does): allow keyctl, or use a cache of type FILE (%w)", k, err)
	}
	return fmt.Errorf("%s: %w", k, err)
}

// read gets the cache's parts from the kernel.
func (k *keyring) read(keys keyService, owner messages.Principal) (*parts, error) {
	ring, err := keys.open(k.anchor, k.uid)
	if err != nil {
		return nil, err
	}
	name, description := k.cache, ringPrefix+k.collection
	if k.anchor == anchorPersistent {
		description = ringInUsers
	}
	collection, err := keys.search(ring, typeKeyring, description)
	if errors.Is(err, errNoKey) && k.anchor == anchorLegacy {
		// Old versions of MIT's library have no collections.
		if collection, err = keys.search(ring, typeKeyring, k.collection); err == nil {
			return k.readCache(keys, collection, k.collection)
		}
	}
	if err != nil {
		return nil, err
	}
	if name != "" {
		return k.find(keys, collection, name)
	}
	if name, err = k.primary(keys, collection); err != nil {
		return nil, err
	}
	p, err := k.find(keys, collection, name)
	if owner.IsZero() || err == nil && owns(owner, p.principal) || err != nil && !errors.Is(err, errNoKey) {
		return p, err
	}
	if other, errOther := k.ownersCache(keys, collection, owner); errOther != nil || other != nil {
		return other, errOther
	}
	return p, err
}

// primary returns the name of the collection's primary cache.
func (k *keyring) primary(keys keyService, collection int) (string, error) {
	key, err := keys.search(collection, typeUser, keyPrimary)
	if errors.Is(err, errNoKey) {
		if k.collection == "" {
			return unnamedCache, nil
		}
		return k.collection, nil
	}
	if err != nil {
		return "", err
	}
	b, err := keys.read(key, maxKeyName)
	if err != nil {
		return "", err
	}
	r := partReader("name of the primary cache", b)
	if format := r.Uint32("format"); r.Err == nil && format != primaryFormat {
		return "", fmt.Errorf("format %d of the collection is unknown", format)
	}
	name := r.Data32("name")
	return string(name), r.end()
}

// maxKeyName bounds names that are in keys.
const maxKeyName = 4096

func (k *keyring) find(keys keyService, collection int, name string) (*parts, error) {
	ring, err := keys.search(collection, typeKeyring, name)
	if err != nil {
		return nil, err
	}
	return k.readCache(keys, ring, name)
}

// readCache reads the keys of one cache. Those of tickets that have ended are gone.
func (k *keyring) readCache(keys keyService, ring int, name string) (*parts, error) {
	principal, err := keys.search(ring, typeUser, keyPrincipal)
	if err != nil {
		return nil, err
	}
	offsets, err := keys.search(ring, typeUser, keyOffsets)
	if err != nil && !errors.Is(err, errNoKey) {
		return nil, err
	}
	p := &parts{name: fmt.Sprintf("KEYRING:%s:%s:%s", k.anchor, k.collection, name)}
	left := maxSize
	if p.principal, err = keys.read(principal, left); err != nil {
		return nil, err
	}
	members, err := list(keys, ring)
	if err != nil {
		return nil, err
	}
	// The kernel has no order; this one shows whether anything has changed.
	slices.Sort(members)
	for _, key := range members {
		if key == principal || key == offsets {
			continue
		}
		credential, err := keys.read(key, left)
		if errors.Is(err, errNoKey) || errors.Is(err, os.ErrPermission) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		left -= len(credential)
		p.credentials = append(p.credentials, credential)
	}
	return p, nil
}

// ownersCache returns the owner's cache of a collection, nil if there is none.
func (k *keyring) ownersCache(keys keyService, collection int, owner messages.Principal) (*parts, error) {
	members, err := list(keys, collection)
	if err != nil {
		return nil, err
	}
	for _, key := range members[:min(len(members), maxMembers)] {
		description, err := keys.describe(key)
		fields := strings.SplitN(description, ";", 5)
		if err != nil || len(fields) < 5 || fields[0] != typeKeyring {
			continue
		}
		// A cache of no concern may be damaged, or just be made.
		if p, err := k.readCache(keys, key, fields[4]); err == nil && owns(owner, p.principal) {
			return p, nil
		}
	}
	return nil, nil
}

// list returns the keys in a keyring.
func list(keys keyService, ring int) ([]int, error) {
	b, err := keys.read(ring, maxSize)
	if err != nil {
		return nil, err
	}
	serials := make([]int, 0, len(b)/4)
	for ; len(b) >= 4; b = b[4:] {
		serials = append(serials, int(int32(binary.NativeEndian.Uint32(b))))
	}
	return serials, nil
}
