package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// Service has the service to get tickets for, and the features of tokens. It means
// the same in the handler and in the transport.
type Service struct {
	// The service principal, e.g. `HTTP/iis.corp.example`. Placeholders are allowed
	// in place of the host: those of the request need `allow_spns`, and
	// `{http.reverse_proxy.*}` needs the transport. Their value must be one DNS
	// name. Required in the handler; the transport's default is
	// `HTTP/<upstream host>`.
	SPN string `json:"spn,omitempty"`

	// Globs, one of which must match an SPN that is derived from the request; `*`
	// matches any characters, dots included. Other requests are answered with 403.
	AllowSPNs []string `json:"allow_spns,omitempty"`

	// Forward the account's own ticket-granting ticket to the service: `marked`, to
	// services that the KDC marks ok-as-delegate, or `always`. Default: never.
	Delegate string `json:"delegate,omitempty"`

	// Whether the upstream must authenticate itself: `off`, `on` (an invalid proof
	// is a 502), or `required` (a missing one is too). Default: `off` in the
	// handler, `on` in the transport.
	MutualAuth string `json:"mutual_auth,omitempty"`

	// How many bytes of a request's body may be kept to repeat it after a
	// refusal. Default: 65536.
	ReplayBuffer *int64 `json:"replay_buffer,omitempty"`

	// Send the Kerberos token without SPNEGO around it. Default: `false`.
	RawKerberos bool `json:"raw_kerberos,omitempty"`
}

// ServiceSettings is a Service, ready for requests.
type ServiceSettings struct {
	SPN          SPNTemplate
	Delegation   negotiate.Delegation
	MutualAuth   negotiate.MutualAuth
	ReplayBuffer int64 // bytes
	RawKerberos  bool
}

// defaultReplayBuffer is how many bytes of a body are kept by default.
const defaultReplayBuffer = 64 << 10

// The values of mutual_auth and delegate; empty is the handler's default.
var (
	mutualAuths = map[string]negotiate.MutualAuth{
		"": negotiate.MutualAuthOff, "off": negotiate.MutualAuthOff,
		"on": negotiate.MutualAuthOn, "required": negotiate.MutualAuthRequired,
	}
	delegations = map[string]negotiate.Delegation{
		"": negotiate.DelegateNever, "marked": negotiate.DelegateMarked, "always": negotiate.DelegateAlways,
	}
)

// Check checks what the text alone shows.
func (s *Service) Check(transport bool) error {
	_, err := s.settings(transport)
	return err
}

// Compile checks the service and returns its settings.
func (s *Service) Compile(transport bool) (*ServiceSettings, error) {
	settings, err := s.settings(transport)
	if err != nil {
		return nil, err
	}
	return settings, Setting("spn", settings.SPN.expand())
}

// settings parses all but placeholders in the SPN that are expanded at load.
func (s *Service) settings(transport bool) (*ServiceSettings, error) {
	settings := &ServiceSettings{ReplayBuffer: defaultReplayBuffer, RawKerberos: s.RawKerberos}
	if s.SPN == "" && !transport {
		return nil, errors.New("spn is missing: name the service, e.g. spn HTTP/iis.corp.example (only transport negotiate can derive it from the upstream)")
	}
	var err error
	if settings.SPN, err = parseTemplate(s.SPN, s.AllowSPNs, transport); err != nil {
		return nil, Setting("spn", err)
	}
	var ok bool
	if settings.MutualAuth, ok = mutualAuths[s.MutualAuth]; !ok {
		return nil, Setting("mutual_auth", fmt.Errorf("%q is not off, on or required", s.MutualAuth))
	}
	if s.MutualAuth == "" && transport {
		settings.MutualAuth = negotiate.MutualAuthOn
	}
	if settings.Delegation, ok = delegations[s.Delegate]; !ok {
		return nil, Setting("delegate", fmt.Errorf("%q is not marked or always", s.Delegate))
	}
	if s.ReplayBuffer != nil {
		settings.ReplayBuffer = *s.ReplayBuffer
	}
	if settings.ReplayBuffer < 0 || settings.ReplayBuffer > 1<<30 {
		return nil, Setting("replay_buffer", fmt.Errorf("%d bytes: must be between 0 and 1GiB", settings.ReplayBuffer))
	}
	return settings, nil
}

// SPNTemplate is an SPN that is known at load, or that is derived from each request
// or its upstream.
type SPNTemplate struct {
	// Known is the SPN if it is the same for all requests, else the zero SPN.
	Known negotiate.SPN
	// FromRequest reports whether clients can influence the SPN, which must match allow then.
	FromRequest bool

	text   string // empty for the upstream's host
	atLoad bool   // text is expanded when the configuration is loaded
	allow  *regexp.Regexp

	limited bool // by allow_spns
}

// parseTemplate checks an SPN without expanding it.
func parseTemplate(text string, allow []string, transport bool) (SPNTemplate, error) {
	t := SPNTemplate{text: text, allow: compileGlobs(allow), limited: len(allow) > 0}
	if text == "" {
		return t, nil
	}
	names, err := Placeholders(text)
	if err != nil {
		return t, err
	}
	t.atLoad = true
	for _, name := range names {
		switch {
		case Fixed(name):
		case strings.HasPrefix(name, "http.reverse_proxy.") && !transport:
			return t, fmt.Errorf("{%s} has no value before reverse_proxy has chosen the upstream: use transport negotiate inside reverse_proxy, or write the host", name)
		case strings.HasPrefix(name, "http.reverse_proxy.upstream."):
			t.atLoad = false
		default:
			t.atLoad, t.FromRequest = false, true
			if len(allow) == 0 {
				return t, fmt.Errorf("{%s} lets clients choose the service: limit their choice with allow_spns, e.g. allow_spns HTTP/*.corp.example", name)
			}
		}
	}
	if !t.atLoad {
		if service, _, ok := strings.Cut(text, "/"); !ok || strings.Contains(service, "{") {
			return t, errors.New("placeholders are allowed in the host only; write e.g. HTTP/{http.reverse_proxy.upstream.host}")
		}
		return t, nil
	}
	if len(names) == 0 {
		err = t.expand()
	}
	return t, err
}

// expand expands a text that does not depend on requests.
func (t *SPNTemplate) expand() error {
	if !t.atLoad {
		return nil
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(t.text, true, true)
	if err == nil {
		t.Known, err = negotiate.ParseSPN(text)
	}
	return err
}

// ByClient reports whether clients may choose the service, directly or by the upstream: only where
// allow_spns limits their choice.
func (t *SPNTemplate) ByClient() bool { return t.Known.IsZero() && t.limited }

// Allows reports whether allow_spns has the SPN.
func (t *SPNTemplate) Allows(spn negotiate.SPN) bool { return t.allow.MatchString(spn.String()) }

// Eval returns the SPN for a request. upstream is the host of the upstream, empty
// if it is not known.
func (t *SPNTemplate) Eval(repl *caddy.Replacer, upstream string) (negotiate.SPN, error) {
	if !t.Known.IsZero() {
		return t.Known, nil
	}
	if t.text == "" {
		return negotiate.HostSPN(upstream)
	}
	var invalid error
	text, err := repl.ReplaceFunc(t.text, func(name string, value any) (any, error) {
		host := caddy.ToString(value)
		if strings.HasSuffix(name, "hostport") || strings.HasSuffix(name, "http.request.host") {
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
		}
		invalid = errors.Join(invalid, negotiate.CheckHost(host))
		return host, nil
	})
	if err = errors.Join(err, invalid); err != nil {
		return negotiate.SPN{}, fmt.Errorf("%w: %w", negotiate.ErrSPN, err)
	}
	spn, err := negotiate.ParseSPN(text)
	if err != nil {
		return negotiate.SPN{}, err
	}
	if t.FromRequest && !t.Allows(spn) {
		return negotiate.SPN{}, fmt.Errorf("%w: %s", negotiate.ErrSPNNotAllowed, spn)
	}
	return spn, nil
}

// UpstreamHost returns the host of a dial address, and whether it is a name.
func UpstreamHost(dial string) (host string, named bool) {
	address, err := caddy.ParseNetworkAddressWithDefaults(dial, "tcp", 80)
	if err != nil || address.IsUnixNetwork() {
		return dial, false
	}
	return address.Host, negotiate.CheckHost(address.Host) == nil
}

// ChannelBinding is how tokens are bound to TLS connections.
type ChannelBinding int

// The values of channel_binding.
const (
	ChannelBindingAuto     ChannelBinding = iota // if the certificate defines a binding
	ChannelBindingOff                            // never
	ChannelBindingRequired                       // always
)

// ParseChannelBinding reads channel_binding; cert is channel_binding_cert.
func ParseChannelBinding(text, cert string) (ChannelBinding, error) {
	switch {
	case text == "", text == "auto":
		return ChannelBindingAuto, nil
	case text == "required":
		return ChannelBindingRequired, nil
	case text != "off":
		return 0, Setting("channel_binding", fmt.Errorf("%q is not auto, off or required; for a certificate write cert FILE", text))
	case cert != "":
		return 0, Setting("channel_binding", errors.New("off and a certificate exclude each other"))
	}
	return ChannelBindingOff, nil
}

// Inspector is implemented by the modules that authenticate requests. `caddy
// kerberos check` loads them and asks what they would do.
type Inspector interface {
	Inspect() Inspection
}

// Inspection is the configuration of one module, and what it provisioned.
type Inspection struct {
	Login          *Login
	Service        *Service
	Impersonation  *Impersonation  // nil in the handler
	HTTP           *http.Transport // the transport's connections; nil in the handler
	TLS            bool            // to the upstream
	Versions       []string        // of HTTP, in the transport
	ChannelBinding ChannelBinding
	Pinned         *httpauth.Binding // that of channel_binding_cert, or nil
	Place          string            // the module's file and line, empty if they are not known

	// Admission and SignIn are negotiate_auth's: who may enter, and what verifies a token.
	Admission *Admission
	SignIn    func(context.Context, accept.Request) (*accept.Result, error)
}
