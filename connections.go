package caddynegotiate

import (
	"net"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// connAuthState is for `per_connection`: it knows which connections and services accept
// requests without a token.
type connAuthState struct {
	mu            sync.Mutex
	refusals      map[string]int      // by service: successive refusals of requests without a token
	authenticated map[string]struct{} // connections that have carried a token, by their addresses
}

const (
	// maxRefusals is how many requests without a token a service may refuse in a row
	// before each request carries one. A single refusal may concern the connection
	// only: its token was refused, or the upstream has dropped its state.
	maxRefusals = 3
	// maxServices bounds refusals, because services can come from requests.
	maxServices = 1024
	// maxAuthenticated bounds authenticated: connections are not removed when they are
	// closed. One that was dropped carries a token again.
	maxAuthenticated = 8192
)

// skipToken reports whether a request may be sent without a token. That a connection is
// reused does not suffice: net/http keeps connections that it opened for a request which
// then got another.
func (s *connAuthState) skipToken(spn negotiate.SPN, conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals[spn.String()] >= maxRefusals {
		return false
	}
	_, ok := s.authenticated[addresses(conn)]
	return ok
}

// tokenSent records that a connection carries a token.
func (s *connAuthState) tokenSent(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authenticated == nil || len(s.authenticated) >= maxAuthenticated {
		s.authenticated = make(map[string]struct{})
	}
	s.authenticated[addresses(conn)] = struct{}{}
}

// addresses identifies an open connection.
func addresses(conn net.Conn) string {
	return conn.LocalAddr().String() + " " + conn.RemoteAddr().String()
}

// accepted records that the service accepted a request without a token.
func (s *connAuthState) accepted(spn negotiate.SPN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.refusals[spn.String()]; n > 0 && n < maxRefusals {
		delete(s.refusals, spn.String())
	}
}

// refused records that the service refused a request without a token.
func (s *connAuthState) refused(logger *zap.Logger, spn negotiate.SPN) {
	s.mu.Lock()
	if s.refusals == nil || len(s.refusals) >= maxServices {
		s.refusals = make(map[string]int)
	}
	s.refusals[spn.String()]++
	last := s.refusals[spn.String()] == maxRefusals
	s.mu.Unlock()
	if last {
		logger.Warn("per_connection: the upstream wants a token in each request; it gets one from now on", zap.Stringer("spn", spn))
	}
}

// warnOnce logs each warning once, not for each request.
type warnOnce struct {
	mu     sync.Mutex
	logged map[string]struct{}
}

// maxWarnings bounds the warnings that are kept; beyond it they are logged again.
const maxWarnings = 256

// warn logs a message unless it has been logged with the same key.
func (w *warnOnce) warn(logger *zap.Logger, key, message string, fields ...zap.Field) {
	w.mu.Lock()
	_, logged := w.logged[key]
	if !logged {
		if w.logged == nil || len(w.logged) >= maxWarnings {
			w.logged = make(map[string]struct{})
		}
		w.logged[key] = struct{}{}
	}
	w.mu.Unlock()
	if !logged {
		logger.Warn(message, fields...)
	}
}
