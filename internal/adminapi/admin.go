package adminapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/internal/version"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin shows what the process holds, and flushes tickets: `GET /kerberos/` for people,
// `GET /kerberos/identities`, `GET /kerberos/tickets`, `GET /kerberos/ready` and
// `POST /kerberos/flush`. The query's `identity`, and for tickets `spn` and `user`, select.
//
// It has no state: the pool that it reads outlives configurations, and Caddy creates this
// module before it loads any app.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.kerberos", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	a := api{identitypool.Process, time.Now}
	routes := make([]caddy.AdminRoute, len(endpoints))
	for i, e := range endpoints {
		routes[i] = caddy.AdminRoute{Pattern: e.pattern(), Handler: a.handler(e)}
	}
	return routes
}

// Endpoint is a route of the admin endpoint.
type Endpoint struct {
	Method, Path string
	parameters   []string // of the query; each may be set once
	serve        func(api, http.ResponseWriter, url.Values) error
}

var endpoints = []Endpoint{
	{http.MethodGet, "/kerberos/", []string{"refresh"}, api.page},
	{http.MethodGet, "/kerberos/identities", []string{"identity"}, api.identities},
	{http.MethodGet, "/kerberos/tickets", []string{"identity", "spn", "user"}, api.tickets},
	{http.MethodGet, "/kerberos/ready", []string{"identity"}, api.ready},
	{http.MethodPost, "/kerberos/flush", []string{"identity", "spn", "user"}, api.flush},
}

// Endpoints lists the routes.
func Endpoints() []Endpoint { return slices.Clone(endpoints) }

// pattern is what the mux matches: exactly this path, also where it ends with a slash.
func (e Endpoint) pattern() string {
	if strings.HasSuffix(e.Path, "/") {
		return e.Path + "{$}"
	}
	return e.Path
}

// api serves the endpoints.
type api struct {
	pool *identitypool.Pool
	now  func() time.Time
}

// handler checks the method and the query before it serves.
func (a api) handler(e Endpoint) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != e.Method {
			w.Header().Set("Allow", e.Method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed, use %s", r.Method, e.Method)}
		}
		query := r.URL.Query()
		for name, values := range query {
			if !slices.Contains(e.parameters, name) || len(values) > 1 {
				return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%q is unknown or set twice; may be set once each: %s", name, strings.Join(e.parameters, ", "))}
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		return e.serve(a, w, query)
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(value)
}

func (a api) identities(w http.ResponseWriter, query url.Values) error {
	s, err := a.selection(query)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, IdentitiesView{Info: version.Current(), Identities: a.viewIdentities(s.identities)})
}

func (a api) tickets(w http.ResponseWriter, query url.Values) error {
	s, err := a.selection(query)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.viewTickets(a.pool.Tickets()))
}

// ready answers 503 if an identity is not ready. It logs in those that are not, and has the
// others renew their tickets ahead, so that an instance which gets no requests, perhaps
// because it was not ready, becomes and stays ready.
func (a api) ready(w http.ResponseWriter, query url.Values) error {
	s, err := a.selection(query)
	if err != nil {
		return err
	}
	view := ReadyView{Ready: true, Reasons: []ReasonView{}}
	for i, v := range a.viewIdentities(s.identities) {
		if v.Kind != negotiate.KindPlatform {
			s.identities[i].LoginAgain()
		}
		if !v.Ready {
			view.Ready = false
			view.Reasons = append(view.Reasons, ReasonView{Identity: v.Name, ProblemView: *v.Problem})
		}
	}
	if !view.Ready {
		return writeJSON(w, http.StatusServiceUnavailable, view)
	}
	return writeJSON(w, http.StatusOK, view)
}

// flush drops tickets. Without an spn or a user it closes breakers too, so that the next
// request logs in.
func (a api) flush(w http.ResponseWriter, query url.Values) error {
	s, err := a.selection(query)
	if err != nil {
		return err
	}
	view := FlushView{Identities: len(s.identities)}
	for _, id := range s.identities {
		if s.spn != "" || s.user != "" {
			view.Tickets += id.FlushTickets(s.has)
			continue
		}
		if id.Refused() != nil {
			view.Breakers++
		}
		view.Tickets += id.Flush()
	}
	return writeJSON(w, http.StatusOK, view)
}

// selection is what a query selects.
type selection struct {
	identities []*identitypool.Identity
	spn, user  string // empty for all
}

// selection reads a query. An identity is selected by any of its names or by its principal.
func (a api) selection(query url.Values) (selection, error) {
	s := selection{identities: a.pool.Identities(), spn: query.Get("spn"), user: query.Get("user")}
	name := query.Get("identity")
	if name == "" {
		return s, nil
	}
	s.identities = slices.DeleteFunc(s.identities, func(id *identitypool.Identity) bool {
		return !slices.Contains(id.Names(), name) && id.Principal().String() != name && id.Configured().String() != name
	})
	if len(s.identities) == 0 {
		return s, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no identity is called %q; /kerberos/identities lists them", name)}
	}
	return s, nil
}

// has reports whether a ticket is selected. Names are compared without regard to case, as
// people type them; a user with or without the realm.
func (s selection) has(key cache.Key) bool {
	if s.spn != "" && !strings.EqualFold(s.spn, key.SPN) {
		return false
	}
	if s.user == "" {
		return true
	}
	user := negotiate.UserText(key)
	name, _, _ := strings.Cut(user, "@")
	return user != "" && (strings.EqualFold(s.user, user) || strings.EqualFold(s.user, name))
}

// Interface guards
var _ caddy.AdminRouter = (*Admin)(nil)
