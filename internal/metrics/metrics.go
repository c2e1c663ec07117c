package metrics

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the label of what the configuration does not name.
const Other = "other"

// Description describes a metric.
type Description struct {
	Name, Help string
	Labels     []string
}

// Descriptions lists the metrics.
func Descriptions() []Description { return slices.Clone(descriptions) }

var descriptions []Description

// describe lists a metric, and returns its name and help for the collector's options.
func describe(name, help string, labels ...string) (string, string, []string) {
	descriptions = append(descriptions, Description{name, help, labels})
	return name, help, labels
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	name, help, labels = describe(name, help, labels...)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(buckets []float64, name, help string, labels ...string) *prometheus.HistogramVec {
	name, help, labels = describe(name, help, labels...)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	name, help, labels = describe(name, help, labels...)
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	requestsTotal = counter("caddy_negotiate_requests_total",
		"Requests by the result of their authentication: ok, retried (accepted at the second attempt), rejected (by the upstream), error (nothing was sent, or no trustworthy response came).",
		"identity", "result")
	tokenBytes = histogram([]float64{1024, 2048, 4096, 6144, 8190, 12288, 16384, 32768, 65536}, "caddy_negotiate_token_bytes",
		"Size of the value of the Authorization header.")
	upstreamRejections = counter("caddy_negotiate_upstream_rejections_total",
		"Tokens that upstreams refused, by the number of the Kerberos error that came with it.",
		"identity", "code")
	signIns = counter("caddy_negotiate_sign_ins_total",
		"Clients' attempts to sign in by result: ok, session (by a cookie), no_token (the client was asked for one), not_kerberos (NTLM, another scheme), bad_token, replay (or a token from before the start), clock, bad_binding (channel bindings), denied (by realms or groups), throttled (the token was not judged: too many of the address have failed, the replay cache is full, or the account's keys are not known).",
		"identity", "result")
	exchangesTotal = counter("caddy_kerberos_kdc_exchanges_total",
		"Requests to KDCs by type (as, tgs) and result: ok (a ticket), challenge (the KDC asks for more), refused, failed (no reply).",
		"realm", "kdc", "type", "result")
	exchangeSeconds = histogram([]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "caddy_kerberos_kdc_exchange_duration_seconds",
		"Time from a request to a KDC to its reply.",
		"realm", "type")
	cacheLookups = counter("caddy_kerberos_cache_lookups_total",
		"Tickets by where they came from: hit, storage, miss (a KDC was asked), error.",
		"identity", "result")
	storeOperations = counter("caddy_kerberos_store_operations_total",
		"Operations on stored tickets (load, save, delete, lock, unlock) by result: ok, miss (no valid ticket is stored), unopened (sealed with another key, or changed), busy (the lock was not obtained, usually because another process has it), failed (the storage failed, or was too slow), skipped (the storage is not used for a while, because it failed).",
		"operation", "result")
	badReplies = counter("caddy_kerberos_bad_replies_total",
		"Replies that were rejected: malformed, foreign (they answer none of our requests), wrong_key, unexpected (other content than asked for).",
		"realm", "reason")

	ticketsDesc = gauge("caddy_kerberos_tickets", "Tickets that are held.", "identity")
	expiryDesc  = gauge("caddy_kerberos_tgt_expiry_timestamp_seconds",
		"When the ticket-granting ticket ends; in the past if there is none any more.", "identity")
	breakerDesc = gauge("caddy_kerberos_breaker_open",
		"1 while no login is attempted because the KDC refused our credentials.", "identity")
	secretDesc = gauge("caddy_kerberos_secret_age_seconds",
		"How long ago the account's keytab, password file or managed password was changed.", "identity")
	offsetDesc = gauge("caddy_kerberos_clock_offset_seconds",
		"The realm's clock minus ours; of several, the largest.", "realm")
)

// Register makes the collectors part of a configuration's registry; nil is valid. read
// returns what the gauges show, each time they are scraped.
func Register(registry *prometheus.Registry, read func() []Reading) error {
	if registry == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		requestsTotal, tokenBytes, upstreamRejections, signIns, exchangesTotal, exchangeSeconds, cacheLookups, storeOperations, badReplies, gauges{read},
	} {
		err := registry.Register(c)
		if known := (prometheus.AlreadyRegisteredError{}); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// StoreOperation counts an operation on stored tickets.
func StoreOperation(operation, result string) {
	storeOperations.WithLabelValues(operation, result).Inc()
}

// Label returns name as a valid label value: names may come out of files.
func Label(name string) string { return strings.ToValidUTF8(name, "?") }

// Reading is what the gauges show of one identity. Identities that share a label make
// one series.
type Reading struct {
	Identity string    // the label, see [Requests.Identity]
	Tickets  int       // held now
	TGTEnd   time.Time // of the ticket-granting ticket; zero if there never was one
	Refused  bool      // no login is attempted, because the KDC refused the credentials
	// SecretChanged is when the secret was changed last; zero if that is not known.
	SecretChanged time.Time
	// Offsets are the realms' clocks minus ours, by the realms' labels.
	Offsets map[string]time.Duration
}

// gauges collects readings.
type gauges struct{ read func() []Reading }

func (gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ticketsDesc, expiryDesc, breakerDesc, secretDesc, offsetDesc} {
		out <- d
	}
}

func (g gauges) Collect(out chan<- prometheus.Metric) {
	merged := make(map[string]Reading)
	offsets := make(map[string]time.Duration)
	for _, r := range g.read() {
		merged[r.Identity] = merge(merged[r.Identity], r)
		for realm, offset := range r.Offsets {
			if before, ok := offsets[realm]; !ok || offset.Abs() > before.Abs() {
				offsets[realm] = offset
			}
		}
	}
	send := func(desc *prometheus.Desc, value float64, label string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, label)
	}
	for identity, r := range merged {
		send(ticketsDesc, float64(r.Tickets), identity)
		if !r.TGTEnd.IsZero() {
			send(expiryDesc, float64(r.TGTEnd.UnixMilli())/1e3, identity)
		}
		send(breakerDesc, map[bool]float64{true: 1}[r.Refused], identity)
		if !r.SecretChanged.IsZero() {
			send(secretDesc, time.Since(r.SecretChanged).Seconds(), identity)
		}
	}
	for realm, offset := range offsets {
		send(offsetDesc, offset.Seconds(), realm)
	}
}

// merge adds tickets, takes the earliest end and the oldest secret, and refuses if either does.
func merge(a, b Reading) Reading {
	b.Tickets += a.Tickets
	b.TGTEnd, b.SecretChanged = earlier(a.TGTEnd, b.TGTEnd), earlier(a.SecretChanged, b.SecretChanged)
	b.Refused = b.Refused || a.Refused
	return b
}

// earlier returns the earlier of two times, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
