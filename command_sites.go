package caddynegotiate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// document is a configuration as far as this plugin minds it.
type document struct {
	raw  map[string]json.RawMessage // of the apps
	app  *App
	uses []*use
}

// use is a place where requests are authenticated: a `negotiate` handler, or a
// `transport negotiate`.
type use struct {
	asTransport bool // else as a directive
	raw         json.RawMessage
	where       string // file:line, else the server
	site        int    // the route of the server that it is in

	// proxies are what the handler's requests come to; the transport's is its own.
	proxies []*proxy
	// elsewhere tells that the site has a reverse_proxy that the handler does not reach.
	elsewhere bool
	// authenticated tells that the site signs users in.
	authenticated bool
}

// proxy is a reverse_proxy.
type proxy struct {
	Upstreams []struct {
		Dial string `json:"dial"`
	} `json:"upstreams"`
	Transport     json.RawMessage `json:"transport"`
	Dynamic       json.RawMessage `json:"dynamic_upstreams"`
	LoadBalancing *struct {
		Retries     int             `json:"retries"`
		TryDuration json.RawMessage `json:"try_duration"`
	} `json:"load_balancing"`
	HealthChecks *struct {
		Active json.RawMessage `json:"active"`
	} `json:"health_checks"`
	Headers *struct {
		Request *struct {
			Add    map[string]json.RawMessage `json:"add"`
			Set    map[string]json.RawMessage `json:"set"`
			Delete []string                   `json:"delete"`
		} `json:"request"`
	} `json:"headers"`
	HandleResponse []struct {
		Routes []route `json:"routes"`
	} `json:"handle_response"`
}

// protocol is the name of the proxy's transport.
func (p *proxy) protocol() string {
	var t struct {
		Protocol string `json:"protocol"`
	}
	_ = json.Unmarshal(p.Transport, &t)
	if t.Protocol == "" {
		return "http"
	}
	return t.Protocol
}

// route is one of Caddy's routes; matchers are not looked into.
type route struct {
	Group    string            `json:"group"`
	Handle   []json.RawMessage `json:"handle"`
	Terminal bool              `json:"terminal"`
}

// handlerHead is what all handlers have, and what leads to others.
type handlerHead struct {
	Handler string  `json:"handler"`
	Routes  []route `json:"routes"`
	Name    string  `json:"name"` // of invoke
}

// server is one of the http app's.
type server struct {
	Routes []route          `json:"routes"`
	Named  map[string]route `json:"named_routes"`
	Errors *struct {
		Routes []route `json:"routes"`
	} `json:"errors"`
}

// readDocument finds in a configuration where this plugin is used.
func readDocument(config []byte) (*document, error) {
	var whole struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &whole); err != nil {
		return nil, fmt.Errorf("the configuration is no JSON: %w; name its --adapter", err)
	}
	d := &document{raw: whole.Apps, app: new(App)}
	if raw := whole.Apps["kerberos"]; len(raw) > 0 {
		if err := caddy.StrictUnmarshalJSON(raw, d.app); err != nil {
			return nil, fmt.Errorf("the kerberos app: %w", err)
		}
	}
	var web struct {
		Servers map[string]*server `json:"servers"`
	}
	if raw := whole.Apps["http"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &web); err != nil {
			return nil, fmt.Errorf("the http app: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(web.Servers)) {
		w := &walker{doc: d, server: web.Servers[name], where: "server " + name}
		if w.server == nil {
			continue
		}
		routes := w.server.Routes
		if w.server.Errors != nil {
			routes = append(slices.Clone(routes), w.server.Errors.Routes...)
		}
		for i, r := range routes {
			w.site = i
			w.walkSite(r)
		}
	}
	return d, nil
}

// walker goes through a server's routes as a request would.
type walker struct {
	doc    *document
	server *server
	where  string
	site   int
	depth  int
}

// walkSite finds the uses in one route of the server, which is a site in a Caddyfile.
func (w *walker) walkSite(r route) {
	first := len(w.doc.uses)
	w.walk([]route{r}, func() []*proxy { return nil })
	all := w.proxiesIn([]route{r})
	authenticated := w.has([]route{r}, "authentication")
	for _, u := range w.doc.uses[first:] {
		u.authenticated = authenticated
		u.elsewhere = !u.asTransport && len(u.proxies) == 0 && len(all) > 0
	}
}

// maxDepth bounds the nesting that is followed; named routes may go in circles.
const maxDepth = 64

// walk goes through a list of routes; after gives the proxies that follow the list.
func (w *walker) walk(routes []route, after func() []*proxy) {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return
	}
	defer func() { w.depth-- }()
	for i, r := range routes {
		rest := func() []*proxy {
			if r.Terminal {
				return nil
			}
			// Of a group only the first that matches is taken.
			var others []route
			for _, next := range routes[i+1:] {
				if r.Group == "" || next.Group != r.Group {
					others = append(others, next)
				}
			}
			return append(w.proxiesIn(others), after()...)
		}
		for j, raw := range r.Handle {
			then := func() []*proxy { return append(w.proxiesOf(r.Handle[j+1:]), rest()...) }
			w.handler(raw, then)
		}
	}
}

// handler looks at one handler; then gives the proxies that come after it.
func (w *walker) handler(raw json.RawMessage, then func() []*proxy) {
	var head handlerHead
	if json.Unmarshal(raw, &head) != nil {
		return
	}
	switch head.Handler {
	case "negotiate":
		w.doc.uses = append(w.doc.uses, &use{raw: raw, where: originOf(raw, w.where), site: w.site, proxies: then()})
	case "reverse_proxy":
		var p proxy
		if json.Unmarshal(raw, &p) != nil {
			return
		}
		if p.protocol() == "negotiate" {
			w.doc.uses = append(w.doc.uses, &use{
				asTransport: true, raw: p.Transport, where: originOf(p.Transport, w.where), site: w.site, proxies: []*proxy{&p},
			})
		}
		for _, h := range p.HandleResponse {
			w.walk(h.Routes, func() []*proxy { return nil })
		}
	default:
		w.walk(w.inside(head), then)
	}
}

// inside are the routes that a handler leads into.
func (w *walker) inside(head handlerHead) []route {
	if head.Handler == "invoke" {
		if named, ok := w.server.Named[head.Name]; ok {
			return []route{named}
		}
		return nil
	}
	return head.Routes
}

func (w *walker) proxiesIn(routes []route) []*proxy {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return nil
	}
	defer func() { w.depth-- }()
	var all []*proxy
	for _, r := range routes {
		all = append(all, w.proxiesOf(r.Handle)...)
	}
	return all
}

func (w *walker) proxiesOf(handlers []json.RawMessage) []*proxy {
	var all []*proxy
	for _, raw := range handlers {
		var head handlerHead
		if json.Unmarshal(raw, &head) != nil {
			continue
		}
		if head.Handler == "reverse_proxy" {
			p := new(proxy)
			if json.Unmarshal(raw, p) == nil {
				all = append(all, p)
			}
			continue
		}
		all = append(all, w.proxiesIn(w.inside(head))...)
	}
	return all
}

// has tells whether a handler of that name is anywhere in the routes.
func (w *walker) has(routes []route, name string) bool {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return false
	}
	defer func() { w.depth-- }()
	for _, r := range routes {
		for _, raw := range r.Handle {
			var head handlerHead
			if json.Unmarshal(raw, &head) == nil && (head.Handler == name || w.has(w.inside(head), name)) {
				return true
			}
		}
	}
	return false
}

// originOf is the first place that the adapter noted for a block, else the given one.
func originOf(raw json.RawMessage, otherwise string) string {
	var block struct {
		Origin      Origin `json:"origin"`
		Credentials struct {
			Origin Origin `json:"origin"`
		} `json:"credentials"`
	}
	_ = json.Unmarshal(raw, &block)
	best := ""
	for _, at := range append(slices.Collect(maps.Values(block.Origin)), slices.Collect(maps.Values(block.Credentials.Origin))...) {
		if best == "" || lineOf(at) < lineOf(best) {
			best = at
		}
	}
	if best == "" {
		return otherwise
	}
	return best
}

// lineOf is the number at the end of file:line.
func lineOf(at string) (line int) {
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		_, _ = fmt.Sscan(at[i+1:], &line)
	}
	return line
}
