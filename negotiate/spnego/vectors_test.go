package spnego

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// vectorFile is tests/vectors/spnego.json.
type vectorFile struct {
	OIDs   map[string]string `json:"oids"`
	States map[string]int32  `json:"neg_state"`
	Cases  []vector          `json:"cases"`
}

type vector struct {
	Kind          string      `json:"kind"`
	Name          string      `json:"name"`
	DER           vectors.Hex `json:"der"`
	MechTypes     []string    `json:"mech_types"`
	MechToken     vectors.Hex `json:"mech_token"`
	MechListMIC   vectors.Hex `json:"mech_list_mic"`
	NegState      *int32      `json:"neg_state"`
	SupportedMech string      `json:"supported_mech"`
	ResponseToken vectors.Hex `json:"response_token"`
}

func readVectors(tb testing.TB) *vectorFile {
	tb.Helper()
	v := new(vectorFile)
	vectors.Load(tb, "spnego.json", v)
	return v
}

// liveTokens are the SPNEGO tokens that MIT's initiator and acceptor exchanged.
func liveTokens(tb testing.TB) (initiator, acceptor [][]byte) {
	tb.Helper()
	var v struct {
		Cases []struct {
			Mech   string `json:"mech"`
			Tokens []struct {
				From  string      `json:"from"`
				Token vectors.Hex `json:"token"`
			} `json:"tokens"`
		} `json:"cases"`
	}
	vectors.Load(tb, "mit-gss.json", &v)
	for _, c := range v.Cases {
		if c.Mech != "spnego" {
			continue
		}
		for _, t := range c.Tokens {
			if t.From == "initiator" {
				initiator = append(initiator, t.Token)
			} else {
				acceptor = append(acceptor, t.Token)
			}
		}
	}
	if len(initiator) == 0 || len(acceptor) == 0 {
		tb.Fatal("no live SPNEGO tokens among the vectors")
	}
	return initiator, acceptor
}
