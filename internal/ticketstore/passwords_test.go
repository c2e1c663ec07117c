package ticketstore

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

var (
	svc    = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc"), Realm: "CORP.EXAMPLE"}
	sample = candidate.Candidate{Password: "the next password", Made: time.Date(2026, 11, 30, 4, 0, 0, 0, time.UTC)}
)

func TestPasswords_SealedWithTheKey(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	with := func(key byte) *Passwords { return NewPasswords(storage, bytes.Repeat([]byte{key}, 32), zap.NewNop()) }
	one := with(1)
	if c, err := one.Load(t.Context(), svc); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	must.Do(t, one.Save(t.Context(), svc, &sample))
	if c := must.OK(with(1).Load(t.Context(), svc))(t); c == nil || *c != sample {
		t.Error("another member does not find it")
	}
	if content := must.OK(storage.Load(t.Context(), passwordName(svc)))(t); bytes.Contains(content, []byte(sample.Password)) {
		t.Error("the storage shows the password")
	}
	if c, err := with(2).Load(t.Context(), svc); c != nil || err != nil {
		t.Errorf("another key: %v, %v", c, err)
	}
	for range 2 {
		must.Do(t, one.Save(t.Context(), svc, nil))
	}
	if c, err := one.Load(t.Context(), svc); c != nil || err != nil {
		t.Errorf("removed: %v, %v", c, err)
	}
}

func TestPasswords_WithoutAKeyNothingIsKept(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	s := NewPasswords(storage, nil, zap.NewNop())
	must.Do(t, s.Save(t.Context(), svc, &sample))
	if storage.Exists(t.Context(), passwordName(svc)) {
		t.Error("something is stored")
	}
	if c, err := s.Load(t.Context(), svc); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}

func TestPasswords_LockIsExclusive(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	one, other := NewPasswords(storage, nil, zap.NewNop()), NewPasswords(storage, nil, zap.NewNop())
	unlock := must.OK(one.Lock(t.Context(), svc))(t)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := other.Lock(short, svc); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	unlock()
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must.OK(other.Lock(patient, svc))(t)()
}
