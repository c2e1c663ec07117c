package ticketstore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Shared is one content in Caddy's storage that the members of a fleet have in common, such as keys.
type Shared struct {
	*backend
	name string
	aead cipher.AEAD // nil: the content is not sealed
}

// NewShared returns a content with a name of its own, sealed with the configured key if there is
// one: each key has its own content. what completes the warning "... cannot be ..." when the storage
// begins to fail.
func NewShared(storage certmagic.Storage, key []byte, name, warning string, logger *zap.Logger) *Shared {
	s := &Shared{backend: newBackend(storage, logger, func(string, string) {}, warning), name: "kerberos/" + name + "/shared"}
	if key == nil {
		return s
	}
	derived, _ := hkdf.Key(sha256.New, key, nil, "caddy-negotiate "+name, 48) // fails for lengths beyond 8 KiB only
	block, _ := aes.NewCipher(derived[:32])                                   // fails for other sizes only
	s.aead, _ = cipher.NewGCMWithRandomNonce(block)                           // fails for other ciphers only
	s.name = "kerberos/" + name + "/" + hex.EncodeToString(derived[32:])
	return s
}

// Load returns the content, nil if there is none. One that was changed by someone without the key is
// none.
func (s *Shared) Load(ctx context.Context) ([]byte, error) {
	b, err := s.read(ctx, s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil || s.aead == nil:
		return b, err
	case len(b) > maxStored:
		return nil, nil
	}
	content, err := s.aead.Open(nil, nil, b, []byte(s.name))
	if err != nil {
		s.logger.Warn("a stored content was ignored: it was changed", zap.String("name", s.name))
		return nil, nil
	}
	return content, nil
}

// Update replaces the content by what change makes of it, nil for nothing to be done, under the
// lock of all processes. It returns the content afterwards.
func (s *Shared) Update(ctx context.Context, change func(content []byte) []byte) ([]byte, error) {
	unlock, _ := s.lock(ctx, s.name)
	defer func() { go unlock() }()
	before, err := s.Load(ctx) // another process may have changed it
	if err != nil {
		return nil, err
	}
	content := change(before)
	if content == nil {
		return before, nil
	}
	b := content
	if s.aead != nil {
		b = s.aead.Seal(nil, nil, content, []byte(s.name)) //nolint:gosec // with a nil nonce the AEAD draws a random one
	}
	return content, s.write(ctx, s.name, b)
}
