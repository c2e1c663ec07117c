package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PACOptions are the bits of PA_PAC_OPTIONS. Bit 0 is the highest.
type PACOptions uint32

// The bits of PACOptions ([MS-KILE] 2.2.10, [MS-SFU] 2.2.5).
const (
	PAC_OPTIONS_CLAIMS                                PACOptions = 0x80000000
	PAC_OPTIONS_BRANCH_AWARE                          PACOptions = 0x40000000
	PAC_OPTIONS_FORWARD_TO_FULL_DC                    PACOptions = 0x20000000
	PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION PACOptions = 0x10000000
)

// String lists the bits by name.
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
// ([MS-KILE] 2.2.10)
func ParsePACOptions(b []byte) (PACOptions, error) {
	o, err := parse(b, "PA-PAC-OPTIONS", readPACOptions)
	if err != nil {
		return 0, err
	}
	return *o, nil
}

// Append appends the encoding of a PA-PAC-OPTIONS.
func (o PACOptions) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		return der.AppendField(dst, 0, der.AppendFlags, o)
	})
}

// Marshal returns the encoding of a PA-PAC-OPTIONS.
func (o PACOptions) Marshal() []byte { return o.Append(nil) }

func readPACOptions(s *der.String, o *PACOptions) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) && der.ReadField(&seq, 0, der.ReadFlags, o) && der.SkipUnknown(&seq, 0)
}

// PACRequest says whether a ticket shall have a PAC.
//
//	KERB-PA-PAC-REQUEST ::= SEQUENCE {
//	        include-pac     [0] BOOLEAN
//	}
//
// ([MS-KILE] 2.2.3)
type PACRequest struct {
	IncludePAC bool
}

// ParsePACRequest reads a KERB-PA-PAC-REQUEST.
func ParsePACRequest(b []byte) (*PACRequest, error) {
	return parse(b, "KERB-PA-PAC-REQUEST", readPACRequest)
}

// Append appends the DER encoding.
func (r PACRequest) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		return der.AppendField(dst, 0, der.AppendBool, r.IncludePAC)
	})
}

// Marshal returns the DER encoding.
func (r PACRequest) Marshal() []byte { return r.Append(nil) }

func readPACRequest(s *der.String, r *PACRequest) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) && der.ReadField(&seq, 0, der.ReadBool, &r.IncludePAC) && der.SkipUnknown(&seq, 0)
}
