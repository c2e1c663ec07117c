package connections

import (
	"fmt"
	"net/http"
	"testing"
)

// connTo is a connection to an upstream that is not used yet.
func (p *Pool) connTo(address string) *Conn { return &Conn{pool: p, server: p.server(address)} }

func TestSharing_Learnt(t *testing.T) {
	const a, b = "HTTP/a", "HTTP/b"
	for name, c := range map[string]struct {
		happens func(p *Pool)
		want    bool
	}{
		"nothing":                           {func(*Pool) {}, false},
		"one proof":                         {func(p *Pool) { p.connTo("x").Proven(a) }, false},
		"two on one connection":             {func(p *Pool) { c := p.connTo("x"); c.Proven(a); c.Proven(a) }, true},
		"one on each of two connections":    {func(p *Pool) { p.connTo("x").Proven(a); p.connTo("x").Proven(a) }, false},
		"of two services":                   {func(p *Pool) { c := p.connTo("x"); c.Proven(a); c.Proven(b) }, false},
		"of another service":                {func(p *Pool) { c := p.connTo("x"); c.Proven(b); c.Proven(b) }, false},
		"at another upstream":               {func(p *Pool) { c := p.connTo("y"); c.Proven(a); c.Proven(a) }, false},
		"with an unproven response between": {func(p *Pool) { c := p.connTo("x"); c.Proven(a); c.Unproven(); c.Proven(a) }, false},
		"after an unproven response":        {func(p *Pool) { c := p.connTo("x"); c.Unproven(); c.Proven(a); c.Proven(a) }, true},
		"withdrawn": {func(p *Pool) {
			c := p.connTo("x")
			c.Proven(a)
			c.Proven(a)
			p.Withdraw(Route{Upstream: "x", Service: a})
		}, false},
		"withdrawn for another service": {func(p *Pool) {
			c := p.connTo("x")
			c.Proven(a)
			c.Proven(a)
			p.Withdraw(Route{Upstream: "x", Service: b})
		}, true},
		"withdrawn, and two proofs": {func(p *Pool) {
			p.Withdraw(Route{Upstream: "x", Service: a})
			c := p.connTo("x")
			c.Proven(a)
			c.Proven(a)
		}, false},
		"over a connection to another proxy": {func(p *Pool) { c := &Conn{pool: p}; c.Proven(a); c.Proven(a) }, false},
	} {
		p := newPool(t, new(http.Transport))
		c.happens(p)
		if got := p.Shares(Route{Upstream: "x", Service: a, Owner: "alice"}); got != c.want {
			t.Errorf("%s: shared %t, want %t", name, got, c.want)
		}
	}
}

func TestSharing_Bounded(t *testing.T) {
	p := newPool(t, new(http.Transport))
	c := p.connTo("x")
	for i := range 2 * maxTargets {
		service := fmt.Sprint("HTTP/", i)
		c.Proven(service)
		c.Proven(service)
	}
	if len(p.sharing) > maxTargets {
		t.Errorf("%d targets are kept", len(p.sharing))
	}
}
