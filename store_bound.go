package caddynegotiate

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// parseStoreKey reads the KEY of `ticket_store storage KEY`.
func parseStoreKey(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	stated, err := secretPlaceholders(text)
	if err != nil {
		return nil, err
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(strings.TrimSpace(stated)); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, errors.New("the key is not 32 bytes in base64; make one with: openssl rand -base64 32")
}

// bounds are what an App has the process keep tickets by. Apps overlap when the
// configuration is loaded anew: what the last one that was started and not stopped
// says is in force, so that a refused configuration leaves nothing behind. Only where
// none is, they are in force from the provisioning on.
var bounds struct {
	mu    sync.Mutex
	stack []*bound
}

type bound struct {
	memory int64
	store  cache.Store[*negotiate.Ticket] // nil for memory alone
}

// anticipate puts b in force where nothing is: Caddy starts apps in no order, and the
// first requests of a process may come before the app's turn.
func (b *bound) anticipate() {
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	if len(bounds.stack) == 0 {
		bounds.stack = append(bounds.stack, b)
		b.apply()
	}
}

// enforce puts b in force.
func (b *bound) enforce() {
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	bounds.stack = slices.DeleteFunc(bounds.stack, func(other *bound) bool { return other == b })
	bounds.stack = append(bounds.stack, b)
	b.apply()
}

// lift takes b out of force, and puts back what was there before.
func (b *bound) lift() {
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	last := new(bound)
	kept := bounds.stack[:0]
	for _, other := range bounds.stack {
		if other != b {
			kept, last = append(kept, other), other
		}
	}
	clear(bounds.stack[len(kept):])
	bounds.stack = kept
	last.apply()
}

func (b *bound) apply() {
	tickets.SetMemory(b.memory)
	tickets.SetStore(b.store)
}

// bound makes of the app's settings what Start puts in force.
func (a *App) newBound() (*bound, error) {
	b := &bound{memory: a.TicketMemory}
	if a.TicketStore != "storage" {
		return b, nil
	}
	master, err := parseStoreKey(a.TicketStoreKey)
	if err != nil {
		return nil, fmt.Errorf("ticket_store: %w", err)
	}
	if master != nil && !hasPlaceholder(a.TicketStoreKey) {
		a.logger.Warn("the ticket store's key stands in the configuration, where whoever may read it or the admin endpoint sees it; " +
			"use ticket_store storage {env.NAME} or {file./absolute/path}")
	}
	b.store = newTicketStore(a.ctx.Storage(), master, a.logger)
	return b, nil
}

// checkStore refuses what cannot be stored: without a stated key, only a keytab's
// tickets can be sealed.
func (a *App) checkStore(secret negotiate.Secret) error {
	if a.TicketStore == "storage" && a.TicketStoreKey == "" && secret.Kind != "keytab" {
		return fmt.Errorf("ticket_store storage needs a KEY for a %s, which none can be derived from: "+
			"ticket_store storage {env.TICKET_KEY}, with 32 bytes in base64 (openssl rand -base64 32)", secret.Kind)
	}
	return nil
}
