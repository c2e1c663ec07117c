package pac

import "encoding/binary"

// UPNInfo is UPN_DNS_INFO ([MS-PAC], Section 2.10).
type UPNInfo struct {
	UPN           string // the account's user principal name
	DNSDomainName string
	Constructed   bool // the account has no UPN of its own: it is the account's name and the domain's

	// Of newer domain controllers.
	SAMName string // sAMAccountName, "" if absent
	SID     SID    // the account's, "" if absent
}

// The flags of UPN_DNS_INFO.
const (
	upnConstructed = 1
	upnExtended    = 2
)

func parseUPNInfo(b []byte) (*UPNInfo, error) {
	const fixed, extended = 12, 20
	if len(b) < fixed {
		return nil, errShort
	}
	size := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	flags := binary.LittleEndian.Uint32(b[8:])
	info := &UPNInfo{Constructed: flags&upnConstructed != 0}
	var err error
	if info.UPN, err = textAt(b, size(0), size(2)); err != nil {
		return nil, err
	}
	if info.DNSDomainName, err = textAt(b, size(4), size(6)); err != nil {
		return nil, err
	}
	if flags&upnExtended == 0 {
		return info, nil
	}
	if len(b) < extended {
		return nil, errShort
	}
	if info.SAMName, err = textAt(b, size(12), size(14)); err != nil {
		return nil, err
	}
	length, offset := size(16), size(18)
	if offset > len(b) || length > len(b)-offset {
		return nil, errShort
	}
	info.SID, err = parseSID(b[offset : offset+length])
	return info, err
}
