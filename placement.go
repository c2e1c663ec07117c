package caddynegotiate

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
)

var (
	errOtherTransport = errors.New("the reverse_proxy behind negotiate cannot keep authenticated connections apart from others, " +
		"for which it needs transport http with HTTP/1.1; use transport negotiate instead of the negotiate directive")
	errNamedRoute = errors.New("a named route with negotiate needs its reverse_proxy in the same route, with transport http and HTTP/1.1, and no invoke; " +
		"use transport negotiate instead of the negotiate directive")
)

// place gives each reverse_proxy that requests can reach after the handler the
// handlerTransport. Caddy loads handlers in the order of the configuration: those that
// come later are still JSON in the modules around the handler. A reverse_proxy that is
// not found here sends no token. It returns an error if that is so for all of them.
func (h *Handler) place(ctx caddy.Context, at string) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil // `caddy kerberos check` loads the handler alone
	}
	s := survey{named: server.NamedRoutes, invoked: make(map[string]bool)}
	for _, m := range slices.Backward(ctx.Modules()) {
		_, outermost := m.(*caddyhttp.App)
		inside, ended := s.follow(signin.RoutesOf(m, server))
		if outermost && !inside {
			return s.checkNamed() // all other routes are loaded
		}
		if outermost || ended {
			break
		}
	}
	switch {
	case s.separate == 0 && s.other > 0:
		return errOtherTransport
	case s.separate == 0:
		h.logger.Warn("no reverse_proxy comes after negotiate: no request gets a token",
			zap.String("at", at), zap.String("remedy", "put negotiate into the handle or route block that has the reverse_proxy, before it"))
	}
	return nil
}

// survey finds the reverse_proxy handlers in handlers that are not loaded yet.
type survey struct {
	named   map[string]*caddyhttp.Route
	invoked map[string]bool // the named routes that were looked at

	separate, other     int // proxies with the handlerTransport, and those with another one
	negotiates, invokes int // handlers
}

// follow looks at what comes after the handler that is being loaded, in the lists of one
// module. The route that holds that handler is the first whose handlers are still JSON.
// It reports whether there is such a route, and whether nothing comes after the module.
func (s *survey) follow(lists []caddyhttp.RouteList) (inside, ended bool) {
	for _, routes := range lists {
		i := slices.IndexFunc(routes, func(r caddyhttp.Route) bool { return r.HandlersRaw != nil })
		if i < 0 {
			continue
		}
		s.replace(afterNegotiate(routes[i].HandlersRaw))
		if routes[i].Terminal {
			return true, true
		}
		for _, r := range routes[i+1:] {
			if r.Group == "" || r.Group != routes[i].Group { // of a group one route runs
				s.replace(r.HandlersRaw)
			}
		}
		return true, false
	}
	return false, false
}

// afterNegotiate returns the handlers after the first that is, or holds, a negotiate
// handler.
func afterNegotiate(handlers []json.RawMessage) []json.RawMessage {
	for i, raw := range handlers {
		var s survey
		if s.value(raw); s.negotiates > 0 {
			return handlers[i+1:]
		}
	}
	return handlers
}

// checkNamed looks at the named routes, one of which holds the handler. Caddy loads them
// in any order, after all others: where a request can leave such a route, it may reach a
// proxy that is loaded already.
func (s *survey) checkNamed() error {
	for _, route := range s.named {
		var in survey
		in.replace(slices.Clone(route.HandlersRaw))
		if in.negotiates == 0 {
			continue
		}
		if in.separate == 0 || in.invokes > 0 {
			return errNamedRoute
		}
		s.replace(route.HandlersRaw)
	}
	return nil
}

// replace gives the proxies in the handlers the handlerTransport.
func (s *survey) replace(handlers []json.RawMessage) {
	for i, raw := range handlers {
		handlers[i] = s.value(raw)
	}
}

// value returns a JSON value in which the proxies have the handlerTransport, however
// deep in other handlers they are. What is not valid is left to Caddy.
func (s *survey) value(raw json.RawMessage) json.RawMessage {
	var list []json.RawMessage
	var object map[string]json.RawMessage
	switch raw = bytes.TrimSpace(raw); {
	case bytes.HasPrefix(raw, []byte("[")) && json.Unmarshal(raw, &list) == nil:
		s.replace(list)
		return marshal(list)
	case bytes.HasPrefix(raw, []byte("{")) && json.Unmarshal(raw, &object) == nil:
		for key, value := range object {
			object[key] = s.value(value)
		}
		s.handler(object)
		return marshal(object)
	}
	return raw
}

func (s *survey) handler(object map[string]json.RawMessage) {
	switch text(object["handler"]) {
	case "negotiate":
		s.negotiates++
	case "reverse_proxy":
		s.proxy(object)
	case "invoke":
		s.invokes++
		name := text(object["name"])
		if route := s.named[name]; route != nil && !s.invoked[name] {
			s.invoked[name] = true
			s.replace(route.HandlersRaw)
		}
	}
}

// proxy gives a reverse_proxy the handlerTransport in the place of `http`, which also is
// the default.
func (s *survey) proxy(object map[string]json.RawMessage) {
	key := "transport"
	for k := range object {
		if strings.EqualFold(k, key) { // as encoding/json matches it
			key = k
		}
	}
	transport := map[string]json.RawMessage{"protocol": json.RawMessage(`"http"`)}
	if raw, ok := object[key]; ok {
		transport = nil
		_ = json.Unmarshal(raw, &transport)
	}
	var http struct{ Versions []string }
	_ = json.Unmarshal(marshal(transport), &http)
	switch protocol := text(transport["protocol"]); {
	case protocol == handlerProtocol:
		s.separate++
	case protocol == "http" && (len(http.Versions) == 0 || slices.Contains(http.Versions, "1.1")):
		s.separate++
		transport["protocol"] = marshal(handlerProtocol)
		object[key] = marshal(transport)
	default:
		s.other++
	}
}

// text returns the string that a JSON value is, empty if it is none.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

// marshal encodes what was decoded from JSON, which does not fail.
func marshal(value any) json.RawMessage {
	raw, _ := json.Marshal(value)
	return raw
}
