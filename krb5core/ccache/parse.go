package ccache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The first octet of every credential cache; its version follows.
const magic = 5

// A FormatError is why octets are not a credential cache, and where.
type FormatError struct {
	Offset int    // octets from the start of the file
	Reason string // with the remedy
}

// Error gives offset and reason.
func (e *FormatError) Error() string {
	return fmt.Sprintf("credential cache, byte %d: %s", e.Offset, e.Reason)
}

// Parse reads a credential cache of version 1 to 4. Every error is a
// *FormatError; there are no credentials beside one. A file cut off between two
// credentials cannot be told from a shorter one: the format neither counts nor
// ends them.
func Parse(b []byte) (*CCache, error) {
	if len(b) < 2 || b[0] != magic || b[1] < 1 || b[1] > 4 {
		return nil, &FormatError{Reason: mistaken(b)}
	}
	version := int(b[1])
	if version >= 3 {
		return parse(b, version, binary.BigEndian)
	}
	// Versions 1 and 2 are in the writer's byte order, without saying in
	// which. Read in the wrong one, the first lengths do not fit the file.
	cache, err := parse(b, version, binary.LittleEndian)
	if err == nil {
		return cache, nil
	}
	cache, bigErr := parse(b, version, binary.BigEndian)
	if bigErr == nil {
		return cache, nil
	}
	if offset(bigErr) > offset(err) {
		err = bigErr
	}
	return nil, &FormatError{offset(err), reason(err) + " (a keytab begins alike: if this is one, name it as keytab)"}
}

func offset(err error) int {
	var format *FormatError
	errors.As(err, &format)
	return format.Offset
}

func reason(err error) string {
	var format *FormatError
	errors.As(err, &format)
	return format.Reason
}

// parse reads
//
//	file = 05 version [header] principal *credential
func parse(b []byte, version int, order binary.ByteOrder) (*CCache, error) {
	r := &reader{b: b, at: 2, order: order, version: version}
	cache := &CCache{Version: version, Config: make(map[ConfigKey][]byte)}
	if version == 4 {
		cache.KDCOffset = r.header()
	}
	cache.DefaultPrincipal = r.principal("default principal")
	for r.err == nil && r.at < len(b) {
		cred, removed := r.credential()
		if r.err != nil || removed {
			continue
		}
		if key, ok := configKey(&cred); ok {
			cache.Config[key] = cred.Ticket
			continue
		}
		cache.Credentials = append(cache.Credentials, cred)
	}
	if r.err != nil {
		return nil, r.err
	}
	return cache, nil
}

// tagDeltaTime is the only header field there is.
const tagDeltaTime = 1

// header reads the fields of version 4 for the offset of the KDC's clock:
//
//	header    = u16 length, *field
//	field     = u16 tag, u16 length, octets
//	DeltaTime = int32 seconds, int32 microseconds
func (r *reader) header() time.Duration {
	start := r.at
	block := r.next(int(r.uint16("length of the header")), "header")
	if r.err != nil {
		return 0
	}
	var delta time.Duration
	fields := reader{b: r.b[:r.at], at: r.at - len(block), order: r.order}
	for fields.err == nil && fields.at < len(fields.b) {
		tag := fields.uint16("tag of a header field")
		value := fields.next(int(fields.uint16("length of a header field")), "header field")
		if tag != tagDeltaTime || fields.err != nil {
			continue
		}
		if len(value) != 8 {
			r.fail(start, fmt.Sprintf("the time offset in the header has %d octets, not 8; the file is damaged", len(value)))
			return 0
		}
		seconds, micros := int32(r.order.Uint32(value)), int32(r.order.Uint32(value[4:]))
		delta = time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond
	}
	if fields.err != nil {
		r.err = fields.err
	}
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
		p.Name.NameType = messages.NameType(int32(r.uint32("name type of the " + what)))
	}
	count := int64(r.count("components of the "+what, 4))
	if r.version == 1 {
		if count--; count < 0 {
			r.fail(r.at, "the "+what+" has no realm; the file is damaged")
		}
	}
	p.Realm = string(r.data("realm of the " + what))
	for ; count > 0 && r.err == nil; count-- {
		p.Name.NameString = append(p.Name.NameString, string(r.data("name of the "+what)))
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
	start := r.at
	c.Client = r.principal("client")
	c.Service = r.principal("service")
	etype := r.uint16("encryption type")
	if r.version == 3 {
		etype = r.uint16("encryption type")
	}
	keyAt := r.at
	octets := r.data("session key")
	auth := r.uint32("authtime")
	c.AuthTime = fromUnix(auth)
	c.StartTime = fromUnix(r.uint32("starttime"))
	end := r.uint32("endtime")
	c.EndTime = fromUnix(end)
	c.RenewTill = fromUnix(r.uint32("renew-till"))
	c.IsSKey = r.uint8("is-skey") != 0
	c.Flags = messages.TicketFlags(r.uint32("flags"))
	for n := r.count("addresses", 6); n > 0 && r.err == nil; n-- {
		t := messages.AddrType(int16(r.uint16("address type")))
		c.Addresses = append(c.Addresses, messages.HostAddress{AddrType: t, Address: r.clone("address")})
	}
	for n := r.count("authorization data", 6); n > 0 && r.err == nil; n-- {
		t := messages.ADType(int16(r.uint16("authorization data type")))
		c.AuthData = append(c.AuthData, messages.AuthorizationDataElement{Type: t, Value: r.clone("authorization data")})
	}
	c.Ticket = r.clone("ticket")
	c.SecondTicket = r.clone("second ticket")
	if r.err != nil {
		r.err.Reason += fmt.Sprintf(" (in the credential at byte %d)", start)
		return messages.Credential{}, false
	}
	key, err := enctype.NewKey(enctype.ID(int16(etype)), octets)
	if err != nil {
		r.fail(keyAt, fmt.Sprintf("session key for %s: %v; the file is damaged", c.Service, err))
	}
	c.Key = key
	return c, auth == removedAuthTime && end == 0 || c.Service.Realm == confRealmRemoved
}

func fromUnix(seconds uint32) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// mistaken says what a file is that does not begin as a credential cache does.
func mistaken(b []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(b) == 0:
		return "the file is empty, not a credential cache"
	case len(b) == 1 && b[0] == magic:
		return "cut short after the first octet; is it being written?"
	case b[0] == magic:
		return fmt.Sprintf("credential cache version %d is not known, only 1 to 4 are", b[1])
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return "not a credential cache but a PEM file"
	case bytes.HasPrefix(text, []byte("[")), bytes.HasPrefix(text, []byte("#")):
		return "not a credential cache but a text; a krb5.conf?"
	case bytes.HasPrefix(text, []byte("BQQ")), bytes.HasPrefix(text, []byte("BQM")):
		return "a credential cache in base64: decode it first"
	}
	return fmt.Sprintf("not a credential cache: begins with % x where 05 04 should be", b[:min(len(b), 8)])
}
