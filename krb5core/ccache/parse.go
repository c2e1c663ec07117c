package ccache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/internal/filefmt"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const format = "credential cache"

// A FormatError reports why bytes are not a credential cache, and where.
type FormatError = filefmt.FormatError

// Parse reads a credential cache of version 1 to 4. Every error is a
// *FormatError; there are no credentials beside one. A file cut off between two
// credentials cannot be told from a shorter one: the format neither counts nor
// ends them.
func Parse(b []byte) (*CCache, error) {
	if len(b) < 2 || b[0] != filefmt.Magic || b[1] < 1 || b[1] > 4 {
		return nil, &FormatError{Format: format, Reason: filefmt.Mistaken(b, format, [2]byte{filefmt.Magic, 4}, "BQQ", "BQM")}
	}
	var cache *CCache
	var err *FormatError
	if b[1] >= 3 {
		cache, err = parse(b, binary.BigEndian)
	} else {
		cache, err = filefmt.EitherOrder(func(order binary.ByteOrder) (*CCache, *FormatError) { return parse(b, order) })
		if err != nil {
			err.Reason += " (a keytab begins alike: if this is one, configure it as keytab)"
		}
	}
	if err != nil {
		return nil, err
	}
	return cache, nil
}

// parse reads
//
//	file = 05 version [header] principal *credential
func parse(b []byte, order binary.ByteOrder) (*CCache, *FormatError) {
	r := reader{version: int(b[1]), Reader: filefmt.Reader{
		Format: format, Remedy: "is the file being written?", Bytes: b, At: 2, Order: order,
	}}
	cache := &CCache{Version: r.version, Config: make(map[ConfigKey][]byte)}
	if r.version == 4 {
		cache.KDCOffset = r.header()
	}
	cache.DefaultPrincipal = r.principal("default principal")
	for r.Err == nil && r.At < len(b) {
		r.add(cache)
	}
	return cache, r.Err
}

// add reads a credential into the cache, unless it is marked as removed.
func (r *reader) add(cache *CCache) {
	cred, removed := r.credential()
	if r.Err != nil || removed {
		return
	}
	if key, ok := configKey(&cred); ok {
		cache.Config[key] = cred.Ticket
		return
	}
	cache.Credentials = append(cache.Credentials, cred)
}

type reader struct {
	filefmt.Reader
	version int
}

// tagDeltaTime is the only header field there is.
const tagDeltaTime = 1

// header reads the fields of version 4 for the offset of the KDC's clock:
//
//	header    = u16 length, *field
//	field     = u16 tag, u16 length, bytes
//	DeltaTime = int32 seconds, int32 microseconds
func (r *reader) header() time.Duration {
	start := r.At
	block := r.Data16("header")
	var delta time.Duration
	fields := reader{Reader: r.Reader}
	fields.Bytes, fields.At = r.Bytes[:r.At], r.At-len(block)
	for fields.Err == nil && fields.At < len(fields.Bytes) {
		tag := fields.Uint16("tag of a header field")
		value := fields.Data16("header field")
		if tag != tagDeltaTime || fields.Err != nil {
			continue
		}
		if len(value) != 8 {
			fields.Fail(start, "the time offset in the header has %d bytes, not 8; the file is damaged", len(value))
			break
		}
		seconds, micros := int32(r.Order.Uint32(value)), int32(r.Order.Uint32(value[4:]))
		delta = time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond
	}
	r.Err = fields.Err
	return delta
}

// principal reads
//
//	principal = u32 name type (not in version 1)
//	            u32 components (version 1: and one for the realm)
//	            data realm, *data component
func (r *reader) principal(what string) messages.Principal {
	p := messages.Principal{Name: messages.PrincipalName{NameType: messages.KRB_NT_PRINCIPAL}}
	if r.version != 1 {
		p.Name.NameType = messages.NameType(int32(r.Uint32("name type of the " + what)))
	}
	count := int64(r.count("components of the "+what, 4))
	if r.version == 1 {
		if count--; count < 0 {
			r.Fail(r.At, "the %s has no realm; the file is damaged", what)
		}
	}
	p.Realm = string(r.Data32("realm of the " + what))
	for ; count > 0 && r.Err == nil; count-- {
		p.Name.NameString = append(p.Name.NameString, string(r.Data32("name of the "+what)))
	}
	return p
}

// removedAuthTime and an end time of 0 mark a credential that MIT has removed
// in place.
const removedAuthTime = 0xffffffff

// credential reads
//
//	credential = principal client, principal server,
//	             u16 etype (version 3: again), data key,
//	             u32 authtime, starttime, endtime, renew-till,
//	             u8 is-skey, u32 flags,
//	             u32 count, *(u16 type, data) addresses,
//	             u32 count, *(u16 type, data) authorization data,
//	             data ticket, data second ticket
func (r *reader) credential() (c messages.Credential, removed bool) {
	start := r.At
	c.Client = r.principal("client")
	c.Service = r.principal("service")
	etype := r.Uint16("encryption type")
	if r.version == 3 {
		etype = r.Uint16("encryption type")
	}
	keyAt := r.At
	keyBytes := r.Data32("session key")
	c.AuthTime = r.Time("authtime")
	c.StartTime = r.Time("starttime")
	c.EndTime = r.Time("endtime")
	c.RenewTill = r.Time("renew-till")
	c.IsSKey = r.Uint8("is-skey") != 0
	c.Flags = messages.TicketFlags(r.Uint32("flags"))
	for n := r.count("addresses", 6); n > 0 && r.Err == nil; n-- {
		t := messages.AddrType(int16(r.Uint16("address type")))
		c.Addresses = append(c.Addresses, messages.HostAddress{AddrType: t, Address: r.clone("address")})
	}
	for n := r.count("authorization data", 6); n > 0 && r.Err == nil; n-- {
		t := messages.ADType(int16(r.Uint16("authorization data type")))
		c.AuthData = append(c.AuthData, messages.AuthorizationDataElement{Type: t, Value: r.clone("authorization data")})
	}
	c.Ticket = r.clone("ticket")
	c.SecondTicket = r.clone("second ticket")
	if r.Err != nil {
		r.Err.Reason += fmt.Sprintf(" (in the credential at byte %d)", start)
		return messages.Credential{}, false
	}
	key, err := enctype.NewKey(enctype.ID(int16(etype)), keyBytes)
	if err != nil {
		r.Fail(keyAt, "session key for %s: %v; the file is damaged", c.Service, err)
	}
	c.Key = key
	return c, c.AuthTime.Unix() == removedAuthTime && c.EndTime.IsZero() || c.Service.Realm == confRealmRemoved
}

// count reads how many things follow, each of which has at least size bytes.
func (r *reader) count(what string, size int) uint32 {
	at := r.At
	n := r.Uint32("number of " + what)
	if uint64(n)*uint64(size) > uint64(r.Left()) {
		r.Fail(at, "%d %s do not fit into the %d bytes that follow: damaged or cut short; %s", n, what, r.Left(), r.Remedy)
		return 0
	}
	return n
}

// clone reads data into new memory, nil if it is empty.
func (r *reader) clone(what string) []byte {
	if b := r.Data32(what); len(b) > 0 {
		return bytes.Clone(b)
	}
	return nil
}
