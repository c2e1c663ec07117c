package accept

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// The header of a MIC token (RFC 4121, Section 4.2.6.1): TOK_ID, flags, filler, sequence number.
const (
	micHeader         = 16
	micSentByAcceptor = 1
	micAcceptorSubkey = 4
)

var errMIC = errors.New("not a MIC token of RFC 4121")

// verifyMIC verifies that the list of mechanisms was not changed on its way, if the client
// says what it has sent. A client whose first choice is Kerberos need not (RFC 4178,
// Section 5).
func (x *exchange) verifyMIC() *Error {
	if x.offer.mic == nil {
		return nil
	}
	if err := verifyMIC(x.initiatorKey(), x.offer.mic, x.offer.mechTypes); err != nil {
		return because(BadMIC, err)
	}
	return nil
}

// initiatorKey is the key of the context as long as the acceptor has not set another (RFC 4121,
// Section 2).
func (x *exchange) initiatorKey() enctype.Key {
	if x.auth.Subkey.IsZero() {
		return x.ticket.Key
	}
	return x.auth.Subkey
}

// verifyMIC verifies a MIC of the initiator with its own key.
func verifyMIC(key enctype.Key, mic, data []byte) error {
	if len(mic) < micHeader || !bytes.Equal(mic[:8], appendMICHeader(nil, 0, 0)[:8]) || key.EType().Weak() {
		return errMIC
	}
	signed := slices.Concat(data, mic[:micHeader])
	return key.VerifyChecksum(key.ChecksumType(), enctype.KG_USAGE_INITIATOR_SIGN, signed, mic[micHeader:])
}

// makeMIC returns a MIC of the acceptor.
func makeMIC(key enctype.Key, flags byte, sequence uint32, data []byte) ([]byte, error) {
	header := appendMICHeader(nil, micSentByAcceptor|flags, sequence)
	sum, err := key.Checksum(enctype.KG_USAGE_ACCEPTOR_SIGN, slices.Concat(data, header))
	return append(header, sum...), err
}

func appendMICHeader(dst []byte, flags byte, sequence uint32) []byte {
	dst = append(dst, 4, 4, flags, 0xff, 0xff, 0xff, 0xff, 0xff)
	return binary.BigEndian.AppendUint64(dst, uint64(sequence))
}
