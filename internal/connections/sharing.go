package connections

// target is a service at an upstream.
type target struct{ upstream, service string }

// verdict is what is known of a target.
type verdict int

const (
	untested  verdict = iota
	shared            // it has proven each of two tokens of one user on that user's connection
	withdrawn         // later it has not
)

// maxTargets bounds the targets of a pool. Users do not share the connections of further
// ones.
const maxTargets = 1024

// Shares reports whether users may share connections to the route's upstream, for its
// service. An upstream that considers a connection authenticated by its first token, and
// does not read later ones, cannot prove to have read a later one (RFC 4120, Section 3.2.5:
// the AP-REP repeats the time in its authenticator). One that does prove it, and runs the
// request in the first user's name all the same, cannot be told.
func (p *Pool) Shares(route Route) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sharing[target{route.Upstream, route.Service}] == shared
}

// learn implements Conn.Proven: the second proof on one connection counts.
func (p *Pool) learn(c *Conn, service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.service != service {
		c.service, c.proven = service, 0
	}
	c.proven++
	t := target{c.server.address, service}
	if c.proven < 2 || p.sharing[t] != untested || len(p.sharing) >= maxTargets {
		return false
	}
	p.sharing[t] = shared
	return true
}

// Withdraw ends the sharing of connections to the route's upstream, for its service, for
// the pool's life. It is false if that was so before.
func (p *Pool) Withdraw(route Route) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := target{route.Upstream, route.Service}
	before := p.sharing[t]
	p.sharing[t] = withdrawn
	return before == shared
}
