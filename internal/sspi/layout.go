package sspi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf16"
	"unsafe"
)

// handle is a CredHandle or a CtxtHandle.
type handle struct{ lower, upper uintptr }

func (h handle) isZero() bool { return h == handle{} }

// secBuffer is a SecBuffer.
type secBuffer struct {
	size uint32
	kind uint32
	data *byte
}

// The kinds of buffers.
const (
	bufferToken           = 2  // SECBUFFER_TOKEN
	bufferChannelBindings = 14 // SECBUFFER_CHANNEL_BINDINGS
)

// secBufferDesc is a SecBufferDesc. Its version is SECBUFFER_VERSION, zero.
type secBufferDesc struct {
	version uint32
	count   uint32
	buffers *secBuffer
}

// packageInfo is a SecPkgInfoW.
type packageInfo struct {
	capabilities uint32
	version      uint16
	rpcID        uint16
	maxToken     uint32
	name         *uint16
	comment      *uint16
}

// address is where the function that returned it has to free it.
func (i *packageInfo) address() *byte { return (*byte)(unsafe.Pointer(i)) }

// pointer is the size of a pointer, in bytes.
const pointer = unsafe.Sizeof(uintptr(0))

// The structs are laid out as C does it, on every architecture that this is compiled for.
var (
	_ [0]struct{} = [unsafe.Sizeof(handle{}) - 2*pointer]struct{}{}
	_ [0]struct{} = [unsafe.Sizeof(secBuffer{}) - (8 + pointer)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(secBuffer{}.data) - 8]struct{}{}
	_ [0]struct{} = [unsafe.Sizeof(secBufferDesc{}) - (8 + pointer)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(secBufferDesc{}.buffers) - 8]struct{}{}
	_ [0]struct{} = [unsafe.Sizeof(packageInfo{}) - (3*pointer + 8)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(packageInfo{}.name) - (8 + pointer)]struct{}{}
)

// bindingsHeader is the size of the fixed part of SEC_CHANNEL_BINDINGS, in bytes.
const bindingsHeader = 32

// appendBindings appends a SEC_CHANNEL_BINDINGS: eight numbers of 32 bits, then the data
// that the offsets, from the beginning, point to. There are no addresses, as in the bindings
// that tokens of our own carry (gss.NewChannelBindings).
//
//	dwInitiatorAddrType, cbInitiatorLength, dwInitiatorOffset
//	dwAcceptorAddrType, cbAcceptorLength, dwAcceptorOffset
//	cbApplicationDataLength, dwApplicationDataOffset
func appendBindings(dst []byte, applicationData string) []byte {
	dst = append(dst, make([]byte, 24)...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(applicationData)))
	dst = binary.LittleEndian.AppendUint32(dst, bindingsHeader)
	return append(dst, applicationData...)
}

// The messages of the Kerberos package (KERB_PROTOCOL_MESSAGE_TYPE).
const (
	queryTicketCache    = 1  // the tickets, without their client
	purgeTicketCache    = 6  // forget tickets
	queryTicketCacheEx2 = 20 // the tickets, with client and session key's type
)

// queryRequest is a KERB_QUERY_TKT_CACHE_REQUEST for the caller's own logon session: the
// message and a LUID of zero.
func queryRequest(message uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, message), make([]byte, 8)...)
}

// purgeRequest is a KERB_PURGE_TKT_CACHE_REQUEST for the caller's own logon session, with
// both names after it, to be placed at the address base. word is the size of a pointer. Both names empty would mean all
// tickets of the session, and are refused.
func purgeRequest(base uint64, word int, server, realm string) ([]byte, error) {
	if server == "" || realm == "" {
		return nil, errors.New("a ticket to be purged has no name")
	}
	names := [][]uint16{utf16.Encode([]rune(server)), utf16.Encode([]rune(realm))}
	fixed := 12 + (word - 4) + 2*(4+(word-4)+word)
	b := queryRequest(purgeTicketCache)
	b = append(b, make([]byte, word-4)...)
	at := base + uint64(fixed)
	for _, name := range names {
		if 2*len(name) > math.MaxUint16 {
			return nil, errors.New("the name of a ticket to be purged is too long")
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(2*len(name)))
		b = binary.LittleEndian.AppendUint16(b, uint16(2*len(name)))
		b = append(b, make([]byte, word-4)...)
		if word == 8 {
			b = binary.LittleEndian.AppendUint64(b, at)
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(at))
		}
		at += uint64(2 * len(name))
	}
	for _, name := range names {
		for _, unit := range name {
			b = binary.LittleEndian.AppendUint16(b, unit)
		}
	}
	return b, nil
}

// errCache is for an answer that is not a list of tickets.
var errCache = errors.New("malformed list of tickets from the local security authority")

// parseTickets reads the answer to a query: message, number of tickets, and for each a
// KERB_TICKET_CACHE_INFO or, with client, a KERB_TICKET_CACHE_INFO_EX2. base is where the
// answer is in memory, and word the size of a pointer: the names are in it by their address.
func parseTickets(b []byte, base uint64, word int, message uint32) ([]Ticket, error) {
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != message {
		return nil, errCache
	}
	names, size := 2, 2*2*word+32
	if message == queryTicketCacheEx2 {
		names, size = 4, 4*2*word+40
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-8)/uint64(size) {
		return nil, errCache
	}
	tickets := make([]Ticket, n)
	for i := range tickets {
		entry := b[8+i*size:][:size]
		text := make([]string, names)
		for j := range text {
			var err error
			if text[j], err = unicodeString(b, base, word, entry[j*2*word:]); err != nil {
				return nil, err
			}
		}
		tickets[i] = newTicket(text, entry[names*2*word:])
	}
	return tickets, nil
}

// newTicket reads what follows the names of an entry.
func newTicket(names []string, b []byte) Ticket {
	var t Ticket
	if len(names) == 4 {
		t.Client, t.ClientRealm, names = names[0], names[1], names[2:]
		t.SessionEType = int32(binary.LittleEndian.Uint32(b[32:]))
	}
	t.Server, t.ServerRealm = names[0], names[1]
	t.Start, t.End, t.RenewTill = fileTime(b), fileTime(b[8:]), fileTime(b[16:])
	t.EType, t.Flags = int32(binary.LittleEndian.Uint32(b[24:])), binary.LittleEndian.Uint32(b[28:])
	return t
}

// unicodeString reads the text of a UNICODE_STRING, which must be within b.
func unicodeString(b []byte, base uint64, word int, header []byte) (string, error) {
	size := uint64(binary.LittleEndian.Uint16(header))
	if size == 0 {
		return "", nil
	}
	at := uint64(binary.LittleEndian.Uint32(header[4:]))
	if word == 8 {
		at = binary.LittleEndian.Uint64(header[8:])
	}
	if at < base || at-base > uint64(len(b)) || size > uint64(len(b))-(at-base) || size%2 != 0 {
		return "", errCache
	}
	units := make([]uint16, size/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[at-base+2*uint64(i):])
	}
	return string(utf16.Decode(units)), nil
}

// epoch is 1970 in FILETIME: units of 100 ns since 1601.
const epoch = 116444736000000000

// fileTime reads a FILETIME in UTC; the zero time if there is none, or if it is out of the
// range of times in nanoseconds.
func fileTime(b []byte) time.Time {
	t := int64(binary.LittleEndian.Uint64(b)) - epoch
	if t <= 0 || t > math.MaxInt64/100 {
		return time.Time{}
	}
	return time.Unix(0, 100*t)
}

// text reads a string that ends with a zero, of at most limit units.
func text(p *uint16) string {
	const limit = 4096
	if p == nil {
		return ""
	}
	var units []uint16
	for i := range limit {
		unit := *(*uint16)(unsafe.Add(unsafe.Pointer(p), 2*i))
		if unit == 0 {
			break
		}
		units = append(units, unit)
	}
	return string(utf16.Decode(units))
}

// terminated returns s in UTF-16 with a zero at its end.
func terminated(s string) ([]uint16, error) {
	units := utf16.Encode([]rune(s))
	if slices.Contains(units, 0) {
		return nil, fmt.Errorf("%q has a zero in it", s)
	}
	return append(units, 0), nil
}
