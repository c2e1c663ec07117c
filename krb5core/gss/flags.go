package gss

// Flags are the context flags that an initiator requests, as in the checksum (RFC 4121, Section
// 4.1.1.1).
type Flags uint32

// The flags of RFC 4121, Section 4.1.1.1 and [MS-KILE] 3.2.1, spelt as GSS-API does.
const (
	GSS_C_DELEG_FLAG          Flags = 1      // a ticket of the client is delegated
	GSS_C_MUTUAL_FLAG         Flags = 2      // the acceptor authenticates itself with an AP-REP
	GSS_C_REPLAY_FLAG         Flags = 4      // replayed messages are to be detected
	GSS_C_SEQUENCE_FLAG       Flags = 8      // messages out of order are to be detected
	GSS_C_CONF_FLAG           Flags = 16     // confidentiality is available
	GSS_C_INTEG_FLAG          Flags = 32     // integrity is available
	GSS_C_DCE_STYLE           Flags = 0x1000 // three legs
	GSS_C_IDENTIFY_FLAG       Flags = 0x2000 // the acceptor may identify the client, not impersonate it
	GSS_C_EXTENDED_ERROR_FLAG Flags = 0x4000 // an NTSTATUS is requested in a KRB-ERROR
)
