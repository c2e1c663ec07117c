package negotiate

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// initiatorWith returns an initiator of the one identity "proxy".
func initiatorWith(t *testing.T, cfg krb5core.Config) *Initiator {
	t.Helper()
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: kdc.Static{}}))(t)
	cfg.Sender = sender
	client := must.OK(krb5core.NewClient(cfg))(t)
	id := must.OK(NewIdentity(IdentityConfig{Key: "proxy", Secret: PasswordSecret("right")}))(t)
	return id.Initiator(NewSettings("proxy", client))
}

// Sites that share an account share tickets only if the tickets were requested alike.
func TestKey_Settings(t *testing.T) {
	one := []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96}
	two := []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96}
	keys := map[cache.Key]string{}
	for name, cfg := range map[string]krb5core.Config{
		"default": {}, "one type": {ETypes: one}, "two types": {ETypes: two}, "other order": {ETypes: []enctype.ID{two[1], two[0]}},
		"armor": {ETypes: one, Armor: &krb5core.Armor{}}, "canonicalize": {Canonicalize: true}, "lifetime": {Lifetime: time.Hour},
	} {
		for kind, key := range map[string]func(*Initiator) cache.Key{
			"service": func(i *Initiator) cache.Key { return i.key(&Target{}) },
			"TGT":     (*Initiator).tgtKey,
		} {
			k := key(initiatorWith(t, cfg))
			if k != key(initiatorWith(t, cfg)) {
				t.Errorf("%s, %s: equal settings do not share", name, kind)
			}
			if other := keys[k]; other != "" {
				t.Errorf("%s, %s: shares with %s", name, kind, other)
			}
			keys[k] = name + ", " + kind
		}
	}
}

// The ticket store derives its key from the types: none may get lost, with armor either.
func TestKeyETypes(t *testing.T) {
	one := []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96}
	two := append(one, enctype.AES128_CTS_HMAC_SHA1_96)
	for _, armor := range []*krb5core.Armor{nil, {}} {
		for _, want := range [][]enctype.ID{one, two, enctype.Strong()} {
			i := initiatorWith(t, krb5core.Config{ETypes: want, Armor: armor})
			if got := KeyETypes(i.key(&Target{})); !slices.Equal(got, want) {
				t.Errorf("armor %t: %v, want %v", armor != nil, got, want)
			}
		}
	}
	if got := KeyETypes(cache.Key{}); got != nil {
		t.Errorf("zero key: %v", got)
	}
}
