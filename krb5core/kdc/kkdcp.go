package kdc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// ProxyMessage is the message to and from a KDC proxy, [MS-KKDCP],
// Section 2.2.2:
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
}

// Append appends the DER of the message.
func (m *ProxyMessage) Append(dst []byte) []byte {
	w := proxyMessage{framed: appendFrame(nil, m.Message), domain: m.TargetDomain}
	return der.AppendCoded(dst, codeProxyMessage, &w)
}

type proxyMessage struct {
	framed []byte
	domain string
	hint   int32 // for the proxy's search of a domain controller; not used
}

func codeProxyMessage(c *der.Codec, m *proxyMessage) {
	c.Sequence(func() {
		der.Field(c, 0, der.Octets, &m.framed)
		der.Optional(c, 1, m.domain != "", der.GeneralString, &m.domain)
		der.Optional(c, 2, false, der.Int32, &m.hint)
	})
}

// ParseProxyMessage reads the DER of a message. The result's Message shares
// memory with b.
func ParseProxyMessage(b []byte) (*ProxyMessage, error) {
	input := der.String(b)
	var m proxyMessage
	if !der.ReadCoded(&input, codeProxyMessage, &m) || !input.Empty() {
		return nil, errors.New("KDC-PROXY-MESSAGE is malformed")
	}
	framed := m.framed
	if len(framed) < frameLen {
		return nil, fmt.Errorf("kerb-message of %d bytes is shorter than the length that it begins with", len(framed))
	}
	if n := binary.BigEndian.Uint32(framed); uint64(n) != uint64(len(framed)-frameLen) {
		return nil, fmt.Errorf("kerb-message announces %d bytes but holds %d", n, len(framed)-frameLen)
	}
	return &ProxyMessage{Message: framed[frameLen:], TargetDomain: m.domain}, nil
}
