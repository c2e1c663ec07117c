package metrics

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Requests are the counters of one identity's requests, looked up once. They are safe
// for concurrent use.
type Requests struct {
	identity string // the label

	ok, retried, rejected, failed   prometheus.Counter
	hit, stored, miss, lookupErrors prometheus.Counter
	tokens                          prometheus.Observer
}

// NewRequests returns the counters of the identity with this name.
func NewRequests(identity string) *Requests {
	identity = Label(identity)
	requests := func(result string) prometheus.Counter { return requestsTotal.WithLabelValues(identity, result) }
	lookups := func(result string) prometheus.Counter { return cacheLookups.WithLabelValues(identity, result) }
	return &Requests{
		identity: identity,
		ok:       requests("ok"), retried: requests("retried"), rejected: requests("rejected"), failed: requests("error"),
		hit: lookups("hit"), stored: lookups("storage"), miss: lookups("miss"), lookupErrors: lookups("error"),
		tokens: tokenBytes.WithLabelValues(),
	}
}

// Identity is the label under which is counted.
func (r *Requests) Identity() string { return r.identity }

// SignIn counts a client's attempt to sign in.
func (r *Requests) SignIn(result string) { signIns.WithLabelValues(r.identity, result).Inc() }

// Lookup counts a lookup of a ticket. A cached failure counts as a lookup, too; an error
// before the lookup does not.
func (r *Requests) Lookup(source cache.Source, err error) {
	switch {
	case err != nil && !negotiate.Remembered(err):
	case err != nil:
		r.lookupErrors.Inc()
	case source == cache.Cached:
		r.hit.Inc()
	case source == cache.Stored:
		r.stored.Inc()
	default:
		r.miss.Inc()
	}
}

// Token counts a token by its size: the length of the header's value in bytes.
func (r *Requests) Token(size int) { r.tokens.Observe(float64(size)) }

// Answered counts a request that the upstream answered. rejected reports whether it
// refused the last token, repeated whether there were two.
func (r *Requests) Answered(rejected, repeated bool) {
	switch {
	case rejected:
		r.rejected.Inc()
	case repeated:
		r.retried.Inc()
	default:
		r.ok.Inc()
	}
}

// Failed counts a request without an answer, unless its client went away: ctx is the
// request's.
func (r *Requests) Failed(ctx context.Context) {
	if ctx.Err() == nil {
		r.failed.Inc()
	}
}

// Refused counts a token that the upstream refused. A refusal by an upstream that
// authenticated us is about authorization, and is not counted.
func (r *Requests) Refused(v negotiate.Verdict) {
	if v.Refused && !v.Proven {
		upstreamRejections.WithLabelValues(r.identity, codeLabel(v.Error)).Inc()
	}
}

// codeLabel is the number of a registered error. Upstreams may send any other number,
// which must not become a label.
func codeLabel(e *messages.KRBError) string {
	switch {
	case e == nil:
		return "none"
	case e.Code().Registered():
		return strconv.Itoa(int(e.Code()))
	default:
		return Other
	}
}
