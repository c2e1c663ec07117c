package kdctest

import (
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Accept verifies an initiator's first token, in SPNEGO or raw Kerberos. channel is
// EndPointBindings of the connection's certificate, nil without one. The reply token is
// to be sent even with an error; nil means a challenge without a token. The error is an
// *AcceptError.
func (a *Acceptor) Accept(token []byte, channel *[16]byte) (peer *Peer, reply []byte, err error) {
	peer, reply, err = a.accept(token, channel)
	a.count(func(c *AcceptorCounts) {
		if e, ok := err.(*AcceptError); ok {
			c.Refused[e.Kind]++
		} else {
			c.Accepted++
		}
	})
	return peer, reply, err
}

func (a *Acceptor) accept(token []byte, channel *[16]byte) (*Peer, []byte, error) {
	cfg, keys := a.config()
	verifier, err := accept.New(accept.Config{
		Keys: keys, Services: keys.services, ETypes: allETypes, Bindings: cfg.Bindings.on(channel),
		MaxSkew: cfg.MaxSkew, Replays: a.replays, Now: cfg.Now, Rand: cfg.Rand,
	})
	if err != nil {
		return nil, nil, &AcceptError{Kind: "garbage", Text: err.Error()}
	}
	request := accept.Request{Token: token}
	if channel != nil {
		request.Bindings = func(got gss.ChannelBindings) bool { return got == *channel }
	}
	result, err := verifier.Accept(request)
	if refusal, ok := errors.AsType[*accept.Error](err); ok {
		return nil, cfg.refusalToken(refusal), acceptError(refusal)
	}
	peer, err := newPeer(token, result)
	if err != nil {
		return nil, nil, &AcceptError{"garbage", messages.KRB_AP_ERR_BAD_INTEGRITY, err.Error()}
	}
	switch reply := cfg.quirk(result.Token); {
	case cfg.Refuse == RefuseNone, cfg.RefuseWhen != nil && !cfg.RefuseWhen():
		return peer, reply, nil
	case cfg.Refuse == RefuseGoodWithAPRep:
		return nil, reply, &AcceptError{Kind: "policy", Text: "good tokens are refused"}
	default:
		return nil, nil, &AcceptError{Kind: "policy", Text: "good tokens are refused"}
	}
}

// allETypes are all types that are implemented: tests want the weak ones too.
var allETypes = append(enctype.Strong(), enctype.RC4_HMAC, enctype.DES3_CBC_SHA1, enctype.DES_CBC_MD5, enctype.DES_CBC_CRC)

// refusalToken is the KRB-ERROR of a refusal, unless refusals are bare.
func (c *AcceptorConfig) refusalToken(refusal *accept.Error) []byte {
	if c.BareRefusals || refusal.Code() == 0 {
		return nil
	}
	return c.quirk(refusal.Token)
}

// quirk renames the mechanism in a reply as MicrosoftMech says.
func (c *AcceptorConfig) quirk(reply []byte) []byte {
	if resp, err := spnego.ParseResp(reply); err == nil && c.MicrosoftMech {
		resp.SupportedMech = spnego.MSKRB5
		return resp.Append(nil)
	}
	return reply
}

// acceptError names the reason as AcceptorCounts does.
func acceptError(e *accept.Error) *AcceptError {
	out := &AcceptError{e.Code().String(), e.Code(), e.Error()}
	switch e.Reason {
	case accept.NoBindings, accept.BindingsMissing, accept.BindingsWrong:
		out.Kind = "bindings"
	default:
		if out.Code == 0 {
			out.Kind = "garbage"
		}
	}
	return out
}

// serviceKeys are the keys of a keytab, by principal.
type serviceKeys struct {
	services []messages.Principal
	keys     map[string][]*accept.Key
}

func newServiceKeys(file *keytab.Keytab) (serviceKeys, error) {
	k := serviceKeys{file.Principals(), make(map[string][]*accept.Key)}
	for _, e := range file.Entries {
		key, err := accept.NewKey(e.Key, e.KVNO)
		if err != nil {
			return k, err
		}
		name := e.Principal.String()
		k.keys[name] = append(k.keys[name], key)
	}
	return k, nil
}

// KeysFor implements accept.Keys.
func (k serviceKeys) KeysFor(service messages.Principal) []*accept.Key {
	return k.keys[service.String()]
}
