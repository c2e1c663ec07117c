package adminapi

import (
	"cmp"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/internal/version"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// IdentitiesView is the answer to GET /kerberos/identities: the plugin's version, and the
// identities in the order of their names.
type IdentitiesView struct {
	version.Info
	Identities []IdentityView `json:"identities"`
}

// IdentityView is what is shown of an identity.
type IdentityView struct {
	// Name is the first of Names, which are those that the configuration has for it.
	Name      string   `json:"name"`
	Names     []string `json:"names"`
	Principal string   `json:"principal"`
	Realm     string   `json:"realm"`
	// Kind is that of the secret: keytab, password, password_file, ccache, certificate, gmsa or
	// platform.
	Kind negotiate.SecretKind `json:"kind"`
	// Path is the file of the secret, empty for a password in the configuration.
	Path string `json:"path,omitempty"`
	// SecretChanged is when the secret was changed last, SecretDue when it will be changed next, as
	// far as known.
	SecretChanged *time.Time `json:"secret_changed,omitempty"`
	SecretDue     *time.Time `json:"secret_due,omitempty"`

	Keys    []KeyView    `json:"keys"`
	TGT     *TicketTimes `json:"tgt"`
	Tickets int          `json:"tickets"`
	Breaker BreakerView  `json:"breaker"`
	KDCs    []KDCView    `json:"kdcs"`
	// ClockOffsets are the clocks of realms minus ours, in seconds.
	ClockOffsets map[string]float64 `json:"clock_offset_seconds"`
	// Ready reports whether the identity has a ticket-granting ticket that has not ended, or has
	// never asked for one. Problem is why it is not.
	Ready   bool         `json:"ready"`
	Problem *ProblemView `json:"problem,omitempty"`
	// Failures are the last logins and ticket requests that failed, newest first.
	Failures []FailureView `json:"failures"`
}

// ProblemView is what is wrong, and what to do about it.
type ProblemView struct {
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// FailureView is a login, or a request for a service's ticket, that failed.
type FailureView struct {
	Time time.Time `json:"time"`
	SPN  string    `json:"spn,omitempty"` // empty for a login
	ProblemView
}

// ReadyView is the answer to GET /kerberos/ready.
type ReadyView struct {
	Ready   bool         `json:"ready"`
	Reasons []ReasonView `json:"reasons"`
}

// ReasonView is an identity that is not ready.
type ReasonView struct {
	Identity string `json:"identity"`
	ProblemView
}

// KeyView is what is shown of a long-term key.
type KeyView struct {
	KVNO  uint32 `json:"kvno,omitempty"`
	EType string `json:"etype"`
}

// TicketTimes are the times of a ticket.
type TicketTimes struct {
	AuthTime  time.Time  `json:"auth_time"`
	StartTime time.Time  `json:"start_time"`
	EndTime   time.Time  `json:"end_time"`
	RenewTill *time.Time `json:"renew_till,omitempty"`
}

// BreakerView is the state of the breaker, which stops logins after the KDC has refused
// the credentials.
type BreakerView struct {
	Open   bool       `json:"open"`
	Until  *time.Time `json:"until,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Remedy string     `json:"remedy,omitempty"`
}

// The states of a KDC.
const (
	StateUnasked = "unasked" // no reply and no failure yet
	StateAlive   = "alive"
	StateDead    = "dead" // the last request failed
)

// KDCView is the health of a KDC.
type KDCView struct {
	KDC       string     `json:"kdc"`
	Address   string     `json:"address,omitempty"`
	State     string     `json:"state"`
	DeadUntil *time.Time `json:"dead_until,omitempty"`
	Failures  int        `json:"failures,omitempty"`
	LastError string     `json:"last_error,omitempty"`
	ErrorTime *time.Time `json:"last_error_time,omitempty"`
	Answer    *time.Time `json:"last_answer,omitempty"`
	TCPFirst  bool       `json:"tcp_first,omitempty"`
}

// TicketView is what is shown of a ticket.
type TicketView struct {
	Identity string `json:"identity"`
	// Service is the service as the KDC named it, SPN as it was requested: krbtgt is the
	// identity's ticket-granting ticket, self a user's evidence ticket.
	Service string `json:"service"`
	SPN     string `json:"spn"`
	// User is the impersonated user as requested, Client the principal that the service
	// sees.
	User   string `json:"user,omitempty"`
	Client string `json:"client"`
	// SessionEType is the type of the session key; TicketEType and KVNO are of the
	// service's own key.
	SessionEType string `json:"session_etype"`
	TicketEType  string `json:"ticket_etype,omitempty"`
	KVNO         uint32 `json:"kvno,omitempty"`
	Flags        string `json:"flags"`
	TicketTimes
	// Uses counts the uses after the first.
	Uses    uint64 `json:"uses"`
	Bytes   int64  `json:"bytes"`
	Suspect bool   `json:"suspect,omitempty"`
}

// FlushView is the result of a flush.
type FlushView struct {
	Identities int `json:"identities"`
	Tickets    int `json:"tickets"`
	Breakers   int `json:"breakers"`
}

// viewIdentities sorts the identities by their names, and shows them in that order.
func (a api) viewIdentities(selected []*identitypool.Identity) []IdentityView {
	tickets, health := a.pool.Tickets(), a.pool.Health()
	slices.SortFunc(selected, func(a, b *identitypool.Identity) int {
		_, pathA := a.Origin()
		_, pathB := b.Origin()
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.Principal().String(), b.Principal().String()), cmp.Compare(pathA, pathB))
	})
	views := make([]IdentityView, 0, len(selected)) // not nil: JSON shows []
	for _, id := range selected {
		views = append(views, viewIdentity(id, id.Select(tickets), health, a.now()))
	}
	return views
}

func viewIdentity(id *identitypool.Identity, held []identitypool.Item, health []kdc.Health, now time.Time) IdentityView {
	principal := id.Principal()
	v := IdentityView{
		Name: id.Name(), Names: id.Names(), Principal: principal.String(), Realm: principal.Realm,
		Keys: []KeyView{}, Tickets: len(held), KDCs: viewKDCs(id.Servers(), health),
		ClockOffsets: map[string]float64{principal.Realm: 0}, Failures: []FailureView{},
	}
	v.Kind, v.Path = id.Origin()
	changed, due := id.SecretTimes()
	v.SecretChanged, v.SecretDue = shown(changed), shown(due)
	for _, key := range id.Keys() {
		v.Keys = append(v.Keys, KeyView{key.KVNO, key.EType.String()})
	}
	for _, item := range held {
		if !negotiate.IsTGT(item.Key) || !item.Value.End().After(now) {
			continue
		}
		if times := timesOf(item.Value.Credential()); v.TGT == nil || times.EndTime.Before(v.TGT.EndTime) {
			v.TGT = &times
		}
	}
	if refused := id.Refused(); refused != nil {
		v.Breaker = BreakerView{Open: true, Until: shown(refused.Until), Reason: refused.Err.Error(), Remedy: diagnosis.Of(refused).Remedy}
	}
	for realm, offset := range id.Offsets() {
		v.ClockOffsets[realm] = offset.Seconds()
	}
	for _, f := range id.Failures() {
		v.Failures = append(v.Failures, FailureView{Time: f.Time.UTC(), SPN: f.SPN, ProblemView: problemOf(f.Err)})
	}
	v.Problem = v.notReady(id)
	v.Ready = v.Problem == nil
	return v
}

// notReady returns why the identity is not ready, nil if it is.
func (v *IdentityView) notReady(id *identitypool.Identity) *ProblemView {
	login := slices.IndexFunc(v.Failures, func(f FailureView) bool { return f.SPN == "" })
	switch {
	case !id.Asked(), v.TGT != nil, v.Kind == negotiate.KindPlatform: // Windows logs in by itself
		return nil
	case v.Breaker.Open:
		return &ProblemView{v.Breaker.Reason, v.Breaker.Remedy}
	case login >= 0:
		return &v.Failures[login].ProblemView
	default:
		return &ProblemView{Reason: "no ticket-granting ticket, or it has ended; a login is under way"}
	}
}

func problemOf(err error) ProblemView {
	return ProblemView{Reason: err.Error(), Remedy: diagnosis.Of(err).Remedy}
}

// viewKDCs lists the servers: first those with a known health.
func viewKDCs(servers []kdc.Server, health []kdc.Health) []KDCView {
	views := []KDCView{}
	known := make(map[kdc.Server]bool)
	for _, h := range health {
		if slices.Contains(servers, h.Server) {
			known[h.Server] = true
			views = append(views, viewKDC(h))
		}
	}
	for _, s := range servers {
		if !known[s] {
			views = append(views, KDCView{KDC: s.String(), State: StateUnasked})
		}
	}
	return views
}

func viewKDC(h kdc.Health) KDCView {
	v := KDCView{
		KDC: h.Server.String(), Address: h.Addr, State: StateAlive, Failures: h.Failures, TCPFirst: h.TCPFirst,
		Answer: shown(h.LastAnswer), ErrorTime: shown(h.LastErrorTime),
	}
	if h.LastError != nil {
		v.LastError = h.LastError.Error()
	}
	if h.Failures > 0 {
		v.State, v.DeadUntil = StateDead, shown(h.DeadUntil)
	} else if h.LastAnswer.IsZero() {
		v.State = StateUnasked
	}
	return v
}

// viewTickets lists the selected tickets, by identity, user and service.
func (s selection) viewTickets(all []identitypool.Item) []TicketView {
	views := []TicketView{}
	for _, id := range s.identities {
		name := id.Name()
		for _, item := range id.Select(all) {
			if s.has(item.Key) {
				views = append(views, viewTicket(name, item))
			}
		}
	}
	slices.SortFunc(views, func(a, b TicketView) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.User, b.User), cmp.Compare(a.Service, b.Service), cmp.Compare(a.SPN, b.SPN))
	})
	return views
}

func viewTicket(identity string, item identitypool.Item) TicketView {
	c := item.Value.Credential()
	v := TicketView{
		Identity: identity, Service: c.Service.String(), SPN: item.Key.SPN, User: negotiate.UserText(item.Key), Client: c.Client.String(),
		Flags: c.Flags.String(), TicketTimes: timesOf(c),
		Uses: item.Uses, Bytes: item.Bytes, Suspect: item.Suspect,
	}
	if etype := item.Value.EType(); etype != 0 { // Windows may not tell
		v.SessionEType = etype.String()
	}
	etype, kvno := item.Value.ServiceKey()
	if v.KVNO = kvno; etype != 0 {
		v.TicketEType = etype.String()
	}
	return v
}

func timesOf(c *messages.Credential) TicketTimes {
	return TicketTimes{AuthTime: c.AuthTime.UTC(), StartTime: c.Start().UTC(), EndTime: c.EndTime.UTC(), RenewTill: shown(c.RenewTill)}
}

// shown is a time in UTC, nil for none.
func shown(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
