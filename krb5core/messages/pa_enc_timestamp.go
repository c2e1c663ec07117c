package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PAEncTSEnc is the time, which a client encrypts to show that it knows its key: the inside of
// PA_ENC_TIMESTAMP (RFC 4120, Section 5.2.7.2) and of PA_ENCRYPTED_CHALLENGE, both ways (RFC 6113,
// Section 5.4.6).
//
//	PA-ENC-TS-ENC           ::= SEQUENCE {
//	        patimestamp     [0] KerberosTime -- client's time --,
//	        pausec          [1] Microseconds OPTIONAL
//	}
//
// (RFC 4120, Section 5.2.7.2)
type PAEncTSEnc struct {
	PATimestamp time.Time
	PAUSec      int32 // microseconds, 0 to 999999; always written
}

// NewPAEncTSEnc is the encoding of a time.
func NewPAEncTSEnc(now time.Time) PAEncTSEnc {
	return PAEncTSEnc{now.UTC().Truncate(time.Second), int32(now.Nanosecond() / 1000)}
}

func ParsePAEncTSEnc(b []byte) (*PAEncTSEnc, error) {
	return parsePadded(b, "PA-ENC-TS-ENC", codePAEncTSEnc)
}

func (p PAEncTSEnc) Marshal() []byte { return der.AppendCoded(nil, codePAEncTSEnc, &p) }

func codePAEncTSEnc(c *der.Codec, p *PAEncTSEnc) {
	c.Sequence(func() {
		der.Field(c, 0, der.Time, &p.PATimestamp)
		der.Optional(c, 1, true, der.Int32, &p.PAUSec)
	})
}
