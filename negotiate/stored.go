package negotiate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// adAccount is the account's type of authorization data; negative types are for local use
// (RFC 4120, Section 5.2.6).
const adAccount messages.ADType = -67

// errNoTicket is returned for bytes that Marshal did not write.
var errNoTicket = errors.New("not a stored ticket")

// errPlatformTicket is returned for a ticket that the operating system keeps to itself.
var errPlatformTicket = errors.New("the operating system's tickets are not stored")

// Marshal returns the ticket with its session key, to be sealed and kept elsewhere.
func (t *Ticket) Marshal() ([]byte, error) {
	if t.platform != nil {
		return nil, errPlatformTicket
	}
	return StoredTicket(t.cred, t.obtained.Add(t.offset))
}

// StoredTicket returns what Marshal returns for a credential: when it was obtained, by the
// realm's clock, in nanoseconds since 1970 (8 bytes, big-endian), and then a credential
// cache of one entry. The account of an impersonated user is in the entry's authorization
// data: a byte, 1 for a machine's, and the name.
func StoredTicket(cred *messages.Credential, obtained time.Time) ([]byte, error) {
	entry := *cred
	if cred.Account != nil {
		kind := byte(0)
		if cred.Account.Machine {
			kind = 1
		}
		entry.AuthData = append(slices.Clone(entry.AuthData), messages.AuthorizationDataElement{Type: adAccount, Value: append([]byte{kind}, cred.Account.Name...)})
	}
	file := ccache.CCache{DefaultPrincipal: cred.Client, Credentials: []messages.Credential{entry}}
	return file.Append(binary.BigEndian.AppendUint64(nil, uint64(obtained.UnixNano())))
}

// Unmarshal reads a ticket that Marshal wrote, in this or another process: its times are
// corrected by the offset of this process's clock.
func (id *Identity) Unmarshal(b []byte) (*Ticket, error) {
	if len(b) < 8 {
		return nil, errNoTicket
	}
	file, err := ccache.Parse(b[8:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTicket, err)
	}
	if len(file.Credentials) != 1 || file.Credentials[0].Key.IsZero() {
		return nil, errNoTicket
	}
	cred := &file.Credentials[0]
	if n := len(cred.AuthData) - 1; n >= 0 && cred.AuthData[n].Type == adAccount && len(cred.AuthData[n].Value) > 0 {
		value := cred.AuthData[n].Value
		cred.Account = &messages.Account{Name: string(value[1:]), Machine: value[0] == 1}
		if cred.AuthData = cred.AuthData[:n]; n == 0 {
			cred.AuthData = nil
		}
	}
	t, err := id.ticket(cred)
	if err != nil {
		return nil, err
	}
	t.obtained = time.Unix(0, int64(binary.BigEndian.Uint64(b))).Add(-t.offset)
	return t, nil
}

// LongTermKey returns the first of the newest keys in the identity's keytab that has an
// allowed type ([KeyETypes]). It is false for identities without a keytab: a password's
// keys depend on the salt that the KDC sends, and a credential cache has none.
func (id *Identity) LongTermKey(allowed []enctype.ID) (enctype.Key, bool) {
	ring, ok := id.source.(*keyring)
	if !ok || id.cfg.Secret.Kind != KindKeytab {
		return enctype.Key{}, false
	}
	keys := ring.newest().Keys()
	for _, etype := range keys.ETypes() {
		if !slices.Contains(allowed, etype) {
			continue
		}
		if key, err := keys.Key(exchange.KeyInfo{EType: etype}); err == nil {
			return key, true
		}
	}
	return enctype.Key{}, false
}
