package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ErrNoKey is wrapped by a KeySource that holds no key of the requested type or version.
var ErrNoKey = errors.New("no such key")

// KeySource holds the client's long-term keys: a keytab or a password.
type KeySource interface {
	// ETypes lists the types for which there are keys, nil if there can be one of any type (a
	// password).
	ETypes() []enctype.ID
	// Key returns the key that info describes. After ErrNoKey the machine tries another type.
	Key(info KeyInfo) (enctype.Key, error)
}

// KeyInfo describes a long-term key as the KDC does.
type KeyInfo struct {
	EType   enctype.ID
	Salt    string // always set: the default salt of RFC 4120, Section 4 if the KDC named none
	HasSalt bool   // the KDC named the salt
	Params  []byte // string-to-key parameters, nil for the type's default
	KVNO    uint32 // key version, 0 for the newest
}

// versions lists the key versions to try: the one that the KDC names, then the newest, because
// keytabs often have another version than the KDC.
func versions(e messages.EncryptedData) []uint32 {
	if e.HasKVNO && e.KVNO != 0 {
		return []uint32{e.KVNO, 0}
	}
	return []uint32{0}
}

// keyInfos lists the keys that padata describes, in the KDC's order and each type once: from
// ETYPE-INFO2, else ETYPE-INFO, else the allowed types with the salt of PW-SALT, else with the
// default salt (RFC 4120, Section 5.2.7.5).
func keyInfos(padata messages.MethodData, allowed []enctype.ID, defaultSalt string) (infos []KeyInfo, named bool) {
	add := func(info KeyInfo) {
		if !info.HasSalt {
			info.Salt = defaultSalt
		}
		// The RFC has one entry of each type: a forged list derives at most one key per type.
		if !slices.ContainsFunc(infos, func(i KeyInfo) bool { return i.EType == info.EType }) {
			infos = append(infos, info)
		}
	}
	if value, ok := padata.Find(messages.PA_ETYPE_INFO2); ok {
		if list, err := messages.ParseETypeInfo2(value); err == nil {
			for _, e := range list {
				add(KeyInfo{EType: e.EType, Salt: e.Salt, HasSalt: e.HasSalt, Params: e.S2KParams})
			}
			return infos, true
		}
	}
	if value, ok := padata.Find(messages.PA_ETYPE_INFO); ok {
		if list, err := messages.ParseETypeInfo(value); err == nil {
			for _, e := range list {
				add(KeyInfo{EType: e.EType, Salt: string(e.Salt), HasSalt: e.Salt != nil})
			}
			return infos, true
		}
	}
	salt, hasSalt := padata.Find(messages.PA_PW_SALT)
	for _, id := range allowed {
		add(KeyInfo{EType: id, Salt: string(salt), HasSalt: hasSalt})
	}
	return infos, hasSalt
}

var errNotAllowed = errors.New("type is not allowed")

// pickKey returns the first key of the list whose type is allowed and that the source holds. The
// list may be forged: types that are not allowed are skipped, and enctype.StringToKey bounds the
// iterations.
func pickKey(infos []KeyInfo, allowed []enctype.ID, keys KeySource, trace func(Event)) (KeyInfo, enctype.Key, error) {
	failure := &ETypeError{Allowed: allowed}
	var reasons []error
	for _, info := range infos {
		failure.Offered = append(failure.Offered, info.EType)
		err := errNotAllowed
		if slices.Contains(allowed, info.EType) {
			var key enctype.Key
			if key, err = keys.Key(info); err == nil {
				return info, key, nil
			}
		}
		trace(Note{"%s named by the KDC is not used: %v", []any{info.EType, err}})
		reasons = append(reasons, fmt.Errorf("%s: %w", info.EType, err))
	}
	failure.Err = errors.Join(reasons...)
	return KeyInfo{}, enctype.Key{}, failure
}

// DefaultSalt is what a password is salted with unless the KDC names another salt: the realm, then
// the parts of the name, with nothing between them (RFC 4120, Section 4).
func DefaultSalt(p messages.Principal) string {
	return p.Realm + strings.Join(p.Name.NameString, "")
}
