package metrics

import (
	"errors"
	"slices"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// KDC counts the requests to KDCs that one block of the configuration makes. Realms and
// KDCs from the DNS and from referrals are labelled [Other]. A nil *KDC counts nothing.
type KDC struct {
	own   string     // the account's realm
	named kdc.Static // the KDCs that the configuration names, by realm

	mu    sync.Mutex
	asked []kdc.Server // of the own realm, beside those that are named
}

// maxAsked bounds the KDCs that are kept: the DNS decides how many there are.
const maxAsked = 256

// NewKDC returns the counters of an account of the realm own. named has the realms that
// the configuration names, each with the KDCs that it names.
func NewKDC(own string, named kdc.Static) *KDC {
	return &KDC{own: own, named: named}
}

// Realm returns the label of a realm.
func (m *KDC) Realm(name string) string {
	if _, ok := m.named[name]; ok {
		return Label(name)
	}
	return Other
}

func (m *KDC) server(s kdc.Server) string {
	for _, servers := range m.named {
		if slices.Contains(servers, s) {
			return Label(s.String())
		}
	}
	return Other
}

// Servers lists the KDCs of the own realm that are named or were asked.
func (m *KDC) Servers() []kdc.Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.named[m.own], m.asked)
}

// Message counts a reply.
func (m *KDC) Message(e kdc.MessageEvent) {
	if m == nil || e.Direction != kdc.Received {
		return
	}
	realm := m.Realm(e.Realm)
	if e.Err != nil {
		if reason := "foreign"; errors.Is(e.Err, kdc.ErrForeign) {
			if messages.TypeOf(e.Data) == 0 {
				reason = "malformed"
			}
			badReplies.WithLabelValues(realm, reason).Inc()
		}
		return // a request that fails by it is counted by Decision
	}
	kind := requestType(e.Request)
	exchangesTotal.WithLabelValues(realm, m.server(e.Server), kind, replyResult(e.Data)).Inc()
	exchangeSeconds.WithLabelValues(realm, kind).Observe(e.Elapsed.Seconds())
}

// Decision counts a request that failed, and notes which KDCs are asked.
func (m *KDC) Decision(d kdc.Decision) {
	if m == nil {
		return
	}
	switch d.Kind {
	case kdc.Asking, kdc.Hedging:
		if d.Request != nil { // else it is no KDC that is asked (kdc.Request.Compose)
			m.note(d.Realm, d.Server)
		}
	case kdc.Dead:
		exchangesTotal.WithLabelValues(m.Realm(d.Realm), m.server(d.Server), requestType(d.Request), "failed").Inc()
	default: // no request ends with it
	}
}

// note keeps a KDC of the own realm that is asked.
func (m *KDC) note(realm string, server kdc.Server) {
	if realm != m.own || slices.Contains(m.named[m.own], server) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asked) < maxAsked && !slices.Contains(m.asked, server) {
		m.asked = append(m.asked, server)
	}
}

// Exchange counts a reply whose content was rejected.
func (m *KDC) Exchange(e exchange.Event) {
	if refused, ok := e.(exchange.ReplyRefused); ok && m != nil {
		reason := "unexpected"
		if _, ok := errors.AsType[*exchange.WrongKeyError](refused.Err); ok {
			reason = "wrong_key"
		}
		badReplies.WithLabelValues(m.Realm(m.own), reason).Inc()
	}
}

// requestType is as or tgs (RFC 4120, Section 5.4.1), or Other: a change of the password (RFC 3244).
func requestType(request []byte) string {
	switch messages.TypeOf(request) {
	case messages.KRB_AS_REQ:
		return "as"
	case messages.KRB_TGS_REQ:
		return "tgs"
	}
	return Other
}

// replyResult tells a ticket, a KRB-ERROR that the exchange continues after, and a refusal
// apart.
func replyResult(reply []byte) string {
	refusal, err := messages.ParseKRBError(reply)
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
