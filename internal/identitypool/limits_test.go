package identitypool

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
)

func wantMemory(t *testing.T, p *Pool, memory int64) {
	t.Helper()
	if got := p.tickets.Stats().Memory; got != memory {
		t.Fatalf("memory %d, want %d", got, memory)
	}
}

func TestLimits_RejectedConfigurationLeavesNone(t *testing.T) {
	p := New()
	running, rejected, next := &Limits{Memory: 1 << 20}, &Limits{Memory: 2 << 20}, &Limits{Memory: 3 << 20}
	p.Apply(running)
	wantMemory(t, p, 1<<20)
	p.Apply(rejected) // it starts, another app of its configuration does not
	p.Revert(rejected)
	wantMemory(t, p, 1<<20)
	p.Apply(next)
	p.Revert(running)
	wantMemory(t, p, 3<<20)
	p.Revert(next)
	p.Revert(next)
	wantMemory(t, p, cache.DefaultMemory)
}

func TestLimits_Default(t *testing.T) {
	p := New()
	rejected, first, next := &Limits{Memory: 1 << 20}, &Limits{Memory: 2 << 20}, &Limits{Memory: 3 << 20}
	p.ApplyDefault(rejected)
	wantMemory(t, p, 1<<20)
	p.Revert(rejected) // never started
	wantMemory(t, p, cache.DefaultMemory)

	p.ApplyDefault(first)
	wantMemory(t, p, 2<<20)
	p.ApplyDefault(next)
	wantMemory(t, p, 2<<20) // limits are in force
	p.Revert(next)
	wantMemory(t, p, 2<<20)
	p.Apply(first)
	p.ApplyDefault(next)
	p.Apply(next)
	wantMemory(t, p, 3<<20)
	p.Revert(first)
	wantMemory(t, p, 3<<20)
}
