package realms

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// Each type is that of the user's key, of the service's and of both session keys, with a password and with a keytab, with
// FAST and without.
func TestMIT_EncryptionTypes(t *testing.T) {
	types := map[string]enctype.ID{
		"camellia256-cts-cmac": enctype.CAMELLIA256_CTS_CMAC, "camellia128-cts-cmac": enctype.CAMELLIA128_CTS_CMAC,
		"arcfour-hmac": enctype.RC4_HMAC, "des3-cbc-sha1": enctype.DES3_CBC_SHA1,
		"aes256-cts-hmac-sha384-192": enctype.AES256_CTS_HMAC_SHA384_192, "aes128-cts-hmac-sha256-128": enctype.AES128_CTS_HMAC_SHA256_128,
	}
	with := lab.MITOptions{ETypes: []string{
		"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128", "camellia256-cts-cmac", "camellia128-cts-cmac", "arcfour-hmac", "des3-cbc-sha1",
	}, KDCLibDefaults: []string{"allow_rc4 = true", "allow_des3 = true"}}
	for name := range types {
		with.Principals = append(with.Principals,
			lab.Principal{Name: "user-" + name, Password: "secret", ETypes: []string{name}},
			lab.Principal{Name: "HTTP/" + name + ".lab.test", ETypes: []string{name}})
	}
	m := lab.StartMIT(t, with)
	for name, id := range types {
		t.Run(name, func(t *testing.T) {
			user, service := "user-"+name, "HTTP/"+name+".lab.test"
			armor := keytabArmor(t, m, user)
			for how, armored := range map[string]*krb5core.Armor{"": nil, "FAST": armor} {
				client, tr := newClient(t, func(c *krb5core.Config) { c.ETypes, c.Armor = []enctype.ID{id}, armored }, m)
				for _, a := range []*krb5core.Account{
					password(t, user+"@LAB.TEST", "secret", nil), keys(t, user+"@LAB.TEST", readKeytab(t, m.Keytab(t, user))),
				} {
					tgt := login(t, client, a)
					cred := ticket(t, client, a, tgt, service)
					part := opened(t, cred, m.Keytab(t, service))
					tkt, err := messages.ParseTicket(cred.Ticket)
					if err != nil {
						t.Fatal(err)
					}
					if tgt.Key.EType() != id || cred.Key.EType() != id || tkt.EncPart.EType != id || !part.Key.Equal(cred.Key) {
						t.Errorf("%s: session keys %s and %s, ticket %s", how, tgt.Key.EType(), cred.Key.EType(), tkt.EncPart.EType)
					}
					if e, ok := eventOf[exchange.KeyChosen](tr); !ok || e.EType != id {
						t.Errorf("%s: the key is %v", how, e)
					}
				}
			}
		})
	}
}
