package caddynegotiate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin shows on Caddy's admin endpoint what the process holds, and lets it
// forget: `GET /kerberos/identities`, `GET /kerberos/tickets` and
// `POST /kerberos/flush`, the last two narrowed by the query's `identity`, `spn` and
// `user`. No key, no ticket and no token is ever shown.
//
// It holds nothing itself: the pools that it reads outlive configurations, and
// Caddy makes this module before it loads any app.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.kerberos", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/kerberos/identities", Handler: answerWith(http.MethodGet, func(url.Values) (any, error) { return viewIdentities(), nil })},
		{Pattern: "/kerberos/tickets", Handler: answerWith(http.MethodGet, viewTickets)},
		{Pattern: "/kerberos/flush", Handler: answerWith(http.MethodPost, flush)},
	}
}

// answerWith makes a handler that answers in JSON.
func answerWith(method string, answer func(url.Values) (any, error)) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method {
			w.Header().Set("Allow", method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed here, use %s", r.Method, method)}
		}
		query := r.URL.Query()
		for name, values := range query {
			if !slices.Contains([]string{"identity", "spn", "user"}, name) || len(values) > 1 {
				return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%q is unknown or given twice; identity, spn and user may be given, once each", name)}
			}
		}
		result, err := answer(query)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		return json.NewEncoder(w).Encode(result)
	})
}

// identityView is what is shown of an identity.
type identityView struct {
	Name      string   `json:"name"`
	Names     []string `json:"names"`
	Principal string   `json:"principal"`
	Realm     string   `json:"realm"`
	Kind      string   `json:"kind"`
	// Path is the file that the credentials are in, if they are in one.
	Path    string      `json:"path,omitempty"`
	Keys    []keyView   `json:"keys"`
	TGT     *ticketTime `json:"tgt"`
	Tickets int         `json:"tickets"`
	Breaker breakerView `json:"breaker"`
	KDCs    []kdcView   `json:"kdcs"`
	// ClockOffsets are seconds by which the clocks of realms are ahead of ours.
	ClockOffsets map[string]float64 `json:"clock_offset_seconds"`
}

type keyView struct {
	KVNO  uint32 `json:"kvno,omitempty"`
	EType string `json:"etype"`
}

// ticketTime is when a ticket is good.
type ticketTime struct {
	AuthTime  time.Time  `json:"auth_time"`
	StartTime time.Time  `json:"start_time"`
	EndTime   time.Time  `json:"end_time"`
	RenewTill *time.Time `json:"renew_till,omitempty"`
}

func timesOf(c *messages.Credential) ticketTime {
	t := ticketTime{AuthTime: c.AuthTime.UTC(), StartTime: c.Start().UTC(), EndTime: c.EndTime.UTC()}
	if till := c.RenewTill.UTC(); !c.RenewTill.IsZero() {
		t.RenewTill = &till
	}
	return t
}

type breakerView struct {
	Open   bool       `json:"open"`
	Until  *time.Time `json:"until,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Remedy string     `json:"remedy,omitempty"`
}

type kdcView struct {
	KDC       string     `json:"kdc"`
	Address   string     `json:"address,omitempty"`
	State     string     `json:"state"` // unasked, alive, dead
	DeadUntil *time.Time `json:"dead_until,omitempty"`
	Failures  int        `json:"failures,omitempty"`
	LastError string     `json:"last_error,omitempty"`
	ErrorTime *time.Time `json:"last_error_time,omitempty"`
	Answer    *time.Time `json:"last_answer,omitempty"`
	TCPFirst  bool       `json:"tcp_first,omitempty"`
}

// viewIdentities lists the identities, in the order of their names.
func viewIdentities() []identityView {
	held, health := tickets.Snapshot(nil), kdcs.Health()
	all := present()
	views := make([]identityView, 0, len(all))
	for _, p := range all {
		views = append(views, p.view(p.filter(held), health))
	}
	slices.SortFunc(views, func(a, b identityView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Path, b.Path))
	})
	return views
}

func (p *presence) view(held []ticketItem, health []kdc.Health) identityView {
	principal := p.Principal()
	v := identityView{
		Names: p.names(), Principal: principal.String(), Realm: principal.Realm,
		Keys: []keyView{}, Tickets: len(held), KDCs: p.viewKDCs(health),
		ClockOffsets: map[string]float64{principal.Realm: 0},
	}
	v.Kind, v.Path = p.Origin()
	v.Name = p.name()
	for _, key := range p.Keys() {
		v.Keys = append(v.Keys, keyView{key.KVNO, key.EType.String()})
	}
	for _, item := range held {
		if times := timesOf(item.Value.Credential()); negotiate.IsTGT(item.Key) && (v.TGT == nil || times.EndTime.Before(v.TGT.EndTime)) {
			v.TGT = &times
		}
	}
	if refused := p.Refused(); refused != nil {
		until := refused.Until.UTC()
		v.Breaker = breakerView{Open: true, Until: &until, Reason: refused.Err.Error(), Remedy: diagnose(refused).Remedy}
	}
	for realm, offset := range p.Offsets() {
		v.ClockOffsets[realm] = offset.Seconds()
	}
	return v
}

// viewKDCs lists the KDCs of the identity's realm.
func (p *presence) viewKDCs(health []kdc.Health) []kdcView {
	views := []kdcView{}
	known := make(map[kdc.Server]bool)
	servers := p.servers()
	for _, h := range health {
		if slices.Contains(servers, h.Server) {
			known[h.Server] = true
			views = append(views, viewKDC(h))
		}
	}
	for _, s := range servers {
		if !known[s] {
			views = append(views, kdcView{KDC: s.String(), State: "unasked"})
		}
	}
	return views
}

func viewKDC(h kdc.Health) kdcView {
	v := kdcView{KDC: h.Server.String(), Address: h.Addr, State: "alive", Failures: h.Failures, TCPFirst: h.TCPFirst}
	shown := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	v.Answer, v.ErrorTime = shown(h.LastAnswer), shown(h.LastErrorTime)
	if h.LastError != nil {
		v.LastError = h.LastError.Error()
	}
	if h.Failures > 0 {
		v.State, v.DeadUntil = "dead", shown(h.DeadUntil)
	} else if h.LastAnswer.IsZero() {
		v.State = "unasked"
	}
	return v
}

// ticketView is what is shown of a ticket.
type ticketView struct {
	Identity string `json:"identity"`
	// Service is whom the ticket is for as the KDC named it, SPN as it was asked for:
	// krbtgt is our own ticket-granting ticket, self a user's ticket to ourselves.
	Service string `json:"service"`
	SPN     string `json:"spn"`
	// User is the end user it was asked for, Client who the service sees.
	User   string `json:"user,omitempty"`
	Client string `json:"client"`
	// SessionEType is that of the key that we and the service share, TicketEType
	// and KVNO are those of the service's own key.
	SessionEType string `json:"session_etype"`
	TicketEType  string `json:"ticket_etype,omitempty"`
	KVNO         uint32 `json:"kvno,omitempty"`
	Flags        string `json:"flags"`
	ticketTime
	// Uses counts those after the first.
	Uses    uint64 `json:"uses"`
	Bytes   int64  `json:"bytes"`
	Suspect bool   `json:"suspect,omitempty"`
}

func viewTicket(identity string, item ticketItem) ticketView {
	c := item.Value.Credential()
	v := ticketView{
		Identity: identity, Service: c.Service.String(), SPN: item.Key.SPN, User: shownUser(item.Key), Client: c.Client.String(),
		SessionEType: c.Key.EType().String(), Flags: c.Flags.String(), ticketTime: timesOf(c),
		Uses: item.Uses, Bytes: item.Bytes, Suspect: item.Suspect,
	}
	if t, err := messages.ParseTicket(c.Ticket); err == nil {
		v.TicketEType, v.KVNO = t.EncPart.EType.String(), t.EncPart.KVNO
	}
	return v
}

// shownUser is the user in a ticket's key, without the mark that UPNs have there.
func shownUser(key cache.Key) string { return strings.TrimPrefix(key.User, "upn:") }

// selection is whom a query means.
type selection struct {
	identities []*presence
	spn, user  string
}

// selected reads a query. An identity goes by any of its names or by its principal.
func selected(query url.Values) (selection, error) {
	s := selection{identities: present(), spn: query.Get("spn"), user: query.Get("user")}
	name := query.Get("identity")
	if name == "" {
		return s, nil
	}
	s.identities = slices.DeleteFunc(s.identities, func(p *presence) bool {
		return !slices.Contains(p.names(), name) && p.Principal().String() != name
	})
	if len(s.identities) == 0 {
		return s, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no identity is called %q; /kerberos/identities lists them", name)}
	}
	return s, nil
}

// narrow tells whether only some tickets of the identities are meant.
func (s selection) narrow() bool { return s.spn != "" || s.user != "" }

// has tells whether a ticket is meant. Names are compared without regard to case, as
// people type them.
func (s selection) has(key cache.Key) bool {
	return (s.spn == "" || strings.EqualFold(s.spn, key.SPN)) && (s.user == "" || s.namesUser(shownUser(key)))
}

// namesUser tells whether the user of a ticket is meant, with or without the realm.
func (s selection) namesUser(user string) bool {
	bare, _, _ := strings.Cut(user, "@")
	return user != "" && (strings.EqualFold(s.user, user) || strings.EqualFold(s.user, bare))
}

func viewTickets(query url.Values) (any, error) {
	s, err := selected(query)
	if err != nil {
		return nil, err
	}
	views := []ticketView{}
	held := tickets.Snapshot(nil)
	for _, p := range s.identities {
		name := p.name()
		for _, item := range p.filter(held) {
			if s.has(item.Key) {
				views = append(views, viewTicket(name, item))
			}
		}
	}
	slices.SortFunc(views, func(a, b ticketView) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.User, b.User), cmp.Compare(a.Service, b.Service), cmp.Compare(a.SPN, b.SPN))
	})
	return views, nil
}

// flushView is what a flush came to.
type flushView struct {
	Identities int `json:"identities"`
	Tickets    int `json:"tickets"`
	Breakers   int `json:"breakers"`
}

// flush forgets tickets. Where no single service or user is meant it closes breakers
// too, so that the next request logs in.
func flush(query url.Values) (any, error) {
	s, err := selected(query)
	if err != nil {
		return nil, err
	}
	view := flushView{Identities: len(s.identities)}
	for _, p := range s.identities {
		if s.narrow() {
			view.Tickets += tickets.Flush(func(k cache.Key) bool { return p.Owns(k) && s.has(k) })
			continue
		}
		if p.Refused() != nil {
			view.Breakers++
		}
		view.Tickets += p.Flush()
	}
	return view, nil
}

// Interface guards
var _ caddy.AdminRouter = (*Admin)(nil)
