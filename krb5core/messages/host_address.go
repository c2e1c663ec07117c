package messages

import (
	"fmt"
	"net/netip"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// AddrType is the type of a host address.
type AddrType int32

// The address types of RFC 4120 7.5.3 that are met today.
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
// (RFC 4120 5.2.5)
type HostAddress struct {
	AddrType AddrType
	Address  []byte
}

// NewHostAddress is the Kerberos form of an IP address.
func NewHostAddress(ip netip.Addr) HostAddress {
	ip = ip.Unmap()
	t := ADDRTYPE_IPV6
	if ip.Is4() {
		t = ADDRTYPE_IPV4
	}
	return HostAddress{t, ip.AsSlice()}
}

// String is the address in its usual notation, or type and octets.
func (a HostAddress) String() string {
	if ip, ok := netip.AddrFromSlice(a.Address); ok && (a.AddrType == ADDRTYPE_IPV4 || a.AddrType == ADDRTYPE_IPV6) {
		return ip.String()
	}
	return fmt.Sprintf("%d:%x", a.AddrType, a.Address)
}

// Append appends the DER encoding.
func (a HostAddress) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, a.AddrType)
		return der.AppendField(dst, 1, der.AppendOctetString, a.Address)
	})
}

func readHostAddress(s *der.String, a *HostAddress) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &a.AddrType) &&
		der.ReadField(&seq, 1, der.ReadOctets, &a.Address) &&
		der.SkipUnknown(&seq, 1)
}

// readHostAddresses reads HostAddresses ::= SEQUENCE OF HostAddress.
func readHostAddresses(s *der.String, list *[]HostAddress) bool {
	return der.ReadSequenceOf(readHostAddress)(s, list)
}

// appendOptionalAddresses writes HostAddresses under [n] unless the list is nil.
func appendOptionalAddresses(dst []byte, n uint8, list []HostAddress) []byte {
	if list == nil {
		return dst
	}
	return der.AppendField(dst, n, der.AppendSequenceOf(der.AppendValue[HostAddress]), list)
}
