package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
)

// document is the part of a configuration that concerns this plugin.
type document struct {
	apps map[string]json.RawMessage
	app  struct { // what accounts are resolved with
		Krb5Conf   string                         `json:"krb5_conf"`
		Realms     map[string]*config.Realm       `json:"realms"`
		Identities map[string]*config.Credentials `json:"identities"`
	}
	uses []*use
}

// use is a place where requests are authenticated: a `negotiate` handler, a
// `transport negotiate`, or a `negotiate_auth`.
type use struct {
	asTransport bool            // else a handler
	accepts     bool            // the handler is a negotiate_auth
	raw         json.RawMessage // nil for --spn without a use
	server      string

	// proxies are those that requests pass after the handler; for a transport, its own.
	proxies []*reverseproxy.Handler
	// elsewhere is set if the site has a reverse_proxy that the handler does not reach.
	elsewhere bool
	// authenticated is set if the site has an authentication handler.
	authenticated bool

	account *checkedAccount // nil if the use names none
	where   string          // file:line, else the server
	// loaded is set if the module was provisioned, and what follows is valid.
	loaded bool
	config.Inspection
	service config.ServiceSettings
	http2   bool
	dial    string // the upstream's address; empty if only a request determines it
}

// document loads the configuration and finds where it uses this plugin.
func (f *configFlags) document() (*document, error) {
	raw, err := f.load()
	if err != nil {
		return nil, err
	}
	var whole struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, fmt.Errorf("the configuration is not JSON: %w; name its --adapter", err)
	}
	d := &document{apps: whole.Apps}
	var web caddyhttp.App
	for name, app := range map[string]any{"kerberos": &d.app, "http": &web} {
		if raw := d.apps[name]; len(raw) > 0 {
			if err := json.Unmarshal(raw, app); err != nil {
				return nil, fmt.Errorf("the %s app: %w", name, err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(web.Servers)) {
		server := web.Servers[name]
		if server == nil {
			continue
		}
		w := &walker{doc: d, named: server.NamedRoutes, server: name}
		routes := server.Routes
		if server.Errors != nil {
			routes = append(slices.Clone(routes), server.Errors.Routes...)
		}
		for _, r := range routes {
			w.walkSite(r)
		}
	}
	return d, nil
}

// walker follows a server's routes as a request would. It does not look into matchers.
type walker struct {
	doc    *document
	named  map[string]*caddyhttp.Route
	server string
	depth  int
}

// maxDepth bounds the nesting of routes: named routes can refer to each other in circles.
const maxDepth = 64

// descend calls f one level deeper, unless the bound is reached.
func (w *walker) descend(f func()) {
	if w.depth++; w.depth <= maxDepth {
		f()
	}
	w.depth--
}

// walkSite finds the uses in one route of the server, which is a site in a Caddyfile.
func (w *walker) walkSite(r caddyhttp.Route) {
	site := caddyhttp.RouteList{r}
	first := len(w.doc.uses)
	w.walk(site, noProxies)
	handlers := make(map[string]bool)
	w.visit(site, func(name string, _ json.RawMessage) { handlers[name] = true })
	for _, u := range w.doc.uses[first:] {
		u.authenticated = handlers["authentication"] || handlers["negotiate_auth"]
		u.elsewhere = !u.asTransport && !u.accepts && len(u.proxies) == 0 && handlers["reverse_proxy"]
	}
}

func noProxies() []*reverseproxy.Handler { return nil }

// walk goes through a list of routes; after returns the proxies that follow the list.
func (w *walker) walk(routes caddyhttp.RouteList, after func() []*reverseproxy.Handler) {
	w.descend(func() {
		for i, r := range routes {
			for j, raw := range r.HandlersRaw {
				w.handler(raw, func() []*reverseproxy.Handler {
					rest := w.proxies(caddyhttp.RouteList{{HandlersRaw: r.HandlersRaw[j+1:]}})
					if r.Terminal {
						return rest
					}
					// Of a group only the first route that matches runs.
					others := slices.DeleteFunc(slices.Clone(routes[i+1:]), func(next caddyhttp.Route) bool {
						return r.Group != "" && next.Group == r.Group
					})
					return append(append(rest, w.proxies(others)...), after()...)
				})
			}
		}
	})
}

// handler looks at one handler; then returns the proxies that come after it.
func (w *walker) handler(raw json.RawMessage, then func() []*reverseproxy.Handler) {
	switch head := readHead(raw); head.Handler {
	case "negotiate_auth":
		w.doc.uses = append(w.doc.uses, &use{accepts: true, raw: raw, server: w.server})
	case "negotiate":
		w.doc.uses = append(w.doc.uses, &use{raw: raw, server: w.server, proxies: then()})
	case "reverse_proxy":
		p := readProxy(raw)
		if p == nil {
			return
		}
		if protocolOf(p) == "negotiate" {
			w.doc.uses = append(w.doc.uses, &use{asTransport: true, raw: p.TransportRaw, server: w.server, proxies: []*reverseproxy.Handler{p}})
		}
		for _, h := range p.HandleResponse {
			w.walk(h.Routes, noProxies)
		}
	default:
		w.walk(w.inside(head), then)
	}
}

// proxies returns the proxies anywhere in the routes.
func (w *walker) proxies(routes caddyhttp.RouteList) (all []*reverseproxy.Handler) {
	w.visit(routes, func(name string, raw json.RawMessage) {
		if p := readProxy(raw); name == "reverse_proxy" && p != nil {
			all = append(all, p)
		}
	})
	return all
}

// visit calls f for each handler anywhere in the routes.
func (w *walker) visit(routes caddyhttp.RouteList, f func(name string, raw json.RawMessage)) {
	w.descend(func() {
		for _, r := range routes {
			for _, raw := range r.HandlersRaw {
				head := readHead(raw)
				f(head.Handler, raw)
				w.visit(w.inside(head), f)
			}
		}
	})
}

// inside returns the routes that a handler leads into.
func (w *walker) inside(head handlerHead) caddyhttp.RouteList {
	if head.Handler != "invoke" {
		return head.Routes
	}
	if named := w.named[head.Name]; named != nil {
		return caddyhttp.RouteList{*named}
	}
	return nil
}

// handlerHead is a handler's name and what leads from it to others: the fields of
// caddyhttp.Subroute and caddyhttp.Invoke.
type handlerHead struct {
	Handler string              `json:"handler"`
	Routes  caddyhttp.RouteList `json:"routes"`
	Name    string              `json:"name"`
}

// readHead reads what it can: other handlers' routes may be of another kind, and Caddy rejects
// what is not a handler.
func readHead(raw json.RawMessage) (head handlerHead) {
	_ = json.Unmarshal(raw, &head)
	return head
}

// readProxy returns nil for what is not a reverse_proxy.
func readProxy(raw json.RawMessage) *reverseproxy.Handler {
	p := new(reverseproxy.Handler)
	if json.Unmarshal(raw, p) != nil {
		return nil
	}
	return p
}

// protocolOf returns the name of a proxy's transport.
func protocolOf(p *reverseproxy.Handler) string {
	var t struct {
		Protocol string `json:"protocol"`
	}
	_ = json.Unmarshal(p.TransportRaw, &t)
	return cmp.Or(t.Protocol, "http")
}
