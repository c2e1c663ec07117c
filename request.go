package caddynegotiate

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Request says what is asked for on behalf of a request: which service, and
// with which features. It means the same in the handler and in the transport.
type Request struct {
	// The service principal, e.g. `HTTP/iis.corp.example`. Placeholders may stand
	// for the host: those of the request need `allow_spns`, and
	// `{http.reverse_proxy.*}` needs the transport. What a placeholder yields must
	// be one DNS name. Required in the handler; the transport's default is
	// `HTTP/<upstream host>`.
	SPN string `json:"spn,omitempty"`

	// Globs of which one must match an SPN that is made of the request; `*` stands
	// for any characters, dots included. Others are answered with 403.
	AllowSPNs []string `json:"allow_spns,omitempty"`

	// Hand our own ticket-granting ticket to the service: `marked`, to services
	// that the KDC marks ok-as-delegate, or `always`. Default: none.
	Delegate string `json:"delegate,omitempty"`

	// Have the upstream prove itself: `off`, `on` (a wrong proof is a 502), or
	// `required` (a missing one is too). Default: `off` in the handler, `on` in
	// the transport.
	MutualAuth string `json:"mutual_auth,omitempty"`

	// How many bytes of a request's body may be kept to repeat it after a
	// refusal. Default: 65536.
	ReplayBuffer *int64 `json:"replay_buffer,omitempty"`

	// Send the bare Kerberos token without SPNEGO around it. Default: `false`.
	RawKerberos bool `json:"raw_kerberos,omitempty"`

	// Where each setting stands in the Caddyfile (`file:line`), so that errors
	// can say so. Filled in by the Caddyfile adapter.
	Origin Origin `json:"origin,omitempty"`

	spn spnTemplate
}

// defaultReplayBuffer is how much of a body is kept to be sent again.
const defaultReplayBuffer = 64 << 10

// provision compiles what requests need.
func (r *Request) provision(transport bool) error {
	var err error
	r.spn, err = compileSPN(r.SPN, r.AllowSPNs, transport)
	if err != nil {
		return r.Origin.wrap("spn", err)
	}
	switch r.MutualAuth {
	case "", "off", "on", "required":
	default:
		return r.Origin.wrap("mutual_auth", fmt.Errorf("%q is none of off, on, required", r.MutualAuth))
	}
	switch r.Delegate {
	case "", "marked", "always":
	default:
		return r.Origin.wrap("delegate", fmt.Errorf("%q is none of marked, always", r.Delegate))
	}
	if r.ReplayBuffer != nil && (*r.ReplayBuffer < 0 || *r.ReplayBuffer > 1<<30) {
		return r.Origin.wrap("replay_buffer", errors.New("must be between 0 and 1GiB"))
	}
	return nil
}

func (r *Request) replayBuffer() int64 {
	if r.ReplayBuffer == nil {
		return defaultReplayBuffer
	}
	return *r.ReplayBuffer
}

// spnTemplate is an SPN that is known, or that is made for each request.
type spnTemplate struct {
	known       negotiate.SPN
	text        string // with placeholders; empty if known or by the upstream's name
	fromRequest bool   // what it yields must match allow
	allow       *regexp.Regexp
}

// placeholders lists what Caddy's replacer would replace.
func placeholders(text string) ([]string, error) {
	var names []string
	_, err := caddy.NewEmptyReplacer().ReplaceFunc(text, func(name string, _ any) (any, error) {
		names = append(names, name)
		return "", nil
	})
	return names, err
}

// fixed tells whether a placeholder yields the operator's word, whoever sends a request.
func fixed(name string) bool {
	return strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.") || strings.HasPrefix(name, "system.")
}

// compileSPN checks an SPN when the configuration is loaded.
func compileSPN(text string, allow []string, transport bool) (spnTemplate, error) {
	t := spnTemplate{text: text, allow: globs(allow)}
	if text == "" {
		if !transport {
			return t, errors.New("spn is missing: name the service, e.g. spn HTTP/iis.corp.example (only transport negotiate can take it from the upstream)")
		}
		return t, nil
	}
	names, err := placeholders(text)
	if err != nil {
		return t, err
	}
	atLoad := true
	for _, name := range names {
		switch {
		case fixed(name):
		case strings.HasPrefix(name, "http.reverse_proxy.") && !transport:
			return t, fmt.Errorf("{%s} is not known before reverse_proxy has chosen the upstream: use transport negotiate inside reverse_proxy, or state the host", name)
		case strings.HasPrefix(name, "http.reverse_proxy.upstream."):
			atLoad = false
		default:
			atLoad, t.fromRequest = false, true
			if len(allow) == 0 {
				return t, fmt.Errorf("{%s} lets clients choose the service: say with allow_spns which ones they may, e.g. allow_spns HTTP/*.corp.example", name)
			}
		}
	}
	if !atLoad {
		if service, _, ok := strings.Cut(text, "/"); !ok || strings.Contains(service, "{") {
			return t, errors.New("a placeholder may stand for the host only; write e.g. HTTP/{http.reverse_proxy.upstream.host}")
		}
		return t, nil
	}
	constant, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return t, err
	}
	t.known, err = negotiate.ParseSPN(constant)
	return t, err
}

// globs compiles patterns in which * matches any characters, dots included. An
// empty list matches nothing.
func globs(patterns []string) *regexp.Regexp {
	if len(patterns) == 0 {
		return regexp.MustCompile(`[^\s\S]`)
	}
	quoted := make([]string, len(patterns))
	for i, p := range patterns {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, `.*`)
	}
	return regexp.MustCompile(`(?is)^(?:` + strings.Join(quoted, "|") + `)$`)
}

// errSPNNotAllowed is the cause of a 403: the SPN matches none of allow_spns.
var errSPNNotAllowed = errors.New("the service is not among allow_spns")

// eval gives the SPN for a request. upstream is the host of the upstream, where
// it is known.
func (t *spnTemplate) eval(repl *caddy.Replacer, upstream string) (negotiate.SPN, error) {
	if !t.known.IsZero() {
		return t.known, nil
	}
	if t.text == "" {
		return negotiate.HostSPN(upstream)
	}
	var wrong error
	text, err := repl.ReplaceFunc(t.text, func(name string, value any) (any, error) {
		host := caddy.ToString(value)
		if strings.HasSuffix(name, "hostport") || strings.HasSuffix(name, "http.request.host") {
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
		}
		wrong = errors.Join(wrong, negotiate.CheckHost(host))
		return host, nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return negotiate.SPN{}, fmt.Errorf("%w: %w", negotiate.ErrSPN, err)
	}
	spn, err := negotiate.ParseSPN(text)
	if err != nil {
		return negotiate.SPN{}, err
	}
	if t.fromRequest && !t.allow.MatchString(spn.String()) {
		return negotiate.SPN{}, fmt.Errorf("%w: %s", errSPNNotAllowed, spn)
	}
	return spn, nil
}

// replacerOf gives the request's replacer; health checks have an empty one.
func replacerOf(r *http.Request) *caddy.Replacer {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		return repl
	}
	return caddy.NewReplacer()
}
