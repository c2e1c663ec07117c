package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// PACOptions are the bits of PA_PAC_OPTIONS. Bit 0 is the highest.
type PACOptions uint32

// The bits of PACOptions ([MS-KILE], Section 2.2.10, [MS-SFU], Section 2.2.5).
const (
	PAC_OPTIONS_CLAIMS                                PACOptions = 0x80000000
	PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION PACOptions = 0x10000000
)

func (o PACOptions) String() string {
	return flagNames(uint32(o), map[int]string{
		0: "claims", 1: "branch-aware", 2: "forward-to-full-dc", 3: "resource-based-constrained-delegation",
	})
}

// ParsePACOptions reads a PA-PAC-OPTIONS.
//
//	PA-PAC-OPTIONS ::= SEQUENCE {
//	        flags           [0] KerberosFlags
//	}
//
// ([MS-KILE], Section 2.2.10)
func ParsePACOptions(b []byte) (PACOptions, error) {
	return parseValue(b, "PA-PAC-OPTIONS", codePACOptions)
}

func (o PACOptions) Marshal() []byte { return der.AppendCoded(nil, codePACOptions, &o) }

func codePACOptions(c *der.Codec, o *PACOptions) {
	c.Sequence(func() {
		der.Field(c, 0, der.Flags, o)
	})
}
