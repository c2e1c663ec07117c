package enctype

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// octets are hex in a vector file.
type octets []byte

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

// load reads a vector file into out, which need not have all of its fields.
func load(t testing.TB, name string, out any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// want compares octets.
func want(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %x, want %x", what, got, want)
	}
}

// some fails if a list of vectors is empty, which would prove nothing.
func some[T any](t testing.TB, list []T) []T {
	t.Helper()
	if len(list) == 0 {
		t.Fatal("no vectors: is the name of the list right?")
	}
	return list
}

func mustKey(t testing.TB, id ID, b []byte) Key {
	t.Helper()
	k, err := NewKey(id, b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// anyKey returns a key of the type with fixed octets.
func anyKey(t testing.TB, id ID) Key {
	t.Helper()
	k, err := GenerateKey(id, bytes.NewReader([]byte("0123456789abcdefghijklmnopqrstuvwxyz")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixed is a confounder as a source of randomness that has nothing else.
func fixed(b []byte) *bytes.Reader { return bytes.NewReader(b) }

func allTypes() []ID {
	var ids []ID
	for _, p := range table {
		ids = append(ids, p.id)
	}
	return ids
}

// checkCipher encrypts and decrypts one vector in all ways there are.
func checkCipher(t *testing.T, id ID, key []byte, usage Usage, confounder, plaintext, ciphertext []byte) {
	t.Helper()
	k := mustKey(t, id, key)
	got, err := k.Encrypt(fixed(confounder), usage, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "Encrypt", got, ciphertext)

	s, err := k.Sealer(usage)
	if err != nil {
		t.Fatal(err)
	}
	got = s.Seal([]byte("before"), confounder, plaintext)
	want(t, "Seal", got, append([]byte("before"), ciphertext...))
	header, trailer := s.Overhead(len(plaintext))
	if n := header + len(plaintext) + trailer; n != len(ciphertext) {
		t.Errorf("Overhead adds up to %d octets, want %d", n, len(ciphertext))
	}

	padded := plaintext
	if p := profiles[id]; p.block > 1 {
		padded = append(bytes.Clone(plaintext), make([]byte, trailer-p.trailer)...)
	}
	got, err = k.Decrypt(usage, ciphertext)
	if err != nil {
		t.Fatalf("Decrypt: %v", err)
	}
	want(t, "Decrypt", got, padded)
	inPlace := bytes.Clone(ciphertext)
	got, err = s.Open(inPlace[:0], inPlace)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	want(t, "Open", got, padded)
}
