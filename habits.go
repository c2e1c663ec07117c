package caddynegotiate

import (
	"net"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// habits is what is known, with `per_connection`, of how upstreams take requests
// without a token on a connection that has been authenticated.
type habits struct {
	mu      sync.Mutex
	missed  map[string]int      // by service: refusals since one was let in
	carried map[string]struct{} // connections that a token went over, by their two ends
}

const (
	// patience is how many requests in a row are refused for want of a token before
	// each gets one. A single refusal may be the connection's fault: the token that it
	// carried was refused, or the upstream has forgotten it.
	patience = 3
	// maxHabits bounds what is remembered, for services can come out of requests.
	maxHabits = 1024
	// maxCarried bounds the connections, of which nobody tells us when they close.
	// Forgotten ones get a token once more.
	maxCarried = 8192
)

// skipToken tells whether a request may go without a token over a connection. One that
// is not new need not have carried any: net/http keeps those too that it opened for a
// request which then took another.
func (h *habits) skipToken(spn negotiate.SPN, conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed[spn.String()] >= patience {
		return false
	}
	_, carried := h.carried[ends(conn)]
	return carried
}

// carry notes that a token goes over a connection.
func (h *habits) carry(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.carried == nil || len(h.carried) >= maxCarried {
		h.carried = make(map[string]struct{})
	}
	h.carried[ends(conn)] = struct{}{}
}

// ends names a connection among those that are open.
func ends(conn net.Conn) string { return conn.LocalAddr().String() + " " + conn.RemoteAddr().String() }

// served notes that a request without a token was let in.
func (h *habits) served(spn negotiate.SPN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.missed[spn.String()]; n > 0 && n < patience {
		delete(h.missed, spn.String())
	}
}

// wantedToken notes that a request without a token was refused.
func (h *habits) wantedToken(logger *zap.Logger, spn negotiate.SPN) {
	h.mu.Lock()
	if h.missed == nil || len(h.missed) >= maxHabits {
		h.missed = make(map[string]int)
	}
	h.missed[spn.String()]++
	enough := h.missed[spn.String()] == patience
	h.mu.Unlock()
	if enough {
		logger.Warn("per_connection: the upstream wants a token in each request; it gets one from now on", zap.Stringer("spn", spn))
	}
}

// warnings are those that are worth saying once, and not for each request.
type warnings struct {
	mu   sync.Mutex
	said map[string]struct{}
}

// maxWarnings bounds the memory of what was said.
const maxWarnings = 256

func (w *warnings) warn(logger *zap.Logger, about, message string, fields ...zap.Field) {
	w.mu.Lock()
	_, said := w.said[about]
	if !said {
		if w.said == nil || len(w.said) >= maxWarnings {
			w.said = make(map[string]struct{})
		}
		w.said[about] = struct{}{}
	}
	w.mu.Unlock()
	if !said {
		logger.Warn(message, fields...)
	}
}
