// Package vectors gives tests the test vectors, which are JSON files beside it.
package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
)

//go:embed *.json
var files embed.FS

// Load reads a file of vectors into v, which need not have all of its fields.
func Load(t testing.TB, file string, v any) {
	t.Helper()
	b, err := files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// Hex is bytes that a file holds in hexadecimal; nil where it holds nothing.
type Hex []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// CheckFacts fails unless each number of ours, by section and name, is what
// protocol-facts.json says.
func CheckFacts(t testing.TB, ours map[string]map[string]int64) {
	t.Helper()
	var sections map[string]any
	Load(t, "protocol-facts.json", &sections)
	for section, numbers := range ours {
		facts, _ := sections[section].(map[string]any)
		for name, got := range numbers {
			want, err := strconv.ParseInt(fmt.Sprint(facts[name]), 0, 64)
			if err != nil || got != want {
				t.Errorf("%s %s is %#x, want %#x (%v)", section, name, got, want, err)
			}
		}
	}
}
