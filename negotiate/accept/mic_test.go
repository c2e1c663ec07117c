package accept

import (
	"bytes"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func TestMIC_Vectors(t *testing.T) {
	var v struct {
		MICs []struct {
			vectors.Key
			Signer string
			Flags  byte
			Seq    uint32
			List   vectors.Hex `json:"mech_type_list_der"`
			MIC    vectors.Hex
		} `json:"mech_list_mic"`
	}
	vectors.Load(t, "spnego.json", &v)
	verified, made := 0, 0
	for _, c := range v.MICs {
		key := must.OK(enctype.NewKey(enctype.ID(c.EType), c.Key.Key))(t)
		if c.Signer == "acceptor" {
			made++
			if mic := must.OK(makeMIC(key, c.Flags, c.Seq, c.List))(t); !bytes.Equal(mic, c.MIC) {
				t.Errorf("%s, flags %d: %x, want %x", key, c.Flags, mic, c.MIC)
			}
			if verifyMIC(key, c.MIC, c.List) == nil {
				t.Errorf("%s: an acceptor's MIC passes for an initiator's", key)
			}
			continue
		}
		if c.Flags != 0 { // under a subkey of the acceptor, which a first token cannot have
			if verifyMIC(key, c.MIC, c.List) == nil {
				t.Errorf("%s: flags %d pass", key, c.Flags)
			}
			continue
		}
		verified++
		must.Do(t, verifyMIC(key, c.MIC, c.List))
		for n := range c.MIC {
			if verifyMIC(key, c.MIC[:n], c.List) == nil {
				t.Errorf("%s: %d of %d bytes pass", key, n, len(c.MIC))
			}
			flipped := bytes.Clone(c.MIC)
			flipped[n] ^= 1
			if verifyMIC(key, flipped, c.List) == nil {
				t.Errorf("%s: with byte %d changed it passes", key, n)
			}
		}
	}
	if verified != 4 || made != 8 {
		t.Errorf("%d verified, %d made", verified, made)
	}
	rc4 := must.OK(enctype.NewKey(enctype.RC4_HMAC, make([]byte, 16)))(t)
	header := appendMICHeader(nil, 0, 1)
	sum := must.OK(rc4.Checksum(enctype.KG_USAGE_INITIATOR_SIGN, header))(t)
	if verifyMIC(rc4, append(header, sum...), nil) == nil {
		t.Error("RC4 has MICs of another form")
	}
}
