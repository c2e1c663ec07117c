package caddynegotiate

import (
	"cmp"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// gauges reads the pools when somebody asks.
type gauges struct{}

var (
	ticketsDesc = prometheus.NewDesc("caddy_kerberos_tickets", "Tickets that are held.", []string{"identity"}, nil)
	expiryDesc  = prometheus.NewDesc("caddy_kerberos_tgt_expiry_timestamp_seconds",
		"When the ticket-granting ticket ends; in the past if there is none any more.", []string{"identity"}, nil)
	breakerDesc = prometheus.NewDesc("caddy_kerberos_breaker_open",
		"1 while no login is tried because the KDC refused our credentials.", []string{"identity"}, nil)
	offsetDesc = prometheus.NewDesc("caddy_kerberos_clock_offset_seconds",
		"By how much the realm's clock is ahead of ours; of several, the largest.", []string{"realm"}, nil)
)

// Describe implements prometheus.Collector.
func (gauges) Describe(out chan<- *prometheus.Desc) {
	out <- ticketsDesc
	out <- expiryDesc
	out <- breakerDesc
	out <- offsetDesc
}

// reading is what identities that share a label come to.
type reading struct {
	tickets int
	end     time.Time
	open    bool
}

// Collect implements prometheus.Collector.
func (gauges) Collect(out chan<- prometheus.Metric) {
	held := tickets.Snapshot(nil)
	readings := make(map[string]reading)
	offsets := make(map[string]time.Duration)
	for _, p := range present() {
		mine := p.filter(held)
		m := p.meter.Load()
		if m == nil || !p.tried.Load() && len(mine) == 0 {
			continue
		}
		r := readings[m.identity]
		r.tickets += len(mine)
		if end := p.endOf(mine); !end.IsZero() && (r.end.IsZero() || end.Before(r.end)) {
			r.end = end
		}
		r.open = r.open || p.Refused() != nil
		readings[m.identity] = r
		p.addOffsets(offsets)
	}
	gauge := func(desc *prometheus.Desc, value float64, label string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, label)
	}
	for identity, r := range readings {
		gauge(ticketsDesc, float64(r.tickets), identity)
		if !r.end.IsZero() {
			gauge(expiryDesc, float64(r.end.UnixMilli())/1e3, identity)
		}
		gauge(breakerDesc, map[bool]float64{true: 1}[r.open], identity)
	}
	for realm, offset := range offsets {
		gauge(offsetDesc, offset.Seconds(), realm)
	}
}

// addOffsets takes over the offsets that are larger than what is there. The own realm
// has one from the first login on, zero if the clocks agree.
func (p *presence) addOffsets(into map[string]time.Duration) {
	mine := map[string]time.Duration{p.Principal().Realm: 0}
	maps.Copy(mine, p.Offsets())
	for realm, offset := range mine {
		label := p.realmLabel(realm)
		if before, ok := into[label]; !ok || cmp.Compare(offset.Abs(), before.Abs()) > 0 {
			into[label] = offset
		}
	}
}

// realmLabel is the realm's name if the configuration has it.
func (p *presence) realmLabel(realm string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for acct := range p.users {
		if l := acct.counts.realm(realm); l != other {
			return l
		}
	}
	return other
}

// ticketItem is what the cache shows of a ticket.
type ticketItem = cache.Item[*negotiate.Ticket]

// filter picks the identity's tickets.
func (p *presence) filter(items []ticketItem) []ticketItem {
	var mine []ticketItem
	for _, item := range items {
		if p.Owns(item.Key) {
			mine = append(mine, item)
		}
	}
	return mine
}
