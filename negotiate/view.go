package negotiate

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
)

// What operators may see of an identity. None of it is a secret.

// Origin tells where the identity's tickets come from: the kind of its secret,
// and the file if it is one.
func (id *Identity) Origin() (kind, path string) {
	return id.cfg.Secret.Kind, id.cfg.Secret.Path
}

// Keys lists the long-term keys that the identity holds.
func (id *Identity) Keys() []krb5core.HeldKey { return id.origin.account().HeldKeys() }

// Offsets are by how much the clocks of realms are ahead of ours, as far as
// learnt. Callers do not modify the map.
func (id *Identity) Offsets() map[string]time.Duration { return id.clock.Offsets() }

// Owns tells whether a ticket of the cache is the identity's.
func (id *Identity) Owns(key cache.Key) bool { return key.Identity == *id.owner.Load() }

// IsTGT tells whether a ticket of the cache is the identity's own
// ticket-granting ticket.
func IsTGT(key cache.Key) bool { return key.SPN == tgtSPN && key.User == "" && key.Options == 0 }

// IsEvidence tells whether a ticket of the cache is the user's ticket to ourselves.
func IsEvidence(key cache.Key, u User) bool { return key.SPN == selfSPN && key.User == u.key }
