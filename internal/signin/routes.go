package signin

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Precedes reports whether requests can come by a negotiate_auth handler before they reach
// the transport that is being provisioned. Where that cannot be seen, in a named route, it is
// taken for granted.
func Precedes(ctx caddy.Context) bool {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return true // `caddy kerberos check` loads the transport alone
	}
	for _, m := range ctx.Modules() {
		inside := false
		for _, routes := range RoutesOf(m, server) {
			var signsIn bool
			if signsIn, inside = above(routes, server); signsIn {
				return true
			}
			if inside {
				break
			}
		}
		if _, outermost := m.(*caddyhttp.App); outermost && !inside {
			return true // a named route
		}
	}
	return false
}

// above reports whether negotiate_auth is in the route that is being loaded, or in one before it
// that a request can pass, and whether there is such a route: without it these are the routes
// before handle_errors.
func above(routes caddyhttp.RouteList, server *caddyhttp.Server) (signsIn, inside bool) {
	current := slices.IndexFunc(routes, func(r caddyhttp.Route) bool { return r.HandlersRaw != nil })
	if inside = current >= 0; inside && signsInBefore(routes[current].HandlersRaw) {
		return true, true
	}
	for i, r := range routes {
		if i == current {
			break
		}
		passed := !inside || !r.Terminal && (r.Group == "" || r.Group != routes[current].Group)
		if passed && signsInByRoute(r, server, make(map[string]bool)) {
			return true, inside
		}
	}
	return false, inside
}

// signsInBefore reports whether negotiate_auth is among the handlers before the first that holds a
// transport for users who have signed in.
func signsInBefore(handlers []json.RawMessage) bool {
	for _, raw := range handlers {
		if bytes.Contains(raw, []byte(`"client_ticket"`)) {
			return false
		}
		if bytes.Contains(raw, []byte(`"negotiate_auth"`)) {
			return true
		}
	}
	return false
}

// signsInByRoute reports whether a route that is loaded has a negotiate_auth handler, however deep.
func signsInByRoute(route caddyhttp.Route, server *caddyhttp.Server, invoked map[string]bool) bool {
	if signsInBefore(route.HandlersRaw) { // a named route that is not loaded yet
		return true
	}
	return slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool {
		switch h := h.(type) {
		case *caddyhttp.Subroute:
			return slices.ContainsFunc(h.Routes, func(r caddyhttp.Route) bool { return signsInByRoute(r, server, invoked) })
		case *caddyhttp.Invoke:
			named := server.NamedRoutes[h.Name]
			if named == nil || invoked[h.Name] {
				return false
			}
			invoked[h.Name] = true
			return signsInByRoute(*named, server, invoked)
		case caddy.Module:
			return h.CaddyModule().ID == "http.handlers.negotiate_auth"
		}
		return false
	})
}

// RoutesOf returns the lists of routes in a module, in the order in which it loads them.
func RoutesOf(m caddy.Module, server *caddyhttp.Server) (lists []caddyhttp.RouteList) {
	var errorRoutes *caddyhttp.HTTPErrorConfig
	var responses []caddyhttp.ResponseHandler
	switch m := m.(type) {
	case *caddyhttp.App:
		lists, errorRoutes = append(lists, server.Routes), server.Errors
	case *caddyhttp.Subroute:
		lists, errorRoutes = append(lists, m.Routes), m.Errors
	case *reverseproxy.Handler:
		responses = m.HandleResponse
	case *intercept.Intercept:
		responses = m.HandleResponse
	}
	if errorRoutes != nil {
		lists = append(lists, errorRoutes.Routes)
	}
	for _, r := range responses {
		lists = append(lists, r.Routes)
	}
	return lists
}
