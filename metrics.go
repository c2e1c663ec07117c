package caddynegotiate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// other is the label of what the configuration does not name.
const other = "other"

// The collectors belong to the process, as the identities do: each configuration
// registers the same ones with its own registry, so that nothing begins anew at a
// reload.
var (
	requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_negotiate_requests_total",
		Help: "Requests by what became of their authentication: ok, retried (accepted at the second try), rejected (by the upstream), error (nothing was sent, or no answer came that can be trusted).",
	}, []string{"identity", "result"})
	tokenBytes = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "caddy_negotiate_token_bytes",
		Help:    "Size of the Authorization header's value.",
		Buckets: []float64{1024, 2048, 4096, 6144, 8190, 12288, 16384, 32768, 65536},
	})
	upstreamRejections = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_negotiate_upstream_rejections_total",
		Help: "Tokens that upstreams refused, by the number of the Kerberos error that came with it.",
	}, []string{"identity", "code"})
	exchangesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_kerberos_kdc_exchanges_total",
		Help: "Questions to KDCs by type (as, tgs) and result: ok (a ticket), challenge (the KDC asks for more), refused, failed (no answer).",
	}, []string{"realm", "kdc", "type", "result"})
	exchangeSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_kerberos_kdc_exchange_duration_seconds",
		Help:    "Time from a question to a KDC to its answer.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"realm", "type"})
	cacheLookups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_kerberos_cache_lookups_total",
		Help: "Tickets by where they came from: hit, storage, miss (a KDC was asked), error.",
	}, []string{"identity", "result"})
	storeOperations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_kerberos_store_operations_total",
		Help: "Operations on stored tickets (load, save, delete, lock, unlock) by result: ok, miss (nothing is stored that still serves), unopened (sealed with another key, or changed), busy (the lock was not had, as a rule because another process has it), failed (the storage failed, or was too slow), skipped (it is left alone for a while, because it failed).",
	}, []string{"operation", "result"})
	badReplies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_kerberos_bad_replies_total",
		Help: "Replies that were not believed: malformed, foreign (they answer no question of ours), wrong_key, unexpected (other content than asked for).",
	}, []string{"realm", "reason"})
)

// register makes the collectors part of a configuration's registry.
func register(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		requestsTotal, tokenBytes, upstreamRejections, exchangesTotal, exchangeSeconds, cacheLookups, storeOperations, badReplies, gauges{},
	} {
		err := registry.Register(c)
		if known := (prometheus.AlreadyRegisteredError{}); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// meter is the counters of one identity, looked up once.
type meter struct {
	identity string

	ok, retried, rejected, failed prometheus.Counter
	hit, stored, missed, unlucky  prometheus.Counter
}

func meterOf(identity string) *meter {
	identity = label(identity)
	requests := func(result string) prometheus.Counter { return requestsTotal.WithLabelValues(identity, result) }
	lookups := func(result string) prometheus.Counter { return cacheLookups.WithLabelValues(identity, result) }
	return &meter{
		identity: identity,
		ok:       requests("ok"), retried: requests("retried"), rejected: requests("rejected"), failed: requests("error"),
		hit: lookups("hit"), stored: lookups("storage"), missed: lookups("miss"), unlucky: lookups("error"),
	}
}

// looked counts a lookup. An answer without a ticket that is remembered counts as
// one too: somebody went without.
func (m *meter) looked(source cache.Source, err error) {
	switch {
	case err != nil && !negotiate.Remembered(err):
		return // it did not come to a lookup
	case err != nil:
		m.unlucky.Inc()
	case source == cache.Cached:
		m.hit.Inc()
	case source == cache.Stored:
		m.stored.Inc()
	default:
		m.missed.Inc()
	}
}

// answered counts a request that got the upstream's answer.
func (m *meter) answered(out *outcome, repeated bool) {
	switch {
	case out.trouble.Name == errTokenRefused:
		m.rejected.Inc()
	case repeated:
		m.retried.Inc()
	default:
		m.ok.Inc()
	}
}

// broken counts a request that got no answer, unless its client did not wait for one.
func (m *meter) broken(ctx context.Context) {
	if ctx.Err() == nil {
		m.failed.Inc()
	}
}

// refused counts a token that the upstream refused, not what it forbids somebody whom it knows.
func (m *meter) refused(v negotiate.Verdict) {
	if v.Refused && !v.Proven {
		upstreamRejections.WithLabelValues(m.identity, codeLabel(v.Error)).Inc()
	}
}

// codeLabel is the number of a registered error. Anything else may be an upstream's
// invention.
func codeLabel(e *messages.KRBError) string {
	if e == nil {
		return "none"
	}
	if strings.HasPrefix(e.Code().String(), "K") {
		return codeText(e.Code())
	}
	return other
}

// kdcMeter counts what one account's KDCs are asked. It knows which realms and
// KDCs the configuration names: others come out of the DNS and of referrals, and
// get no label of their own.
type kdcMeter struct {
	own     string     // the account's realm
	stated  kdc.Static // KDCs by realm
	servers map[kdc.Server]struct{}

	mu    sync.Mutex
	asked []kdc.Server // of the own realm, beside those that are stated
}

func newKDCMeter(known atlas, own string, stated []kdc.Server) *kdcMeter {
	m := &kdcMeter{own: own, stated: known.named(own, stated), servers: make(map[kdc.Server]struct{})}
	for _, servers := range m.stated {
		for _, s := range servers {
			m.servers[s] = struct{}{}
		}
	}
	return m
}

// named gives the realms that the configuration names, each with its KDCs as far as
// it names them too.
func (a atlas) named(own string, stated []kdc.Server) kdc.Static {
	all := kdc.Static{own: nil}
	add := func(realm string, addresses []string) {
		for _, address := range addresses {
			if s, err := kdc.ParseServer(address); err == nil {
				all[realm] = append(all[realm], s)
			}
		}
	}
	for name, realm := range a.realms {
		all[name] = nil
		add(name, realm.KDC)
	}
	if len(stated) > 0 {
		all[own] = stated
	}
	if a.conf != nil {
		for name, realm := range a.conf.Realms {
			if len(all[name]) == 0 {
				all[name] = nil
				add(name, realm.KDCs)
			}
		}
	}
	return all
}

func (m *kdcMeter) realm(name string) string {
	if _, ok := m.stated[name]; ok {
		return label(name)
	}
	return other
}

func (m *kdcMeter) server(s kdc.Server) string {
	if _, ok := m.servers[s]; ok {
		return label(s.String())
	}
	return other
}

// label makes what Prometheus takes of names that may come out of files.
func label(name string) string { return strings.ToValidUTF8(name, "?") }

// questionType is as or tgs, by the tag of the request (RFC 4120 5.4.1).
func questionType(question []byte) string {
	switch messages.TypeOf(question) {
	case messages.KRB_AS_REQ:
		return "as"
	case messages.KRB_TGS_REQ:
		return "tgs"
	}
	return other
}

// message counts an answer.
func (m *kdcMeter) message(e kdc.MessageEvent) {
	if m == nil || e.Direction != kdc.Received {
		return
	}
	realm := m.realm(e.Realm)
	if e.Err != nil {
		if errors.Is(e.Err, kdc.ErrForeign) {
			badReplies.WithLabelValues(realm, foreignReason(e.Data)).Inc()
		}
		return // what becomes of it is a decision
	}
	kind := questionType(e.Question)
	exchangesTotal.WithLabelValues(realm, m.server(e.Server), kind, answerResult(e.Data)).Inc()
	exchangeSeconds.WithLabelValues(realm, kind).Observe(e.Elapsed.Seconds())
}

// foreignReason tells what is no message from what answers something else.
func foreignReason(data []byte) string {
	if messages.TypeOf(data) == 0 {
		return "malformed"
	}
	return "foreign"
}

// answerResult tells a ticket from a question back and from a refusal.
func answerResult(answer []byte) string {
	refusal, err := messages.ParseKRBError(answer)
	if err != nil {
		return "ok"
	}
	switch refusal.Code() {
	case messages.KDC_ERR_PREAUTH_REQUIRED, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, messages.KDC_ERR_PREAUTH_EXPIRED,
		messages.KRB_ERR_RESPONSE_TOO_BIG, messages.KDC_ERR_WRONG_REALM, messages.KRB_AP_ERR_SKEW:
		return "challenge"
	}
	return "refused"
}

// decision counts what did not come.
func (m *kdcMeter) decision(d kdc.Decision) {
	if m == nil {
		return
	}
	switch d.Kind {
	case kdc.Asking, kdc.Hedging:
		m.note(d.Realm, d.Server)
	case kdc.Dead:
		exchangesTotal.WithLabelValues(m.realm(d.Realm), m.server(d.Server), questionType(d.Question), "failed").Inc()
	default: // no question ends with it
	}
}

// maxAsked bounds what is remembered; the DNS says how many KDCs there are.
const maxAsked = 256

// note remembers a KDC of the own realm that was asked.
func (m *kdcMeter) note(realm string, server kdc.Server) {
	if realm != m.own || slices.Contains(m.stated[m.own], server) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asked) < maxAsked && !slices.Contains(m.asked, server) {
		m.asked = append(m.asked, server)
	}
}

// list gives the KDCs of the own realm that are stated or were asked.
func (m *kdcMeter) list() []kdc.Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.stated[m.own], m.asked)
}

// event counts replies whose content was not believed.
func (m *kdcMeter) event(e exchange.Event) {
	if refused, ok := e.(exchange.ReplyRefused); ok && m != nil {
		badReplies.WithLabelValues(m.realm(m.own), refusedReason(refused.Err)).Inc()
	}
}

func refusedReason(err error) string {
	if _, ok := errors.AsType[*exchange.WrongKeyError](err); ok {
		return "wrong_key"
	}
	return "unexpected"
}
