package gss

import (
	"fmt"
	"strings"
)

// Flags are the context flags that an initiator asks for, as they stand in the checksum (RFC 4121 4.1.1.1).
type Flags uint32

// The flags of RFC 4121 4.1.1.1 and [MS-KILE] 3.2.1, spelt as GSS-API does.
const (
	GSS_C_DELEG_FLAG          Flags = 1      // a ticket of the client's is delegated
	GSS_C_MUTUAL_FLAG         Flags = 2      // the acceptor is to prove itself with an AP-REP
	GSS_C_REPLAY_FLAG         Flags = 4      // replayed messages are to be detected
	GSS_C_SEQUENCE_FLAG       Flags = 8      // messages out of order are to be detected
	GSS_C_CONF_FLAG           Flags = 16     // confidentiality is available
	GSS_C_INTEG_FLAG          Flags = 32     // integrity is available
	GSS_C_DCE_STYLE           Flags = 0x1000 // three legs
	GSS_C_IDENTIFY_FLAG       Flags = 0x2000 // the acceptor may identify the client, not act for it
	GSS_C_EXTENDED_ERROR_FLAG Flags = 0x4000 // an NTSTATUS is wanted in a KRB-ERROR
)

// String lists the flags' names in lower case.
func (f Flags) String() string {
	names := []string{"deleg", "mutual", "replay", "sequence", "conf", "integ"}
	high := map[Flags]string{
		GSS_C_DCE_STYLE: "dce-style", GSS_C_IDENTIFY_FLAG: "identify", GSS_C_EXTENDED_ERROR_FLAG: "extended-error",
	}
	var list []string
	for bit := Flags(1); bit != 0; bit <<= 1 {
		switch name, known := high[bit]; {
		case f&bit == 0:
		case known:
			list = append(list, name)
		case bit <= GSS_C_INTEG_FLAG:
			list = append(list, names[len(fmt.Sprintf("%b", bit))-1])
		default:
			list = append(list, fmt.Sprintf("0x%x", uint32(bit)))
		}
	}
	return strings.Join(list, ",")
}
