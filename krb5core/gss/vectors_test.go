package gss

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func keyOf(tb testing.TB, k vectors.Key) enctype.Key {
	tb.Helper()
	return must.OK(enctype.NewKey(enctype.ID(k.EType), k.Key))(tb)
}

// mitContext is a context established between MIT's initiator and acceptor.
type mitContext struct {
	Mech      string      `json:"mech"`
	Target    string      `json:"target"`
	CBAppData vectors.Hex `json:"cb_app_data"`
	Tokens    []struct {
		Token vectors.Hex `json:"token"`
	} `json:"tokens"`
	Expect struct {
		Checksum struct {
			Bnd     vectors.Hex `json:"bnd"`
			Flags   Flags       `json:"flags"`
			KRBCred vectors.Hex `json:"krb_cred"`
			EncPart vectors.Hex `json:"enc_krb_cred_part"`
		} `json:"checksum_8003"`
		APReq struct {
			Ticket struct {
				EType      int32       `json:"etype"`
				ServiceKey vectors.Hex `json:"service_key"`
				EncPart    struct {
					Key vectors.Key `json:"key"`
				} `json:"enc_part"`
			} `json:"ticket"`
			Authenticator struct {
				CUSec  int32        `json:"cusec"`
				CTime  vectors.Time `json:"ctime"`
				Subkey vectors.Key  `json:"subkey"`
				Seq    uint32       `json:"seq"`
			} `json:"authenticator"`
		} `json:"ap_req"`
		Resp struct {
			ResponseToken vectors.Hex `json:"response_token"`
		} `json:"neg_token_resp"`
	} `json:"expect"`
}

func mitContexts(tb testing.TB) []mitContext {
	tb.Helper()
	var v struct {
		Cases []mitContext `json:"cases"`
	}
	vectors.Load(tb, "mit-gss.json", &v)
	if len(v.Cases) == 0 {
		tb.Fatal("no contexts among the vectors")
	}
	return v.Cases
}

// initiatorToken is the Kerberos token of the initiator, taken out of SPNEGO.
func (c *mitContext) initiatorToken(tb testing.TB) []byte {
	tb.Helper()
	if c.Mech == "krb5" {
		return c.Tokens[0].Token
	}
	s := der.String(c.Tokens[0].Token)
	var frame, choice, fields, mechTypes der.String
	var oid, token []byte
	if !s.ReadASN1(&frame, der.Application(0)) || !der.ReadOID(&frame, &oid) ||
		!frame.ReadASN1(&choice, der.Context(0)) || !choice.ReadASN1(&fields, der.TagSequence) ||
		!fields.ReadASN1(&mechTypes, der.Context(0)) || !der.ReadField(&fields, 2, der.ReadOctets, &token) {
		tb.Fatal("no NegTokenInit")
	}
	return token
}

// acceptorToken is the Kerberos token of the acceptor; nil if it sent none.
func (c *mitContext) acceptorToken() []byte {
	if c.Mech == "krb5" && len(c.Tokens) > 1 {
		return c.Tokens[1].Token
	}
	return c.Expect.Resp.ResponseToken
}
