package exchange

import (
	"crypto/fips140"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// mechanisms is the list for requests with or without FAST armor. SPAKE's groups are not approved
// under FIPS 140.
func mechanisms(fast bool) []mechanism {
	list := []mechanism{passwordAuthenticated, encryptedTimestamp}
	if fast {
		// The armor protects the challenge as well as SPAKE would, in fewer rounds. RFC 6113,
		// Section 5.4.6 replaces the timestamp.
		list = []mechanism{encryptedChallenge, passwordAuthenticated}
	}
	if fips140.Enforced() {
		list = slices.DeleteFunc(list, func(m mechanism) bool { return m.padata == messages.PA_SPAKE })
	}
	return list
}

// encryptedTimestamp proves knowledge of the key by encrypting the time with it (RFC 4120, Section
// 5.2.7.2).
var encryptedTimestamp = mechanism{
	padata:  messages.PA_ENC_TIMESTAMP,
	assumed: true,
	respond: func(c challenge) (response, error) {
		return c.encryptedTime(messages.PA_ENC_TIMESTAMP, c.key, enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP)
	},
}

// encryptedChallenge proves knowledge of the key by encrypting the time with it and the armor key
// (RFC 6113, Section 5.4.6).
var encryptedChallenge = mechanism{
	padata:  messages.PA_ENCRYPTED_CHALLENGE,
	assumed: true,
	respond: func(c challenge) (response, error) {
		key, err := enctype.CF2(c.armor, c.key, "clientchallengearmor", "challengelongterm")
		if err != nil {
			return response{}, fmt.Errorf("making the challenge key: %w", err)
		}
		return c.encryptedTime(messages.PA_ENCRYPTED_CHALLENGE, key, enctype.KEY_USAGE_ENC_CHALLENGE_CLIENT)
	},
	// The KDC proves the same with another derived key. Its time need not be right (RFC 6113,
	// Section 5.4.6). Heimdal 7's KDC takes the client's key, with the KDC's key usage: no client
	// encrypts with that.
	verify: func(armor, key enctype.Key, padata messages.MethodData) error {
		const field = "PA-ENCRYPTED-CHALLENGE"
		value, ok := padata.Find(messages.PA_ENCRYPTED_CHALLENGE)
		if !ok {
			return mismatch(field, "present", "absent")
		}
		data, err := messages.ParseEncryptedData(value)
		if err != nil {
			return malformed(field, err)
		}
		for _, pepper := range []string{"kdcchallengearmor", "clientchallengearmor"} {
			kdcs, err := enctype.CF2(armor, key, pepper, "challengelongterm")
			if err != nil {
				return malformed(field, err)
			}
			plain, err := kdcs.Decrypt(enctype.KEY_USAGE_ENC_CHALLENGE_KDC, data.Cipher)
			if err != nil {
				continue
			}
			if _, err := messages.ParsePAEncTSEnc(plain); err != nil {
				return malformed(field, err)
			}
			return nil
		}
		return malformed(field, errWrongKey)
	},
}
