package ticketstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// breakerPrefix is where in Caddy's storage the state of breakers is kept.
const breakerPrefix = "kerberos/breakers/"

// Breakers keeps the state of breakers in Caddy's storage, an entry for each principal. It
// implements [negotiate.BreakerStore]. The content of an entry is no secret, so that it is
// kept without ticket_store storage, too.
type Breakers struct{ *backend }

// NewBreakers returns the breakers in a storage.
func NewBreakers(storage certmagic.Storage, logger *zap.Logger) *Breakers {
	const warning = "Caddy's storage cannot be used; refused credentials are remembered in memory only until it works again"
	return &Breakers{newBackend(storage, logger, func(string, string) {}, warning)}
}

// breakerName is an entry's name. The digest makes a name of it that every storage takes.
func breakerName(p messages.Principal) string {
	digest := sha256.Sum256([]byte(p.String()))
	return breakerPrefix + hex.EncodeToString(digest[:])
}

// Load implements negotiate.BreakerStore.
func (b *Breakers) Load(ctx context.Context, p messages.Principal) []byte {
	content, _ := b.read(ctx, breakerName(p)) // a failure is logged
	return content
}

// Save implements negotiate.BreakerStore.
func (b *Breakers) Save(ctx context.Context, p messages.Principal, content []byte) {
	if len(content) == 0 {
		_ = b.remove(ctx, breakerName(p))
		return
	}
	_ = b.write(ctx, breakerName(p), content)
}

// Lock implements negotiate.BreakerStore.
func (b *Breakers) Lock(ctx context.Context, p messages.Principal) (unlock func(), changed bool) {
	release, changed := b.lock(ctx, breakerName(p))
	return func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			release()
		}()
		timer := time.NewTimer(callTimeout)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
	}, changed
}
