package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// TDDHParameters lists, in the KDC's order of preference, the Diffie-Hellman parameters that it
// accepts. KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED carries it.
//
//	TD-DH-PARAMETERS ::= SEQUENCE OF AlgorithmIdentifier
//
// (RFC 4556, Section 3.1.3)
type TDDHParameters []AlgorithmIdentifier

// ParseTDDHParameters reads the value of TD_DH_PARAMETERS.
func ParseTDDHParameters(b []byte) (TDDHParameters, error) {
	return parseValue(b, "TD-DH-PARAMETERS", codeTDDHParameters)
}

func (t TDDHParameters) Marshal() []byte { return der.AppendCoded(nil, codeTDDHParameters, &t) }

func codeTDDHParameters(c *der.Codec, t *TDDHParameters) { der.List(c, CodeAlgorithmIdentifier, t) }
