package pac

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// PAC is what is read of a Privilege Attribute Certificate ([MS-PAC], Section 2.3).
type PAC struct {
	Client ClientInfo
	Logon  *LogonInfo // nil if there is none
	UPN    *UPNInfo   // nil if there is none

	raw                           []byte
	serverSignature, kdcSignature buffer
}

// ClientInfo is PAC_CLIENT_INFO, which ties a PAC to its ticket ([MS-PAC], Section 2.7).
type ClientInfo struct {
	AuthTime time.Time // of the client's login
	Name     string
}

// The types of buffers ([MS-PAC], Section 2.4).
const (
	typeLogonInfo       = 1
	typeServerSignature = 6
	typeKDCSignature    = 7
	typeClientInfo      = 10
	typeUPNInfo         = 12
)

// ErrMalformed is wrapped by the errors of a PAC that cannot be read.
var ErrMalformed = errors.New("malformed PAC")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// OfTicket returns the PAC of a ticket, verified: its server's signature is of the key that opened
// the ticket, and its client and login time are the ticket's. It returns nil, nil if the ticket has
// none. Two PACs are an error, because services would differ on which one counts.
func OfTicket(ticket *messages.EncTicketPart, key enctype.Key) (*PAC, error) {
	b, err := find(ticket.AuthorizationData)
	if b == nil || err != nil {
		return nil, err
	}
	p, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if err := p.verifySignature(key); err != nil {
		return nil, err
	}
	return p, p.verifyClient(ticket)
}

// find returns the only PAC in authorization data, inside of AD-IF-RELEVANT ([MS-PAC], Section
// 2.1) or not.
func find(data messages.AuthorizationData) (found []byte, err error) {
	for _, outer := range data {
		elements := messages.AuthorizationData{outer}
		if outer.Type == messages.AD_IF_RELEVANT {
			if elements, err = messages.ParseAuthorizationData(outer.Value); err != nil {
				return nil, malformed("AD-IF-RELEVANT: %w", err)
			}
		}
		for _, e := range elements {
			switch {
			case e.Type != messages.AD_WIN2K_PAC:
			case found != nil:
				return nil, malformed("the ticket has two")
			case len(e.Value) == 0:
				return nil, malformed("it is empty")
			default:
				found = e.Value
			}
		}
	}
	return found, nil
}

// buffer is a part of the PAC, by its place.
type buffer struct {
	kind       uint32
	start, end int
}

const (
	sizeHeader = 8
	sizeEntry  = 16
)

// Parse reads a PAC and verifies nothing. The result shares memory with b.
func Parse(b []byte) (*PAC, error) {
	buffers, err := readBuffers(b)
	if err != nil {
		return nil, err
	}
	p := &PAC{raw: b}
	seen := make(map[uint32]bool)
	for _, at := range buffers {
		content := b[at.start:at.end]
		switch at.kind {
		case typeLogonInfo:
			p.Logon, err = parseLogonInfo(content)
		case typeUPNInfo:
			p.UPN, err = parseUPNInfo(content)
		case typeClientInfo:
			p.Client, err = parseClientInfo(content)
		case typeServerSignature:
			p.serverSignature = at
		case typeKDCSignature:
			p.kdcSignature = at
		default:
			continue
		}
		if err == nil && seen[at.kind] {
			err = errors.New("there are two")
		}
		if err != nil {
			return nil, malformed("buffer %d: %w", at.kind, err)
		}
		seen[at.kind] = true
	}
	if !seen[typeServerSignature] || !seen[typeClientInfo] {
		return nil, malformed("no server signature, or no client")
	}
	return p, nil
}

// readBuffers reads the list of buffers ([MS-PAC], Section 2.3 and 2.4). No two overlap: what lies
// in a signature is not covered by it.
func readBuffers(b []byte) ([]buffer, error) {
	if len(b) < sizeHeader {
		return nil, malformed("%d bytes", len(b))
	}
	count, version := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if version != 0 || uint64(count) > uint64((len(b)-sizeHeader)/sizeEntry) {
		return nil, malformed("version %d, %d buffers in %d bytes", version, count, len(b))
	}
	begin := sizeHeader + sizeEntry*int(count)
	buffers := make([]buffer, count)
	for i := range buffers {
		entry := b[sizeHeader+sizeEntry*i:]
		kind, size, offset := binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint32(entry[4:]), binary.LittleEndian.Uint64(entry[8:])
		if offset < uint64(begin) || offset > uint64(len(b)) || uint64(size) > uint64(len(b))-offset || offset%8 != 0 {
			return nil, malformed("buffer %d is %d bytes at %d, of %d", kind, size, offset, len(b))
		}
		buffers[i] = buffer{kind, int(offset), int(offset) + int(size)}
	}
	slices.SortFunc(buffers, func(a, b buffer) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(buffers); i++ {
		if buffers[i].start < buffers[i-1].end {
			return nil, malformed("buffers %d and %d overlap", buffers[i-1].kind, buffers[i].kind)
		}
	}
	return buffers, nil
}

func parseClientInfo(b []byte) (ClientInfo, error) {
	const fixed = 10
	if len(b) < fixed {
		return ClientInfo{}, errShort
	}
	name, err := textAt(b, int(binary.LittleEndian.Uint16(b[8:])), fixed)
	return ClientInfo{AuthTime: fileTime(binary.LittleEndian.Uint64(b)), Name: name}, err
}

// fileTime is a FILETIME: units of 100 ns since 1601 ([MS-DTYP], Section 2.3.3).
func fileTime(t uint64) time.Time {
	const perSecond, until1970 = 10_000_000, 11_644_473_600
	return time.Unix(int64(t/perSecond)-until1970, int64(t%perSecond)*100).UTC()
}

// verifyClient compares the client with the ticket's ([MS-PAC], Section 2.7).
func (p *PAC) verifyClient(ticket *messages.EncTicketPart) error {
	name := strings.Join(ticket.CName.NameString, "/")
	if p.Client.Name != name || p.Client.AuthTime.Unix() != ticket.AuthTime.Unix() {
		return fmt.Errorf("PAC is of %q at %s, the ticket of %q at %s", p.Client.Name, p.Client.AuthTime.Format(time.RFC3339),
			name, ticket.AuthTime.UTC().Format(time.RFC3339))
	}
	return nil
}
