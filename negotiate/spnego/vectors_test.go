package spnego

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// vectors are tests/vectors/spnego.json.
type vectors struct {
	OIDs   map[string]string `json:"oids"`
	States map[string]int32  `json:"neg_state"`
	Cases  []vector          `json:"cases"`
}

type vector struct {
	Kind          string   `json:"kind"`
	Name          string   `json:"name"`
	DER           hexBytes `json:"der"`
	MechTypes     []string `json:"mech_types"`
	MechToken     hexBytes `json:"mech_token"`
	MechListMIC   hexBytes `json:"mech_list_mic"`
	ReqFlags      hexBytes `json:"req_flags"`
	HintName      string   `json:"hint_name"`
	NegState      *int32   `json:"neg_state"`
	SupportedMech string   `json:"supported_mech"`
	ResponseToken hexBytes `json:"response_token"`
}

// hexBytes is nil where the file has no value.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readVectors(tb testing.TB) *vectors {
	tb.Helper()
	v := new(vectors)
	readJSON(tb, "spnego.json", v)
	return v
}

// liveTokens are the SPNEGO tokens that MIT's initiator and acceptor exchanged.
func liveTokens(tb testing.TB) (initiator, acceptor [][]byte) {
	tb.Helper()
	var v struct {
		Cases []struct {
			Mech   string `json:"mech"`
			Tokens []struct {
				From  string   `json:"from"`
				Token hexBytes `json:"token"`
			} `json:"tokens"`
		} `json:"cases"`
	}
	readJSON(tb, "mit-gss.json", &v)
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
