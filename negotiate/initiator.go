package negotiate

import (
	"context"
	"unique"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
)

// Settings belong to one block of the configuration: two blocks may use one account in
// different ways. They do not change.
type Settings struct {
	// Name is the name that operators know the identity by.
	Name string
	// Client makes the requests to KDCs.
	Client *krb5core.Client
	// Passwords reads the password of a group managed service account; nil for other accounts.
	Passwords *PasswordReader

	terms unique.Handle[cache.Terms] // the settings of the client that its tickets depend on
}

// NewSettings returns the settings of a block.
func NewSettings(name string, client *krb5core.Client) *Settings {
	terms := cache.Terms{Armored: client.Armored(), Canonicalize: client.Canonicalize(), Lifetime: client.Lifetime()}
	for i, id := range client.ETypes()[:min(len(client.ETypes()), cache.MaxETypes)] {
		terms.ETypes[i] = int32(id)
	}
	return &Settings{Name: name, Client: client, terms: unique.Make(terms)}
}

// An Initiator is an [Identity] with the settings of one block of the configuration:
// what requests get their tickets from. It does not change, and is safe for
// concurrent use.
type Initiator struct {
	id       *Identity
	settings *Settings
}

// Initiator returns the identity's initiator with these settings.
func (id *Identity) Initiator(s *Settings) *Initiator { return &Initiator{id, s} }

// Identity returns the identity.
func (i *Initiator) Identity() *Identity { return i.id }

// Settings are those of the block; callers do not modify them.
func (i *Initiator) Settings() *Settings { return i.settings }

// Name is the name that operators know the identity by.
func (i *Initiator) Name() string { return i.settings.Name }

// TicketKeys returns the keys of an account of the identity that open tickets to it
// (krb5core.Client.TicketKeys).
func (i *Initiator) TicketKeys(ctx context.Context, a *krb5core.Account) ([]krb5core.TicketKey, error) {
	return i.settings.Client.TicketKeys(ctx, a)
}

// Target is the service that a request is authenticated to, and the user.
type Target struct {
	SPN SPN
	// ByClient reports whether the client of the request can choose the service: how often the
	// KDC is asked for services that it does not know is bounded.
	ByClient bool
	// User is the user to impersonate; the zero User is the identity itself. One who has signed
	// in has done so to the identity's account.
	User User
}

func (i *Initiator) key(t *Target) cache.Key {
	return cache.Key{
		Identity: i.id.owner.Load().key,
		User:     t.User.text, UserType: int32(t.User.principal.Name.NameType), Account: t.User.account,
		Options: t.User.options(), Realm: t.SPN.principal.Realm, SPN: t.SPN.text, Terms: i.settings.terms,
	}
}

// The cache's names for tickets of the identity itself. They cannot be a service's,
// because they have no host.
const (
	tgtSPN  = "krbtgt"
	selfSPN = "self"
)

func (i *Initiator) tgtKey() cache.Key {
	o := i.id.owner.Load()
	return cache.Key{Identity: o.key, Realm: o.principal.Realm, SPN: tgtSPN, Terms: i.settings.terms}
}

func (i *Initiator) evidenceKey(u User) cache.Key {
	key := i.tgtKey()
	key.User, key.UserType, key.SPN = u.text, int32(u.principal.Name.NameType), selfSPN
	return key
}
