package keytab

import (
	"encoding/binary"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/internal/filefmt"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	format   = "keytab"
	version1 = 1
	version2 = 2
)

// A FormatError reports why bytes are not a keytab, and where.
type FormatError = filefmt.FormatError

// Parse reads a keytab of version 1 or 2. Every error is a *FormatError; there
// are no keys beside one, so that a damaged file is noticed rather than half
// used. A file cut off between two entries cannot be told from a shorter one.
func Parse(b []byte) (*Keytab, error) {
	if len(b) < 2 || b[0] != filefmt.Magic || b[1] != version1 && b[1] != version2 {
		return nil, &FormatError{Format: format, Reason: mistaken(b)}
	}
	var keytab *Keytab
	var err *FormatError
	if b[1] == version2 {
		keytab, err = parse(b, version2, binary.BigEndian)
	} else {
		keytab, err = filefmt.EitherOrder(func(order binary.ByteOrder) (*Keytab, *FormatError) {
			return parse(b, version1, order)
		})
	}
	if err != nil {
		return nil, err
	}
	return keytab, nil
}

// parse reads the records:
//
//	file   = 05 version *record
//	record = int32 length, length bytes of entry
//	       | negative length, -length bytes of hole
//	       | length 0: the end, whatever follows
func parse(b []byte, version byte, order binary.ByteOrder) (*Keytab, *FormatError) {
	keytab := new(Keytab)
	r := reader{filefmt.Reader{Format: format, Bytes: b, At: 2, Order: order}}
	for r.At < len(b) {
		start := r.At
		r.Bytes, r.Remedy = b, "copy the file again, in binary mode"
		size := int64(int32(r.Uint32(fmt.Sprintf("length of the record at byte %d", start))))
		if r.Err == nil && size == 0 {
			break
		}
		record := r.Next(uint32(max(size, -size)), fmt.Sprintf("record at byte %d", start))
		if r.Err == nil && size > 0 {
			r.At -= len(record)
			r.Bytes, r.Remedy = b[:r.At+len(record)], "the file is damaged"
			keytab.Entries = append(keytab.Entries, r.entry(version))
			r.At = len(r.Bytes)
		}
		if r.Err != nil {
			return nil, r.Err
		}
	}
	return keytab, nil
}

type reader struct{ filefmt.Reader }

// entry reads
//
//	entry = u16 components (version 1: and one for the realm)
//	        data realm, *data component, u32 name type (not in version 1)
//	        u32 timestamp, u8 kvno, u16 etype, data key
//	        [u32 kvno, which counts unless 0] [u32 flags, by Heimdal]
//	data  = u16 length, bytes
//
// and ignores what follows: space that a longer entry left.
func (r *reader) entry(version byte) Entry {
	start := r.At
	count := int(r.Uint16("number of name components"))
	if version == version1 {
		count--
	}
	if count < 1 || 2*count > r.Left() {
		r.Fail(start, "an entry with %d name components; the file is damaged", count)
	}
	e := Entry{Principal: messages.Principal{Name: messages.PrincipalName{NameType: messages.KRB_NT_PRINCIPAL}}}
	e.Principal.Realm = string(r.Data16("realm"))
	for i := 0; i < count && r.Err == nil; i++ {
		e.Principal.Name.NameString = append(e.Principal.Name.NameString, string(r.Data16("name component")))
	}
	if version != version1 {
		e.Principal.Name.NameType = messages.NameType(int32(r.Uint32("name type")))
	}
	e.Timestamp = r.Time("timestamp")
	e.KVNO = uint32(r.Uint8("key version number"))
	etype := enctype.ID(int16(r.Uint16("encryption type")))
	keyAt := r.At
	keyBytes := r.Data16("key")
	if r.Err != nil {
		return Entry{}
	}
	if r.Left() >= 4 {
		if kvno := r.Uint32("key version number"); kvno != 0 {
			e.KVNO = kvno
		}
	}
	key, err := enctype.NewKey(etype, keyBytes)
	if err != nil {
		r.Fail(keyAt, "entry of %s: %v; create the keytab again", e.Principal, err)
		return Entry{}
	}
	e.Key = key
	return e
}

func mistaken(b []byte) string {
	if len(b) > 1 && b[0] == filefmt.Magic && (b[1] == 3 || b[1] == 4) {
		return fmt.Sprintf("keytab version %d does not exist: this may be a credential cache; configure it as ccache", b[1])
	}
	return filefmt.Mistaken(b, format, [2]byte{filefmt.Magic, version2}, "BQI", "BQE")
}
