package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Login names the account: an identity of the global `kerberos` option, or
// credentials in place.
type Login struct {
	// Name of an identity of the `kerberos` app. Excludes `credentials`.
	Identity string `json:"identity,omitempty"`

	// The account to log in with, if no identity is named.
	Credentials *Credentials `json:"credentials,omitempty"`
}

// Check checks what the text alone shows: an identity is named, or credentials are
// set.
func (l *Login) Check() error {
	switch {
	case l.Identity != "" && l.Credentials != nil:
		return fmt.Errorf("identity %s is named and credentials are set; keep one of them", l.Identity)
	case l.Identity == "" && l.Credentials == nil:
		return errors.New("no credentials: name an identity, or set user and keytab")
	case l.Credentials != nil:
		return l.Credentials.Check()
	}
	return nil
}

// ReadBlock reads `[identity] { ... }` of a module. own reads the subdirectives of the
// module beside credentials. Other subdirectives go to http, or are rejected if it is nil.
// The settings' text is not checked yet.
func ReadBlock(d *caddyfile.Dispenser, login *Login, own Block, http *reverseproxy.HTTPTransport) (Places, error) {
	places, name := NewPlaces(d), d.Token()
	if d.NextArg() {
		login.Identity = d.Val()
	}
	if d.NextArg() {
		return nil, d.Errf("unexpected %s: only the name of an identity is allowed here", d.Val())
	}
	credentials := new(Credentials)
	theirs := credentials.Readers()
	all := theirs.With(own)
	var forHTTP []caddyfile.Token
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		if _, known := all[d.Val()]; known || http == nil {
			err = all.ParseOne(d, places)
		} else {
			places.add(d.Val(), d)
			segment := d.NextSegment()
			forHTTP = append(forHTTP, segment...)
			err = checkHTTPSubdirective(segment, all)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, setting := range slices.Sorted(maps.Keys(theirs)) {
		if places[setting] == "" {
			continue
		}
		if login.Identity != "" {
			return nil, places.Locate(Setting(setting, fmt.Errorf("is set although identity %s is named; keep one of them", login.Identity)))
		}
		login.Credentials = credentials
	}
	if len(forHTTP) == 0 {
		return places, nil
	}
	return places, http.UnmarshalCaddyfile(caddyfile.NewDispenser(enclose(name, forHTTP)))
}

// httpSubdirectives are what the http transport reads. They serve suggestions only:
// whether one is known, that transport decides.
var httpSubdirectives = []string{
	"compression", "dial_fallback_delay", "dial_timeout", "expect_continue_timeout", "forward_proxy_url",
	"keepalive", "keepalive_idle_conns", "keepalive_idle_conns_per_host", "keepalive_interval", "local_address",
	"max_conns_per_host", "max_response_header", "network_proxy", "proxy_protocol", "read_buffer", "read_timeout",
	"resolvers", "response_header_timeout", "tls", "tls_client_auth", "tls_curves", "tls_except_ports",
	"tls_insecure_skip_verify", "tls_renegotiation", "tls_server_name", "tls_timeout", "tls_trust_pool",
	"tls_trusted_ca_certs", "versions", "write_buffer", "write_timeout",
}

// checkHTTPSubdirective rejects a name that the http transport does not know if it
// resembles one of that transport or of the given block.
func checkHTTPSubdirective(segment caddyfile.Segment, block Block) error {
	name := segment[0].Text
	if slices.Contains(httpSubdirectives, name) {
		return nil
	}
	meant := nearest(name, append(slices.Sorted(maps.Keys(block)), httpSubdirectives...))
	if meant == "" {
		return nil
	}
	// A newer Caddy may know it.
	if err := new(reverseproxy.HTTPTransport).UnmarshalCaddyfile(caddyfile.NewDispenser(enclose(segment[0], segment))); err != nil {
		return fmt.Errorf("%w; did you mean %s?", err, meant)
	}
	return nil
}

// enclose makes a block of subdirectives. Its braces are not copied from the tokens
// next to them: those may be quoted, and a quoted brace is not a brace to Caddy.
func enclose(name caddyfile.Token, subdirectives []caddyfile.Token) []caddyfile.Token {
	last := subdirectives[len(subdirectives)-1]
	return slices.Concat([]caddyfile.Token{
		{File: name.File, Line: name.Line, Text: name.Text},
		{File: name.File, Line: name.Line, Text: "{"},
	}, subdirectives, []caddyfile.Token{
		{File: last.File, Line: last.Line + last.NumLineBreaks() + 1, Text: "}"},
	})
}
