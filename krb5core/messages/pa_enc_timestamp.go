package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PAEncTSEnc is the time, which a client encrypts to show that it knows its key: the inside of PA_ENC_TIMESTAMP
// (RFC 4120 5.2.7.2) and of PA_ENCRYPTED_CHALLENGE, both ways (RFC 6113 5.4.6).
//
//	PA-ENC-TS-ENC           ::= SEQUENCE {
//	        patimestamp     [0] KerberosTime -- client's time --,
//	        pausec          [1] Microseconds OPTIONAL
//	}
//
// (RFC 4120 5.2.7.2)
type PAEncTSEnc struct {
	PATimestamp time.Time
	PAUSec      int32 // microseconds, 0 to 999999; always written
}

// NewPAEncTSEnc is the encoding of a time.
func NewPAEncTSEnc(now time.Time) PAEncTSEnc {
	return PAEncTSEnc{now.UTC().Truncate(time.Second), int32(now.Nanosecond() / 1000)}
}

// ParsePAEncTSEnc reads a PA-ENC-TS-ENC from a decrypted plaintext, padding and all.
func ParsePAEncTSEnc(b []byte) (*PAEncTSEnc, error) {
	return parsePadded(b, "PA-ENC-TS-ENC", readPAEncTSEnc)
}

// Append appends the DER encoding.
func (p PAEncTSEnc) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendTime, p.PATimestamp)
		return der.AppendField(dst, 1, der.AppendInt, p.PAUSec)
	})
}

// Marshal returns the DER encoding.
func (p PAEncTSEnc) Marshal() []byte { return p.Append(nil) }

func readPAEncTSEnc(s *der.String, p *PAEncTSEnc) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadTime, &p.PATimestamp) &&
		der.ReadOptional(&seq, 1, der.ReadInt32, &p.PAUSec) &&
		der.SkipUnknown(&seq, 1)
}
