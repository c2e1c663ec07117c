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

// errNoTicket is returned for bytes that Marshal did not write.
var errNoTicket = errors.New("not a stored ticket")

// Marshal returns the ticket with its session key, to be sealed and kept elsewhere.
func (t *Ticket) Marshal() ([]byte, error) {
	return StoredTicket(t.cred, t.obtained.Add(t.offset))
}

// StoredTicket returns what Marshal returns for a credential: when it was obtained, by the
// realm's clock, in nanoseconds since 1970 (8 bytes, big-endian), and then a credential
// cache of one entry.
func StoredTicket(cred *messages.Credential, obtained time.Time) ([]byte, error) {
	file := ccache.CCache{DefaultPrincipal: cred.Client, Credentials: []messages.Credential{*cred}}
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
	t, err := id.ticket(&file.Credentials[0])
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
