package keytab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The first octet of every keytab, then its version.
const (
	magic    = 5
	version1 = 1
	version2 = 2
)

// A FormatError is why octets are not a keytab, and where.
type FormatError struct {
	Offset int    // octets from the start of the file
	Reason string // with the remedy
}

// Error gives offset and reason.
func (e *FormatError) Error() string {
	return fmt.Sprintf("keytab, byte %d: %s", e.Offset, e.Reason)
}

// Parse reads a keytab of version 1 or 2. Every error is a *FormatError; there
// are no keys beside one, so that a damaged file is noticed rather than half
// used. A file cut off between two entries cannot be told from a shorter one.
func Parse(b []byte) (*Keytab, error) {
	if len(b) < 2 || b[0] != magic || b[1] != version1 && b[1] != version2 {
		return nil, &FormatError{Reason: mistaken(b)}
	}
	if b[1] == version2 {
		return parse(b, version2, binary.BigEndian)
	}
	// Version 1 is in the writer's byte order, without saying in which. Read
	// in the wrong one, the length of the first record does not fit the file.
	keytab, err := parse(b, version1, binary.LittleEndian)
	if err == nil {
		return keytab, nil
	}
	if keytab, bigErr := parse(b, version1, binary.BigEndian); bigErr == nil {
		return keytab, nil
	} else if offset(bigErr) > offset(err) {
		return nil, bigErr
	}
	return nil, err
}

func offset(err error) int {
	var format *FormatError
	errors.As(err, &format)
	return format.Offset
}

// parse reads the records:
//
//	file   = 05 version *record
//	record = int32 length, length octets of entry
//	       | negative length, -length octets of hole
//	       | length 0: the end, whatever follows
func parse(b []byte, version byte, order binary.ByteOrder) (*Keytab, error) {
	keytab := new(Keytab)
	for at := 2; at < len(b); {
		start := at + 4
		if start > len(b) {
			return nil, cutShort(len(b), "the length of the record at byte %d has %d of 4 octets", at, len(b)-at)
		}
		size := int64(int32(order.Uint32(b[at:])))
		if size == 0 {
			break
		}
		hole := size < 0
		if hole {
			size = -size
		}
		if there := len(b) - start; size > int64(there) {
			return nil, cutShort(len(b), "the record at byte %d has %d octets, of which %d are there", at, size, there)
		}
		at = start + int(size)
		if hole {
			continue
		}
		r := reader{b: b[:at], at: start, order: order}
		entry := r.entry(version)
		if r.err != nil {
			return nil, r.err
		}
		keytab.Entries = append(keytab.Entries, entry)
	}
	return keytab, nil
}

func cutShort(at int, format string, args ...any) error {
	return &FormatError{at, "cut short: " + fmt.Sprintf(format, args...) + "; copy the file again, in binary mode"}
}

// A reader reads one entry and keeps the first error.
type reader struct {
	b     []byte // the file up to the end of the record
	at    int
	order binary.ByteOrder
	err   error
}

// entry reads
//
//	entry = u16 components (version 1: and one for the realm)
//	        data realm, *data component, u32 name type (not in version 1)
//	        u32 timestamp, u8 kvno, u16 etype, data key
//	        [u32 kvno, which counts unless 0] [u32 flags, of Heimdal's]
//	data  = u16 length, octets
//
// and ignores what follows: room that a longer entry left.
func (r *reader) entry(version byte) Entry {
	start := r.at
	count := int(r.uint16("number of name components"))
	if version == version1 {
		count--
	}
	if r.err == nil && (count < 1 || 2*count > len(r.b)-r.at) {
		r.fail(start, fmt.Sprintf("an entry with %d name components; the file is damaged", count))
	}
	e := Entry{Principal: messages.Principal{Name: messages.PrincipalName{NameType: messages.KRB_NT_PRINCIPAL}}}
	e.Principal.Realm = string(r.data("realm"))
	for i := 0; i < count && r.err == nil; i++ {
		e.Principal.Name.NameString = append(e.Principal.Name.NameString, string(r.data("name component")))
	}
	if version != version1 {
		e.Principal.Name.NameType = messages.NameType(int32(r.uint32("name type")))
	}
	if seconds := r.uint32("timestamp"); seconds != 0 {
		e.Timestamp = time.Unix(int64(seconds), 0).UTC()
	}
	e.KVNO = uint32(r.uint8("key version number"))
	etype := enctype.ID(int16(r.uint16("encryption type")))
	keyAt := r.at
	octets := r.data("key")
	if r.err != nil {
		return Entry{}
	}
	if len(r.b)-r.at >= 4 {
		if kvno := r.uint32("key version number"); kvno != 0 {
			e.KVNO = kvno
		}
	}
	key, err := enctype.NewKey(etype, octets)
	if err != nil {
		r.fail(keyAt, fmt.Sprintf("entry of %s: %v; make the keytab anew", e.Principal, err))
		return Entry{}
	}
	e.Key = key
	return e
}

func (r *reader) fail(at int, reason string) {
	if r.err == nil {
		r.err = &FormatError{at, reason}
	}
}

// next returns the next n octets, nil with r.err set if the record has fewer.
func (r *reader) next(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if there := len(r.b) - r.at; n > there {
		r.fail(r.at, fmt.Sprintf("the %s has %d octets, but its record only %d more; the file is damaged", what, n, there))
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) uint8(what string) uint8 {
	if b := r.next(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.next(2, what); b != nil {
		return r.order.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.next(4, what); b != nil {
		return r.order.Uint32(b)
	}
	return 0
}

func (r *reader) data(what string) []byte {
	return r.next(int(r.uint16("length of the "+what)), what)
}

// mistaken says what a file is that does not begin as a keytab does.
func mistaken(b []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(b) == 0:
		return "the file is empty, not a keytab"
	case len(b) == 1 && b[0] == magic:
		return "cut short after the first octet; copy the file again, in binary mode"
	case b[0] == magic && (b[1] == 3 || b[1] == 4):
		return fmt.Sprintf("keytab version %d does not exist: this may be a credential cache; name it as ccache", b[1])
	case b[0] == magic:
		return fmt.Sprintf("keytab version %d is not known, only 1 and 2 are", b[1])
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return "not a keytab but a PEM file"
	case bytes.HasPrefix(text, []byte("[")), bytes.HasPrefix(text, []byte("#")):
		return "not a keytab but a text; a krb5.conf?"
	case bytes.HasPrefix(text, []byte("BQI")), bytes.HasPrefix(text, []byte("BQE")):
		return "a keytab in base64: decode it first"
	}
	return fmt.Sprintf("not a keytab: begins with % x where 05 02 should be", b[:min(len(b), 8)])
}
