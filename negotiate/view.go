package negotiate

import (
	"crypto/x509"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// What operators may see of an identity and of the cache's keys. None of it is a secret.

// Origin returns where the identity's tickets come from: the kind of its secret, and
// the file or the credential cache if it is one; of a collection, the cache that is used.
func (id *Identity) Origin() (kind SecretKind, path string) {
	if c, ok := id.source.(*credentialCache); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		return KindCCache, c.name()
	}
	return id.cfg.Secret.Kind, id.cfg.Secret.Path
}

// Certificate returns the certificate that the identity logs in with, nil if it has none.
func (id *Identity) Certificate() *x509.Certificate {
	var account *krb5core.Account
	switch s := id.source.(type) {
	case *keyring:
		account = s.newest()
	case *managedCertificate:
		account = s.as
	default:
		return nil
	}
	return account.Certificate()
}

// SecretTimes returns when the secret was changed last, and when its next change is due; zero for what
// is not known. A file's secret was changed when the file was written.
func (id *Identity) SecretTimes() (changed, due time.Time) {
	if source, ok := id.source.(interface {
		times() (changed, due time.Time)
	}); ok && id.cfg.Secret.certificate == nil {
		return source.times()
	}
	return time.Time{}, time.Time{}
}

// Keys lists the long-term keys that the identity holds.
func (id *Identity) Keys() []krb5core.HeldKey { return id.source.account().HeldKeys() }

// Offsets are by how much the clocks of realms are ahead of the local one, as far as
// known. Callers do not modify the map.
func (id *Identity) Offsets() map[string]time.Duration { return id.clock.Offsets() }

// Owns reports whether a ticket of the cache is the identity's.
func (id *Identity) Owns(key cache.Key) bool { return key.Identity == id.owner.Load().key }

// PrincipalOf returns the principal that tickets under the key belong to. It returns false if
// the key is not the identity's, or not any more.
func (id *Identity) PrincipalOf(key cache.Key) (messages.Principal, bool) {
	o := id.owner.Load()
	return o.principal, key.Identity == o.key
}

// Belongs reports whether a ticket belongs under the key: without a user it must be the
// principal's own. The client of a login may differ where the KDC is asked to correct names.
func (id *Identity) Belongs(key cache.Key, t *Ticket) bool {
	principal, ok := id.PrincipalOf(key)
	corrected := id.platform != nil || id.cfg.Secret.Kind != KindCCache &&
		(key.TermsValue().Canonicalize || principal.Name.NameType == messages.KRB_NT_ENTERPRISE)
	return ok && (key.User != "" || corrected || t.cred.Client.Equal(principal))
}

// IsTGT reports whether a ticket of the cache is the identity's own ticket-granting
// ticket.
func IsTGT(key cache.Key) bool { return key.SPN == tgtSPN && key.User == "" && key.Options == 0 }

// IsEvidence reports whether a ticket of the cache is the evidence ticket of the user.
func IsEvidence(key cache.Key, u User) bool {
	return key.SPN == selfSPN && key.User == u.text && key.UserType == int32(u.principal.Name.NameType)
}

// UserText is the impersonated user of a ticket of the cache, empty if there is none.
func UserText(key cache.Key) string { return key.User }

// KeyETypes are the encryption types that a ticket of the cache was requested with, in
// order: those that [Identity.LongTermKey] may use to seal it.
func KeyETypes(key cache.Key) []enctype.ID {
	var ids []enctype.ID
	for _, id := range key.TermsValue().ETypes {
		if id == 0 {
			break
		}
		ids = append(ids, enctype.ID(id))
	}
	return ids
}
