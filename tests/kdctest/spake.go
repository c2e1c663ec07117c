package kdctest

import (
	"io"
	"slices"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange/spake"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// SPAKE configures SPAKE in a realm, if SetPreAuth enables it.
type SPAKE struct {
	Groups       []messages.SPAKEGroup // in order of preference; nil: those of package spake
	Optimistic   bool                  // challenges without waiting for the client's groups
	SecondFactor bool                  // requires one, of a type for private use
}

// SetSPAKE configures SPAKE in the realm.
func (r *Realm) SetSPAKE(s SPAKE) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spake = s
}

func (r *Realm) spakeConfig() SPAKE {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.spake
	if s.Groups == nil {
		s.Groups = spake.Groups()
	}
	return s
}

// conversations holds the challenged SPAKE exchanges by the cookie that the client
// sends back.
type conversations struct {
	mu   sync.Mutex
	open map[string]*conversation
}

type conversation struct {
	client    string
	party     *spake.Party
	key       enctype.Key
	set       *keySet
	support   []byte
	challenge []byte
}

// maxConversations bounds the conversations; when it is reached all are dropped.
const maxConversations = 4096

func (c *conversations) find(cookie []byte) *conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[string(cookie)]
}

func (c *conversations) begin(cookie []byte, v *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil || len(c.open) >= maxConversations {
		c.open = make(map[string]*conversation)
	}
	c.open[string(cookie)] = v
}

// challengeSPAKE returns a challenge and the cookie that identifies its response.
func (x *asExchange) challengeSPAKE(group messages.SPAKEGroup, support []byte) (value, cookie []byte, err error) {
	party, err := spake.New(spake.KDC, group, x.proof.key, x.kdc.rand)
	if err != nil {
		return nil, nil, err
	}
	factor := int32(messages.SPAKE_SF_NONE)
	if x.realm.spakeConfig().SecondFactor {
		factor = -1
	}
	m := messages.PASPAKE{Challenge: &messages.SPAKEChallenge{
		Group: group, Pubkey: party.Public(), Factors: []messages.SPAKESecondFactor{{Type: factor}},
	}}
	value, cookie = m.Marshal(), make([]byte, 16)
	if _, err := io.ReadFull(x.kdc.rand, cookie); err != nil {
		return nil, nil, err
	}
	x.kdc.conversations.begin(cookie, &conversation{
		client: requestedClient(x.req), party: party, key: x.proof.key, set: x.proof.set, support: support, challenge: value,
	})
	return value, cookie, nil
}

// verifySPAKE implements SPAKE (RFC 9588, Section 4): it challenges a client that sends
// its groups, and verifies the response of a challenged client.
func (x *asExchange) verifySPAKE(value []byte) (proof, error) {
	m, err := messages.ParsePASPAKE(value)
	switch {
	case err != nil:
		return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	case m.Support != nil:
		return proof{}, x.onSupport(m.Support, value)
	case m.Response != nil && x.conversation != nil:
		return x.onResponse(m.Response)
	}
	return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "SPAKE message out of place")
}

// onSupport returns MORE_PREAUTH_DATA_REQUIRED with a challenge.
func (x *asExchange) onSupport(s *messages.SPAKESupport, value []byte) error {
	for _, group := range x.realm.spakeConfig().Groups {
		if !slices.Contains(s.Groups, group) {
			continue
		}
		challenge, cookie, err := x.challengeSPAKE(group, slices.Clone(value))
		if err != nil {
			return err
		}
		data := messages.MethodData{
			{Type: messages.PA_SPAKE, Value: challenge}, {Type: messages.PA_FX_COOKIE, Value: cookie},
		}
		return &refusal{
			code: messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, text: "SPAKE challenge", edata: data.Marshal(),
		}
	}
	return refuse(messages.KDC_ERR_PREAUTH_FAILED, "no SPAKE group in common")
}

func (x *asExchange) onResponse(r *messages.SPAKEResponse) (proof, error) {
	failed := func() (proof, error) {
		x.client.attempt(false)
		return proof{}, &refusal{
			code: messages.KDC_ERR_PREAUTH_FAILED, text: "pre-authentication failed", edata: x.hints().Marshal(),
		}
	}
	t := x.conversation
	if t.client != requestedClient(x.req) {
		return failed()
	}
	keys, err := t.party.Keys(t.support, t.challenge, r.Pubkey)
	if err != nil {
		return failed()
	}
	check, err := keys.Derive(1, x.req.Body.Raw)
	if err != nil {
		return proof{}, err
	}
	plain, err := check.Decrypt(enctype.KEY_USAGE_SPAKE, r.Factor.Cipher)
	if err != nil {
		return failed()
	}
	factor, err := messages.ParseSPAKESecondFactor(plain)
	if err != nil || factor.Type != messages.SPAKE_SF_NONE {
		return failed()
	}
	reply, err := keys.Derive(0, x.req.Body.Raw)
	return proof{key: reply, set: t.set, proved: true}, err
}
