package caddynegotiate

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// habits is what is known, with `per_connection`, of how upstreams take requests
// without a token on a connection that has been authenticated.
type habits struct {
	mu    sync.Mutex
	known map[string]habit
}

type habit int

const (
	unknownHabit  habit = iota
	bindsToken          // one token serves a connection
	wantsEachTime       // every request needs its own
)

// maxHabits bounds what is remembered, for services can come out of requests.
const maxHabits = 1024

// skipToken tells whether a request may go without a token: where the service is
// known to bind connections, or if a refusal can be made good.
func (h *habits) skipToken(spn negotiate.SPN, repeatable bool) bool {
	switch h.of(spn) {
	case bindsToken:
		return true
	case wantsEachTime:
		return false
	default:
		return repeatable
	}
}

func (h *habits) of(spn negotiate.SPN) habit {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[spn.String()]
}

func (h *habits) learn(spn negotiate.SPN, what habit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil || len(h.known) >= maxHabits {
		h.known = make(map[string]habit)
	}
	h.known[spn.String()] = what
}

// served notes that a request without a token was let in.
func (h *habits) served(spn negotiate.SPN) {
	if h.of(spn) == unknownHabit {
		h.learn(spn, bindsToken)
	}
}

// wantsEach notes that a request without a token was refused.
func (h *habits) wantsEach(logger *zap.Logger, spn negotiate.SPN) {
	if h.of(spn) != wantsEachTime {
		h.learn(spn, wantsEachTime)
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
