package exchange

import (
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// mechanism is one way of pre-authentication (RFC 6113 2). The AS machine goes through its list in order and takes the
// first that the KDC offers.
type mechanism struct {
	padata  messages.PADataType // by which METHOD-DATA offers it
	assumed bool                // a KDC that does not say what it takes is taken to take this
	rounds  bool                // may take several rounds
	respond func(challenge) (response, error)
	// verify checks, unless it is nil, what the reply must hold if it is from somebody who has the client's key too.
	verify func(armor, key enctype.Key, padata messages.MethodData) error
}

// challenge is what a mechanism has to work with.
type challenge struct {
	key   enctype.Key // the client's, of the type and salt that the KDC named
	armor enctype.Key // of FAST, zero without
	value []byte      // of the mechanism's element in METHOD-DATA, nil if unasked
	said  []byte      // what we said before, if this is the KDC's answer to it
	round int         // how often the KDC has answered
	body  []byte      // the KDC-REQ-BODY that the answer goes with
	now   time.Time   // the KDC's time as far as known
	rand  io.Reader
}

// response is what a mechanism makes of it.
type response struct {
	padata   messages.MethodData
	proves   bool        // shows a key to the KDC: a wrong one counts towards lockout
	said     []byte      // to be in the next challenge, if one follows
	replyKey enctype.Key // of the reply that follows, zero for the client's
}

// mechanisms is the list for requests with or without FAST armor. SPAKE's groups are not approved under FIPS 140.
func mechanisms(fast bool) []mechanism {
	list := []mechanism{passwordAuthenticated, encryptedTimestamp}
	if fast {
		// The armor protects the challenge as well as SPAKE would, in fewer rounds. RFC 6113 5.4.6 replaces the timestamp.
		list = []mechanism{encryptedChallenge, passwordAuthenticated}
	}
	if fips140.Enforced() {
		list = slices.DeleteFunc(list, func(m mechanism) bool { return m.padata == messages.PA_SPAKE })
	}
	return list
}

// encryptedTimestamp proves knowledge of the key by encrypting the time with it (RFC 4120 5.2.7.2).
var encryptedTimestamp = mechanism{
	padata:  messages.PA_ENC_TIMESTAMP,
	assumed: true,
	respond: func(c challenge) (response, error) {
		stamp := messages.NewPAEncTSEnc(c.now).Marshal()
		cipher, err := c.key.Encrypt(c.rand, enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, stamp)
		if err != nil {
			return response{}, fmt.Errorf("encrypting the timestamp: %w", err)
		}
		value := messages.EncryptedData{EType: c.key.EType(), Cipher: cipher}.Marshal()
		return response{padata: messages.MethodData{{Type: messages.PA_ENC_TIMESTAMP, Value: value}}, proves: true}, nil
	},
}

// PreAuthError means that the KDC demands a kind of pre-authentication that we cannot do. It is final.
type PreAuthError struct {
	Offered []messages.PADataType
}

// Error names what the KDC offers.
func (e *PreAuthError) Error() string {
	return fmt.Sprintf("the KDC offers no pre-authentication that is supported, only %v", e.Offered)
}

// choose returns the first mechanism of the list that METHOD-DATA offers, with its value. A KDC that says nothing at all
// is taken to want what every KDC knows.
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

// unasked returns the mechanism that served before, or that most KDCs know.
func unasked(list []mechanism, before messages.PADataType) (mechanism, error) {
	if i := slices.IndexFunc(list, func(m mechanism) bool { return m.padata == before }); i >= 0 {
		return list[i], nil
	}
	if i := slices.IndexFunc(list, func(m mechanism) bool { return m.assumed }); i >= 0 {
		return list[i], nil
	}
	return mechanism{}, &PreAuthError{}
}

// keyInfos lists the keys that padata describes, in the KDC's order and each type once: of ETYPE-INFO2, else ETYPE-INFO,
// else the allowed types with the salt of PW-SALT, else with the default salt (RFC 4120 5.2.7.5).
func keyInfos(padata messages.MethodData, allowed []enctype.ID, defaultSalt string) (infos []KeyInfo, named bool) {
	if value, ok := padata.Find(messages.PA_ETYPE_INFO2); ok {
		if list, err := messages.ParseETypeInfo2(value); err == nil {
			for _, e := range list {
				info := KeyInfo{EType: e.EType, Salt: defaultSalt, HasSalt: e.HasSalt, Params: e.S2KParams}
				if e.HasSalt {
					info.Salt = e.Salt
				}
				infos = append(infos, info)
			}
			return once(infos), true
		}
	}
	if value, ok := padata.Find(messages.PA_ETYPE_INFO); ok {
		if list, err := messages.ParseETypeInfo(value); err == nil {
			for _, e := range list {
				info := KeyInfo{EType: e.EType, Salt: defaultSalt, HasSalt: e.Salt != nil}
				if info.HasSalt {
					info.Salt = string(e.Salt)
				}
				infos = append(infos, info)
			}
			return once(infos), true
		}
	}
	salt, hasSalt := padata.Find(messages.PA_PW_SALT)
	for _, id := range allowed {
		info := KeyInfo{EType: id, Salt: defaultSalt, HasSalt: hasSalt}
		if hasSalt {
			info.Salt = string(salt)
		}
		infos = append(infos, info)
	}
	return infos, hasSalt
}

// once keeps the first entry of each type, as the RFC has it, so that a forged list costs no more keys than there are types.
func once(infos []KeyInfo) []KeyInfo {
	seen := make(map[enctype.ID]bool)
	return slices.DeleteFunc(infos, func(i KeyInfo) bool {
		dup := seen[i.EType]
		seen[i.EType] = true
		return dup
	})
}

// defaultSalt is realm and name in one (RFC 4120 4).
func defaultSalt(p messages.Principal) string {
	return p.Realm + strings.Join(p.Name.NameString, "")
}

var errNotAllowed = errors.New("type is not allowed")

// pickKey returns the first key of the list whose type is allowed and that the source holds. What a network can forge is
// a hint: no type that is not allowed, and the bounds of enctype.StringToKey for iterations.
func pickKey(infos []KeyInfo, allowed []enctype.ID, keys KeySource, trace func(Event)) (KeyInfo, enctype.Key, error) {
	failure := &ETypeError{Allowed: allowed}
	var reasons []error
	for _, info := range infos {
		failure.Offered = append(failure.Offered, info.EType)
		err := errNotAllowed
		if slices.Contains(allowed, info.EType) {
			var key enctype.Key
			if key, err = keys.Key(info); err == nil {
				return info, key, nil
			}
		}
		trace(ETypeSkipped{info.EType, err})
		reasons = append(reasons, fmt.Errorf("%s: %w", info.EType, err))
	}
	failure.Err = errors.Join(reasons...)
	return KeyInfo{}, enctype.Key{}, failure
}
