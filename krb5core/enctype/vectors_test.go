package enctype

import (
	"bytes"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// want compares bytes.
func want(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %x, want %x", what, got, want)
	}
}

// refused fails unless a ciphertext was refused: refused(t, about...)(k.Decrypt(usage, ciphertext)).
func refused(t testing.TB, about ...any) func([]byte, error) {
	return func(got []byte, err error) {
		t.Helper()
		if got != nil || !errors.Is(err, ErrIntegrity) {
			t.Fatalf("%v: %x, %v, want ErrIntegrity", about, got, err)
		}
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
	return must.OK(NewKey(id, b))(t)
}

// anyKey returns a key of the type with fixed bytes.
func anyKey(t testing.TB, id ID) Key {
	t.Helper()
	return must.OK(GenerateKey(id, bytes.NewReader([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))))(t)
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
	got := must.OK(k.Encrypt(fixed(confounder), usage, plaintext))(t)
	want(t, "Encrypt", got, ciphertext)

	s := must.OK(k.Sealer(usage))(t)
	got = s.Seal([]byte("before"), confounder, plaintext)
	want(t, "Seal", got, append([]byte("before"), ciphertext...))
	header, trailer := s.Overhead(len(plaintext))
	if n := header + len(plaintext) + trailer; n != len(ciphertext) {
		t.Errorf("Overhead adds up to %d bytes, want %d", n, len(ciphertext))
	}

	padded := plaintext
	if p := profiles[id]; p.block > 1 {
		padded = append(bytes.Clone(plaintext), make([]byte, trailer-p.trailer)...)
	}
	want(t, "Decrypt", must.OK(k.Decrypt(usage, ciphertext))(t), padded)
	inPlace := bytes.Clone(ciphertext)
	want(t, "Open", must.OK(s.Open(inPlace[:0], inPlace))(t), padded)
}

// PRF is the pseudo-random function that PRFPlus is made of.
func PRF(k Key, data []byte) ([]byte, error) {
	p, err := k.profile()
	if err != nil {
		return nil, err
	}
	return p.prf(p, k.Bytes(), data), nil
}
