package exchange

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange/spake"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ErrSecondFactor means that the KDC requires a second factor besides the key. It is final.
var ErrSecondFactor = errors.New("the KDC demands a second factor (RFC 9588), which a service cannot provide: exempt the account from it")

// passwordAuthenticated proves knowledge of the key without exposing it to password guessing (RFC
// 9588): the client sends its groups, the KDC challenges, the client responds. The KDC may
// challenge at once.
var passwordAuthenticated = mechanism{padata: messages.PA_SPAKE, rounds: true, respond: respondSPAKE}

func respondSPAKE(c challenge) (response, error) {
	if c.round > 0 && c.said == nil {
		// After our response the KDC can only ask for a second factor.
		return response{}, ErrSecondFactor
	}
	offer, err := readSPAKEChallenge(c.value)
	switch {
	case c.round == 0 && (err != nil || !spake.Supported(offer.Group)):
		support := messages.PASPAKE{Support: &messages.SPAKESupport{Groups: spake.Groups()}}
		said := support.Marshal()
		return response{padata: messages.MethodData{{Type: messages.PA_SPAKE, Value: said}}, said: said}, nil
	case err != nil:
		return response{}, fmt.Errorf("the KDC's SPAKE challenge cannot be read: %w", err)
	case !spake.Supported(offer.Group):
		return response{}, fmt.Errorf("the KDC's SPAKE challenge is in group %d, which was not offered", offer.Group)
	case !slices.ContainsFunc(offer.Factors, func(f messages.SPAKESecondFactor) bool { return f.Type == messages.SPAKE_SF_NONE }):
		return response{}, ErrSecondFactor
	}
	return answerSPAKE(c, offer)
}

func readSPAKEChallenge(value []byte) (*messages.SPAKEChallenge, error) {
	m, err := messages.ParsePASPAKE(value)
	if err != nil {
		return nil, err
	}
	if m.Challenge == nil {
		return nil, errors.New("it is another message")
	}
	return m.Challenge, nil
}

// answerSPAKE responds to a challenge with our public value, and with the factor "none", encrypted
// to prove that both sides have the same keys. The reply is encrypted with one of them.
func answerSPAKE(c challenge, offer *messages.SPAKEChallenge) (response, error) {
	party, err := spake.New(spake.Client, offer.Group, c.key, c.rand)
	if err != nil {
		return response{}, err
	}
	keys, err := party.Keys(c.said, c.value, offer.Pubkey)
	if err != nil {
		return response{}, err
	}
	var derived [2]enctype.Key // K'[0], K'[1]
	for n := range derived {
		if derived[n], err = keys.Derive(uint32(n), c.body); err != nil {
			return response{}, err
		}
	}
	factor := messages.SPAKESecondFactor{Type: messages.SPAKE_SF_NONE}
	cipher, err := derived[1].Encrypt(c.rand, enctype.KEY_USAGE_SPAKE, factor.Marshal())
	if err != nil {
		return response{}, err
	}
	answer := messages.PASPAKE{Response: &messages.SPAKEResponse{
		Pubkey: party.Public(),
		Factor: messages.EncryptedData{EType: derived[1].EType(), Cipher: cipher},
	}}
	return response{
		padata: messages.MethodData{{Type: messages.PA_SPAKE, Value: answer.Marshal()}}, proves: true, replyKey: derived[0],
	}, nil
}
