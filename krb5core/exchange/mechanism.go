package exchange

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// mechanism is a kind of pre-authentication (RFC 6113, Section 2). The AS machine uses the first of
// its list that the KDC offers.
type mechanism struct {
	padata  messages.PADataType // by which METHOD-DATA offers it
	assumed bool                // assumed of a KDC that offers nothing
	rounds  bool                // may take several rounds
	respond func(challenge) (response, error)
	// verify checks the KDC's proof in the reply that it has the client's key too; nil if the
	// mechanism has none.
	verify func(armor, key enctype.Key, padata messages.MethodData) error
}

type challenge struct {
	key   enctype.Key // the client's, of the type and salt that the KDC named
	armor enctype.Key // of FAST, zero without
	value []byte      // of the mechanism's element in METHOD-DATA, nil if unasked
	said  []byte      // what the client sent before, if this is the reply to it
	round int         // how often the KDC has replied
	body  []byte      // the KDC-REQ-BODY of the request
	nonce uint32      // in it
	now   time.Time   // the KDC's time as far as known
	rand  io.Reader
}

type response struct {
	padata   messages.MethodData
	proves   bool        // shows a key to the KDC: a wrong one counts towards lockout
	said     []byte      // to be passed with the next challenge, if one follows
	replyKey enctype.Key // of the reply that follows, zero for the client's

	agreement *pkinit.KeyPair // by which the reply is to be opened, nil for a key
}

// encryptedTime proves the key by encrypting the KDC's time with it.
func (c challenge) encryptedTime(padata messages.PADataType, key enctype.Key, usage enctype.Usage) (response, error) {
	cipher, err := key.Encrypt(c.rand, usage, messages.NewPAEncTSEnc(c.now).Marshal())
	if err != nil {
		return response{}, fmt.Errorf("encrypting the time: %w", err)
	}
	value := messages.EncryptedData{EType: key.EType(), Cipher: cipher}.Marshal()
	return response{padata: messages.MethodData{{Type: padata, Value: value}}, proves: true}, nil
}

// PreAuthError means that the KDC requires a kind of pre-authentication that is not supported. It
// is final.
type PreAuthError struct {
	Offered []messages.PADataType
}

func (e *PreAuthError) Error() string {
	return fmt.Sprintf("the KDC offers no pre-authentication that is supported, only %v", e.Offered)
}

// choose returns the first mechanism of the list that METHOD-DATA offers, with its value. If the
// KDC offers nothing at all, it is the one that every KDC supports.
func choose(list []mechanism, offer messages.MethodData) (mechanism, []byte, error) {
	for _, m := range list {
		if value, ok := offer.Find(m.padata); ok {
			return m, value, nil
		}
	}
	if len(offer) == 0 {
		m, err := unasked(list, 0)
		return m, nil, err
	}
	e := &PreAuthError{}
	for _, p := range offer {
		e.Offered = append(e.Offered, p.Type)
	}
	return mechanism{}, nil, e
}

// unasked returns the mechanism that was used before, or the one that most KDCs support.
func unasked(list []mechanism, before messages.PADataType) (mechanism, error) {
	if i := slices.IndexFunc(list, func(m mechanism) bool { return m.padata == before }); i >= 0 {
		return list[i], nil
	}
	if i := slices.IndexFunc(list, func(m mechanism) bool { return m.assumed }); i >= 0 {
		return list[i], nil
	}
	return mechanism{}, &PreAuthError{}
}
