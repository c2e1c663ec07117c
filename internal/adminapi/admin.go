package adminapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin shows what the process holds, and flushes tickets: `GET /kerberos/identities`,
// `GET /kerberos/tickets` and `POST /kerberos/flush`, all of them limited by the query's
// `identity`, the last two by `spn` and `user` too.
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
	a := api{identitypool.Process}
	routes := make([]caddy.AdminRoute, len(endpoints))
	for i, e := range endpoints {
		routes[i] = caddy.AdminRoute{Pattern: e.Path, Handler: a.handler(e)}
	}
	return routes
}

// Endpoint is a route of the admin endpoint.
type Endpoint struct {
	Method, Path string
	serve        func(api, url.Values) (any, error)
}

var endpoints = []Endpoint{
	{http.MethodGet, "/kerberos/identities", api.identities},
	{http.MethodGet, "/kerberos/tickets", api.tickets},
	{http.MethodPost, "/kerberos/flush", api.flush},
}

// Endpoints lists the routes.
func Endpoints() []Endpoint { return slices.Clone(endpoints) }

// The parameters of queries.
var parameters = []string{"identity", "spn", "user"}

// api serves the endpoints.
type api struct{ pool *identitypool.Pool }

// handler returns a handler that responds with JSON.
func (a api) handler(e Endpoint) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != e.Method {
			w.Header().Set("Allow", e.Method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed, use %s", r.Method, e.Method)}
		}
		query := r.URL.Query()
		for name, values := range query {
			if !slices.Contains(parameters, name) || len(values) > 1 {
				return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%q is unknown or set twice; identity, spn and user may be set once each", name)}
			}
		}
		result, err := e.serve(a, query)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		return json.NewEncoder(w).Encode(result)
	})
}

func (a api) identities(url.Values) (any, error) { return viewIdentities(a.pool), nil }

func (a api) tickets(query url.Values) (any, error) {
	s, err := a.selection(query)
	if err != nil {
		return nil, err
	}
	return s.viewTickets(a.pool.Tickets()), nil
}

// flush drops tickets. Without an spn or a user it closes breakers too, so that the next
// request logs in.
func (a api) flush(query url.Values) (any, error) {
	s, err := a.selection(query)
	if err != nil {
		return nil, err
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
	return view, nil
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
