package messages

import (
	"fmt"
	"net/netip"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// AddrType is the type of a host address.
type AddrType int32

// The address types of RFC 4120, Section 7.5.3 that are met today.
const (
	ADDRTYPE_IPV4    AddrType = 2
	ADDRTYPE_NETBIOS AddrType = 20
	ADDRTYPE_IPV6    AddrType = 24
)

// HostAddress is an address that a ticket may be used from.
//
//	HostAddress ::= SEQUENCE  {
//	        addr-type       [0] Int32,
//	        address         [1] OCTET STRING
//	}
//
// (RFC 4120, Section 5.2.5)
type HostAddress struct {
	AddrType AddrType
	Address  []byte
}

// String is the address in its usual notation, or type and bytes.
func (a HostAddress) String() string {
	if ip, ok := netip.AddrFromSlice(a.Address); ok && (a.AddrType == ADDRTYPE_IPV4 || a.AddrType == ADDRTYPE_IPV6) {
		return ip.String()
	}
	return fmt.Sprintf("%d:%x", a.AddrType, a.Address)
}

func codeHostAddress(c *der.Codec, a *HostAddress) { codeTyped(c, 0, &a.AddrType, &a.Address) }

func codeHostAddresses(c *der.Codec, list *[]HostAddress) { der.List(c, codeHostAddress, list) }
