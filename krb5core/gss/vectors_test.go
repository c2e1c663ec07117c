package gss

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// hexBytes is nil where the file has no value.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectorKey struct {
	EType enctype.ID `json:"etype"`
	Key   hexBytes   `json:"key"`
}

func (k vectorKey) key(tb testing.TB) enctype.Key {
	tb.Helper()
	key, err := enctype.NewKey(k.EType, k.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

type vectorTime struct{ time.Time }

func (t *vectorTime) UnmarshalJSON(text []byte) (err error) {
	t.Time, err = time.Parse(`"20060102150405Z"`, string(text))
	return err
}

// mitContext is a context established between MIT's initiator and acceptor.
type mitContext struct {
	Mech      string   `json:"mech"`
	Target    string   `json:"target"`
	CBAppData hexBytes `json:"cb_app_data"`
	Tokens    []struct {
		Token hexBytes `json:"token"`
	} `json:"tokens"`
	Expect struct {
		Checksum struct {
			Bnd     hexBytes `json:"bnd"`
			Flags   Flags    `json:"flags"`
			KRBCred hexBytes `json:"krb_cred"`
			EncPart hexBytes `json:"enc_krb_cred_part"`
		} `json:"checksum_8003"`
		APReq struct {
			Ticket struct {
				EType      enctype.ID `json:"etype"`
				ServiceKey hexBytes   `json:"service_key"`
				EncPart    struct {
					Key vectorKey `json:"key"`
				} `json:"enc_part"`
			} `json:"ticket"`
			Authenticator struct {
				CUSec  int32      `json:"cusec"`
				CTime  vectorTime `json:"ctime"`
				Subkey vectorKey  `json:"subkey"`
				Seq    uint32     `json:"seq"`
			} `json:"authenticator"`
		} `json:"ap_req"`
		Resp struct {
			ResponseToken hexBytes `json:"response_token"`
		} `json:"neg_token_resp"`
	} `json:"expect"`
}

func mitContexts(tb testing.TB) []mitContext {
	tb.Helper()
	var v struct {
		Cases []mitContext `json:"cases"`
	}
	readJSON(tb, "mit-gss.json", &v)
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
	if !der.ReadElement(&s, der.Application(0), &frame) || !der.ReadOID(&frame, &oid) ||
		!der.ReadElement(&frame, der.Context(0), &choice) || !der.ReadSequence(&choice, &fields) ||
		!der.ReadElement(&fields, der.Context(0), &mechTypes) || !der.ReadField(&fields, 2, der.ReadOctets, &token) {
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

func readJSON(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatal(err)
	}
}
