package candidate

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

var (
	secret = []byte("the present secret")
	sample = Candidate{Password: "the next one", Made: time.Date(2026, 11, 30, 4, 0, 0, 0, time.UTC)}
)

const principal = "svc@CORP.EXAMPLE"

func TestSeal_OpensAgain(t *testing.T) {
	sealed := must.OK(Seal(sample, secret, principal))(t)
	if bytes.Contains(sealed, []byte(sample.Password)) {
		t.Error("the password can be read")
	}
	if got := must.OK(Open(sealed, secret, principal))(t); got != sample {
		t.Error("another candidate comes out")
	}
	if again := must.OK(Seal(sample, secret, principal))(t); bytes.Equal(again, sealed) {
		t.Error("two seals are equal")
	}
}

func TestOpen_OtherSecretPrincipalOrBytes(t *testing.T) {
	sealed := must.OK(Seal(sample, secret, principal))(t)
	if _, err := Open(sealed, []byte("another secret"), principal); !errors.Is(err, ErrNotOpened) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := Open(sealed, secret, "other@CORP.EXAMPLE"); !errors.Is(err, ErrNotOpened) {
		t.Errorf("another principal: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := Open(changed, secret, principal); !errors.Is(err, ErrNotOpened) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := Open(sealed[:i], secret, principal); !errors.Is(err, ErrNotOpened) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := Open(append(sealed, make([]byte, MaxSize)...), secret, principal); !errors.Is(err, ErrNotOpened) {
		t.Errorf("too long: %v", err)
	}
}

// A password that makes no key (FIPS 140) must not lead to a seal that anyone can open.
func TestSeal_NeedsASecret(t *testing.T) {
	if _, err := Seal(sample, nil, principal); err == nil {
		t.Error("sealed without a secret")
	}
}

func TestCandidate_IsNotPrinted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, sample); strings.Contains(text, sample.Password) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func FuzzOpen(f *testing.F) {
	sealed, err := Seal(sample, secret, principal)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Open(b, secret, principal); err == nil && c.Password == "" {
			t.Error("an empty password comes out")
		}
	})
}
