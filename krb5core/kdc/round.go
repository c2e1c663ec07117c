package kdc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 16

// candidate is a KDC in the queue. Its name must be resolved first unless it is
// an address or left to the proxy.
type candidate struct {
	peer
	ready bool
}

func newCandidate(server Server, proxied bool) candidate {
	if addr, err := netip.ParseAddr(server.Host); err == nil {
		return candidate{peer{server, addr.Unmap()}, true}
	}
	return candidate{peer{server: server}, proxied}
}

type task struct {
	candidate
	kind   DecisionKind // Asking or Hedging
	began  time.Time
	cancel context.CancelFunc
}

// outcome is how a task ended: with addresses, a reply, or why there is none.
type outcome struct {
	*task
	addrs    []netip.Addr
	reply    Reply
	attempts []Attempt
}

// round is one Send. Only the goroutine of run touches it.
type round struct {
	cfg      *config
	request  *Request
	observed context.Context // for the observer
	ctx      context.Context // ends all tasks
	cancel   context.CancelFunc

	queue   []candidate
	running []*task // in the order of their beginning
	results chan outcome
	// timer says that the running ones have been silent long enough.
	timer <-chan time.Time
	stop  func()

	attempts []Attempt
	declined *Reply
}

func (r *round) run() (Reply, error) {
	defer func() {
		if r.stop != nil {
			r.stop()
		}
	}()
	r.launch(Asking)
	for len(r.running) > 0 {
		select {
		case o := <-r.results:
			r.remove(o.task)
			if r.accepts(o) {
				r.leaveBehind(o.task)
				return o.reply, nil
			}
			r.after(o)
		case <-r.timer:
			r.silence()
		case <-r.ctx.Done():
			if reply, ok := r.end(); ok {
				return reply, nil
			}
			return r.giveUp(context.Cause(r.ctx))
		}
	}
	return r.giveUp(context.Cause(r.ctx))
}

// launch starts the first in the queue, if any.
func (r *round) launch(kind DecisionKind) {
	if r.stop != nil {
		r.stop()
		r.timer, r.stop = nil, nil
	}
	if len(r.queue) == 0 || r.ctx.Err() != nil {
		return
	}
	t := &task{candidate: r.queue[0], kind: kind, began: r.cfg.clock.Now()}
	r.queue = r.queue[1:]
	r.running = append(r.running, t)
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(r.ctx)
	if t.ready {
		r.decide(kind, t.peer, nil)
		r.cfg.Memory.asked(t.peer)
		go func() { r.results <- r.ask(ctx, t) }()
	} else {
		go func() { r.results <- r.resolve(ctx, t) }()
	}
	r.arm()
}

// arm sets the timer after which the next candidate has its turn.
func (r *round) arm() {
	if len(r.queue) == 0 {
		return
	}
	d := r.cfg.HedgeDelay
	if r.request.PreAuth {
		d = min(r.cfg.ServerTimeout, r.remaining()/time.Duration(len(r.queue)+1))
	}
	r.timer, r.stop = r.cfg.clock.After(d)
}

func (r *round) remaining() time.Duration {
	deadline, _ := r.ctx.Deadline() // Send has set one
	return max(0, deadline.Sub(r.cfg.clock.Now()))
}

// silence hedges or, with pre-authentication, ends what is under way: its
// outcome starts the next.
func (r *round) silence() {
	r.timer, r.stop = nil, nil
	if !r.request.PreAuth {
		r.launch(Hedging)
		return
	}
	for _, t := range r.running {
		t.cancel()
	}
}

func (r *round) ask(ctx context.Context, t *task) outcome {
	if !r.cfg.Options.usable(t.addr) && t.addr.IsValid() {
		return r.failure(t, fmt.Errorf("%w: the address is not of the IP version of ip_version or local_address", ErrUnsupported))
	}
	a := &ask{cfg: r.cfg, request: r.request, peer: t.peer, observed: r.observed}
	reply, attempts := a.run(ctx)
	return outcome{task: t, reply: reply, attempts: attempts}
}

func (r *round) resolve(ctx context.Context, t *task) outcome {
	options := r.cfg.Options
	found, err := r.cfg.Resolver.LookupNetIP(ctx, options.network(), t.server.Host)
	if err != nil {
		return r.failure(t, fmt.Errorf("its address could not be looked up: %w", err))
	}
	var addrs []netip.Addr
	for _, addr := range found {
		if addr = addr.Unmap(); options.usable(addr) && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return r.failure(t, errors.New("it has no address of the IP version of ip_version or local_address"))
	}
	return outcome{task: t, addrs: addrs[:min(len(addrs), maxAddresses)]}
}

func (r *round) failure(t *task, err error) outcome {
	return outcome{task: t, attempts: []Attempt{{Server: t.server, Addr: t.addrString(), Err: err}}}
}

func (r *round) remove(t *task) {
	t.cancel()
	r.running = slices.DeleteFunc(r.running, func(other *task) bool { return other == t })
}

func (r *round) accepts(o outcome) bool {
	return o.reply.Message != nil && o.reply.Verdict == Accept
}

// after continues after an outcome that is not the end.
func (r *round) after(o outcome) {
	kind := Asking
	switch {
	case o.addrs != nil:
		kind = o.kind
		r.expand(o)
	case o.reply.Message != nil:
		reason := errDeclined
		if o.reply.Verdict == Unproven {
			reason = errUnproven
		}
		r.declined = &o.reply
		r.decide(Declined, o.peer, reason)
		r.attempts = append(r.attempts, Attempt{o.server, o.addrString(), o.reply.Protocol, reason})
		r.fail(o.task, reason)
	default:
		r.attempts = append(r.attempts, o.attempts...)
		if r.ctx.Err() == nil {
			r.fail(o.task, o.reason())
		}
	}
	r.launch(kind)
}

func (o outcome) reason() error {
	errs := make([]error, len(o.attempts))
	for i, a := range o.attempts {
		errs[i] = a.Err
	}
	return errors.Join(errs...)
}

// expand puts the addresses of a name into the queue, those that are dead last.
func (r *round) expand(o outcome) {
	var alive, dead []candidate
	now := r.cfg.clock.Now()
	for _, addr := range o.addrs {
		c := candidate{peer{o.server, addr}, true}
		if r.cfg.Memory.dead(c.peer, now) {
			dead = append(dead, c)
		} else {
			alive = append(alive, c)
		}
	}
	r.queue = slices.Concat(alive, r.queue, dead)
}

func (r *round) fail(t *task, err error) {
	until := r.cfg.Memory.failed(t.peer, t.began, r.cfg.clock.Now(), err)
	r.cfg.decide(r.observed, r.request, t.peer, Decision{Kind: Dead, Until: until, Reason: err})
}

// leaveBehind remembers who answered, and that those asked before did not.
func (r *round) leaveBehind(winner *task) {
	now := r.cfg.clock.Now()
	for _, t := range r.running {
		if waited := now.Sub(t.began); t.began.Before(winner.began) && waited >= r.cfg.HedgeDelay {
			r.fail(t, fmt.Errorf("%w after %s, while another KDC answered", ErrNoAnswer, waited))
		}
	}
	if r.cfg.Memory.answered(winner.peer, now) {
		r.decide(Alive, winner.peer, nil)
	}
	r.cancel()
	r.drain()
}

// end stops all tasks when the context has ended. A reply that came at the last
// moment counts.
func (r *round) end() (Reply, bool) {
	if errors.Is(context.Cause(r.ctx), context.DeadlineExceeded) {
		now := r.cfg.clock.Now()
		for _, t := range r.running {
			if waited := now.Sub(t.began); waited >= r.cfg.HedgeDelay {
				r.fail(t, fmt.Errorf("%w after %s", ErrNoAnswer, waited))
			}
		}
	}
	for _, o := range r.drain() {
		if r.accepts(o) {
			r.cfg.Memory.answered(o.peer, r.cfg.clock.Now())
			return o.reply, true
		}
		r.attempts = append(r.attempts, o.attempts...)
	}
	return Reply{}, false
}

func (r *round) drain() []outcome {
	var all []outcome
	for len(r.running) > 0 {
		o := <-r.results
		r.remove(o.task)
		all = append(all, o)
	}
	return all
}

// giveUp returns the best that there is.
func (r *round) giveUp(cause error) (Reply, error) {
	err := &UnreachableError{Realm: r.request.Realm, Attempts: r.attempts, Cause: cause}
	r.decide(GivenUp, peer{}, err)
	if r.declined != nil {
		return *r.declined, nil
	}
	return Reply{}, err
}

func (r *round) decide(kind DecisionKind, p peer, reason error) {
	r.cfg.decide(r.observed, r.request, p, Decision{Kind: kind, Reason: reason})
}
