package kdctest

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// Protect passes only authenticated requests to next (RFC 4559), which gets the client
// by PeerFrom. Channel bindings and identities kept per connection need a server with
// Connections, such as Upstream.
func (a *Acceptor) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := ConnectionOf(r.Context())
		cfg, _ := a.config()
		token, present := negotiateToken(r.Header.Values("Authorization"))
		if !present {
			if peer := conn.bound(); peer != nil && cfg.PerConnection {
				a.count(func(c *AcceptorCounts) { c.Persisted++ })
				again := *peer
				again.Persisted = true
				next.ServeHTTP(w, r.WithContext(withPeer(r.Context(), &again)))
				return
			}
			a.count(func(c *AcceptorCounts) { c.Missing++ })
			challenge(w, cfg.Challenges, nil)
			return
		}
		var channel *[16]byte
		if leaf := conn.certificate(); leaf != nil {
			if b, ok := EndPointBindings(leaf); ok {
				channel = &b
			}
		}
		peer, reply, err := a.Accept(token, channel)
		if first := conn.bound(); cfg.Sticky != StickyNever && first != nil && err == nil {
			a.countMisattributed(r.Method, peer, first)
			peer = first
			if cfg.Sticky == StickyUnread {
				reply = nil
			}
		}
		if err != nil {
			conn.bind(nil)
			challenge(w, cfg.Challenges, reply)
			return
		}
		if conn != nil {
			peer.Connection = conn.ID
		}
		if cfg.PerConnection || cfg.Sticky != StickyNever {
			conn.bind(peer)
		}
		if cfg.PerConnection {
			w.Header().Set("Persistent-Auth", "true")
		}
		if reply != nil {
			w.Header().Set("Www-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(reply))
		}
		next.ServeHTTP(w, r.WithContext(withPeer(r.Context(), peer)))
	})
}

func (a *Acceptor) countMisattributed(method string, sender, served *Peer) {
	if sender.Principal == served.Principal {
		return
	}
	a.count(func(c *AcceptorCounts) {
		c.Misattributed++
		switch method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
		default:
			c.MisattributedUnsafe++
		}
	})
}

// negotiateToken returns the token of the Negotiate scheme, in any case. A token that
// is not base64 is present and empty.
func negotiateToken(values []string) (token []byte, present bool) {
	for _, v := range values {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
		if !strings.EqualFold(scheme, "Negotiate") {
			continue
		}
		token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if err != nil {
			return nil, true
		}
		return token, true
	}
	return nil, false
}

// challenge writes a 401, with the reply token if there is one.
func challenge(w http.ResponseWriter, challenges []string, reply []byte) {
	if reply != nil {
		challenges = []string{"Negotiate " + base64.StdEncoding.EncodeToString(reply)}
	}
	for _, c := range challenges {
		w.Header().Add("Www-Authenticate", c)
	}
	http.Error(w, "authentication is required", http.StatusUnauthorized)
}
