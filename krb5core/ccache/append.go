package ccache

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/internal/filefmt"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Marshal returns the cache as a file of version 4.
func (c *CCache) Marshal() ([]byte, error) { return c.Append(nil) }

// Append appends the cache as a file of version 4: the configuration, sorted,
// before the tickets. It fails on times outside of 1970 to 2106, which the
// format cannot hold, and on clocks further apart than 68 years.
func (c *CCache) Append(dst []byte) ([]byte, error) {
	seconds, micros := c.KDCOffset/time.Second, c.KDCOffset%time.Second/time.Microsecond
	if seconds > math.MaxInt32 || seconds < math.MinInt32 {
		return nil, fmt.Errorf("credential cache: a clock offset of %s cannot be written", c.KDCOffset)
	}
	dst = append(dst, filefmt.Magic, 4, 0, 12, 0, tagDeltaTime, 0, 8)
	dst = binary.BigEndian.AppendUint32(dst, uint32(seconds))
	dst = binary.BigEndian.AppendUint32(dst, uint32(micros))
	dst = appendPrincipal(dst, c.DefaultPrincipal)
	keys := slices.SortedFunc(maps.Keys(c.Config), func(a, b ConfigKey) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Principal, b.Principal))
	})
	for _, key := range keys {
		// Nothing that an entry of the configuration has can fail.
		dst, _ = appendCredential(dst, c.configEntry(key))
	}
	for i := range c.Credentials {
		var err error
		if dst, err = appendCredential(dst, &c.Credentials[i]); err != nil {
			return nil, fmt.Errorf("credential cache: ticket for %s: %w", c.Credentials[i].Service, err)
		}
	}
	return dst, nil
}

func (c *CCache) configEntry(key ConfigKey) *messages.Credential {
	name := messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, confName, key.Name)
	if key.Principal != "" {
		name.NameString = append(name.NameString, key.Principal)
	}
	return &messages.Credential{
		Client:  c.DefaultPrincipal,
		Service: messages.Principal{Name: name, Realm: confRealm},
		Ticket:  c.Config[key],
	}
}

func appendCredential(dst []byte, c *messages.Credential) ([]byte, error) {
	dst = appendPrincipal(dst, c.Client)
	dst = appendPrincipal(dst, c.Service)
	if c.Key.IsZero() {
		dst = append(dst, 0, 0, 0, 0, 0, 0)
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.Key.EType()))
		dst = filefmt.AppendData32(dst, c.Key.Bytes())
	}
	for _, t := range []time.Time{c.AuthTime, c.StartTime, c.EndTime, c.RenewTill} {
		var err error
		if dst, err = filefmt.AppendTime(dst, t); err != nil {
			return nil, err
		}
	}
	skey := byte(0)
	if c.IsSKey {
		skey = 1
	}
	dst = append(dst, skey)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Flags))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.Addresses)))
	for _, a := range c.Addresses {
		dst = binary.BigEndian.AppendUint16(dst, uint16(a.AddrType))
		dst = filefmt.AppendData32(dst, a.Address)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.AuthData)))
	for _, a := range c.AuthData {
		dst = binary.BigEndian.AppendUint16(dst, uint16(a.Type))
		dst = filefmt.AppendData32(dst, a.Value)
	}
	dst = filefmt.AppendData32(dst, c.Ticket)
	return filefmt.AppendData32(dst, c.SecondTicket), nil
}

func appendPrincipal(dst []byte, p messages.Principal) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Name.NameType))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Name.NameString)))
	dst = filefmt.AppendData32(dst, []byte(p.Realm))
	for _, s := range p.Name.NameString {
		dst = filefmt.AppendData32(dst, []byte(s))
	}
	return dst
}
