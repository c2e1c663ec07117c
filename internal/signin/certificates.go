package signin

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// ReplacedLife is how long a certificate that was replaced counts: a connection may have begun
// with it.
const ReplacedLife = 24 * time.Hour

// Certificates knows which certificates this process can have shown to a client, by which the
// client's channel bindings are judged: Go does not tell which one a connection has. It is safe for
// concurrent use.
type Certificates struct {
	now      func() time.Time
	matching func(name string) []certmagic.Certificate

	mu    sync.Mutex
	shown map[string]*shown // by the certificate's encoding
}

// shown is a certificate that was in use.
type shown struct {
	names    []string // of its subject, in lower case
	bindings gss.ChannelBindings
	usable   bool // its signature defines bindings
	last     time.Time
}

// ProcessCertificates knows those of this process's TLS app. What was replaced outlives reloads.
var ProcessCertificates = newCertificates(time.Now, caddytls.AllMatchingCertificates)

func newCertificates(now func() time.Time, matching func(string) []certmagic.Certificate) *Certificates {
	return &Certificates{now: now, matching: matching, shown: make(map[string]*shown)}
}

// Of returns a function that reports whether channel bindings are those of a request's connection:
// of a certificate that can be shown for the name which the client asked for in its handshake, or
// that could be ReplacedLife ago. It is nil for a connection without TLS.
func (c *Certificates) Of(r *http.Request) func(gss.ChannelBindings) bool {
	if r.TLS == nil {
		return nil
	}
	names := c.observe(namesOf(r))
	return func(b gss.ChannelBindings) bool { return c.match(names, b) }
}

// observe records the certificates that are in use for a connection's names. It returns the names
// that counted: a fallback does only if there is no certificate for the others.
func (c *Certificates) observe(names, fallbacks []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	for _, name := range names {
		found = c.observeName(name) || found
	}
	if found {
		return names
	}
	for _, name := range fallbacks {
		c.observeName(name)
	}
	return append(names, fallbacks...)
}

func (c *Certificates) observeName(name string) (found bool) {
	now := c.now()
	for _, cert := range c.matching(name) {
		found = true
		if cert.Leaf == nil {
			continue
		}
		known := c.shown[string(cert.Leaf.Raw)]
		if known == nil {
			c.forget(now)
			binding, err := httpauth.CertificateBinding(cert.Leaf)
			known = &shown{names: cert.Names, bindings: binding.Hashed, usable: err == nil}
			c.shown[string(cert.Leaf.Raw)] = known
		}
		known.last = now
	}
	return found
}

// forget drops what was replaced too long ago.
func (c *Certificates) forget(now time.Time) {
	for key, s := range c.shown {
		if now.Sub(s.last) >= ReplacedLife {
			delete(c.shown, key)
		}
	}
}

// match reports whether one of the certificates for the names, in use or replaced, has the
// bindings.
func (c *Certificates) match(names []string, b gss.ChannelBindings) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for _, s := range c.shown {
		if s.usable && s.bindings == b && now.Sub(s.last) < ReplacedLife && s.isFor(names) {
			return true
		}
	}
	return false
}

// isFor reports whether a certificate can be shown for one of the names, as certmagic decides it:
// by its own names, in which a * is any label.
func (s *shown) isFor(names []string) bool {
	for _, name := range names {
		for _, own := range s.names {
			if own == name || matchesWildcard(own, name) {
				return true
			}
		}
	}
	return false
}

// matchesWildcard reports whether a name matches a pattern whose first labels are asterisks.
func matchesWildcard(pattern, name string) bool {
	for strings.HasPrefix(pattern, "*.") {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return false
		}
		if pattern, name = pattern[2:], rest; pattern == name {
			return true
		}
	}
	return false
}

// namesOf returns the names by which the certificate of a request's connection was chosen, and
// those that count if there is none for them: the name that the client asked for; without one the
// connection's own address and the server's default name.
func namesOf(r *http.Request) (names, fallbacks []string) {
	var defaults []string
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		for _, p := range server.TLSConnPolicies {
			if p != nil && p.DefaultSNI != "" {
				defaults = append(defaults, normal(p.DefaultSNI))
			}
			if p != nil && p.FallbackSNI != "" {
				fallbacks = append(fallbacks, normal(p.FallbackSNI))
			}
		}
	}
	if name := normal(r.TLS.ServerName); name != "" {
		return []string{name}, fallbacks
	}
	if address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if host, _, err := net.SplitHostPort(address.String()); err == nil {
			ip, _, _ := strings.Cut(host, "%")
			names = append(names, ip)
		}
	}
	return append(names, defaults...), fallbacks
}

// normal is a name as certmagic compares it.
func normal(name string) string { return strings.ToLower(strings.TrimSpace(name)) }
