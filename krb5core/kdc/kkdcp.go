package kdc

import (
	"encoding/binary"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// ProxyMessage is what a KDC proxy is sent and what it answers, [MS-KKDCP]
// section 2.2.2:
//
//	KDC-PROXY-MESSAGE ::= SEQUENCE {
//	    kerb-message  [0] OCTET STRING,
//	    target-domain [1] KERB-REALM OPTIONAL,
//	    dclocator-hint [2] INTEGER OPTIONAL
//	}
//
// The kerb-message holds the Kerberos message with its length before it, as on
// TCP.
type ProxyMessage struct {
	// Message is the Kerberos message, without its length.
	Message []byte
	// TargetDomain is the realm; empty if absent.
	TargetDomain string
	// DCLocatorHint are flags for the search of a domain controller, absent
	// unless HasDCLocatorHint.
	DCLocatorHint    int32
	HasDCLocatorHint bool
}

// Append appends the DER of the message.
func (m *ProxyMessage) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.Append(dst, der.Context(0), func(dst []byte) []byte {
			return der.Append(dst, der.TagOctetString, func(dst []byte) []byte {
				return appendFrame(dst, m.Message)
			})
		})
		if m.TargetDomain != "" {
			dst = der.AppendField(dst, 1, der.AppendGeneralString, m.TargetDomain)
		}
		if m.HasDCLocatorHint {
			dst = der.AppendField(dst, 2, der.AppendInt[int32], m.DCLocatorHint)
		}
		return dst
	})
}

// ParseProxyMessage reads the DER of a message. The result's Message shares
// memory with b.
func ParseProxyMessage(b []byte) (*ProxyMessage, error) {
	input := der.String(b)
	var m ProxyMessage
	var content der.String
	var framed []byte
	if !der.ReadSequence(&input, &content) || !input.Empty() ||
		!der.ReadField(&content, 0, der.ReadOctets, &framed) ||
		!der.ReadOptional(&content, 1, der.ReadGeneralString, &m.TargetDomain) {
		return nil, fmt.Errorf("KDC-PROXY-MESSAGE is malformed")
	}
	m.HasDCLocatorHint = der.Next(&content, der.Context(2))
	if !der.ReadOptional(&content, 2, der.ReadInt32[int32], &m.DCLocatorHint) || !der.SkipUnknown(&content, 2) {
		return nil, fmt.Errorf("KDC-PROXY-MESSAGE is malformed")
	}
	if len(framed) < frameLen {
		return nil, fmt.Errorf("kerb-message of %d octets is shorter than the length that it begins with", len(framed))
	}
	if n := binary.BigEndian.Uint32(framed); uint64(n) != uint64(len(framed)-frameLen) {
		return nil, fmt.Errorf("kerb-message announces %d octets but holds %d", n, len(framed)-frameLen)
	}
	m.Message = framed[frameLen:]
	return &m, nil
}
