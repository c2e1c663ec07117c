package caddynegotiate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// suggest names the subdirective that was probably meant, or else all of them.
func (b block) suggest(name string) string {
	names := slices.Sorted(maps.Keys(b))
	if meant := nearest(name, names); meant != "" {
		return "; did you mean " + meant + "?"
	}
	return "; known here are " + strings.Join(names, ", ")
}

// httpSubdirectives are what the http transport reads. Suggestions are made of them, and
// nothing else: whether one is known, only that transport decides.
var httpSubdirectives = []string{
	"compression", "dial_fallback_delay", "dial_timeout", "expect_continue_timeout", "forward_proxy_url",
	"keepalive", "keepalive_idle_conns", "keepalive_idle_conns_per_host", "keepalive_interval", "local_address",
	"max_conns_per_host", "max_response_header", "network_proxy", "proxy_protocol", "read_buffer", "read_timeout",
	"resolvers", "response_header_timeout", "tls", "tls_client_auth", "tls_curves", "tls_except_ports",
	"tls_insecure_skip_verify", "tls_renegotiation", "tls_server_name", "tls_timeout", "tls_trust_pool",
	"tls_trusted_ca_certs", "versions", "write_buffer", "write_timeout",
}

// checkForeign refuses a subdirective that the http transport will not take, where it is
// easy to tell which one was meant, ours or the http transport's.
func (b block) checkForeign(segment []caddyfile.Token) error {
	name := segment[0].Text
	if slices.Contains(httpSubdirectives, name) {
		return nil
	}
	meant := nearest(name, append(slices.Sorted(maps.Keys(b)), httpSubdirectives...))
	if meant == "" {
		return nil
	}
	// A newer Caddy may know it.
	if err := new(reverseproxy.HTTPTransport).UnmarshalCaddyfile(caddyfile.NewDispenser(enclosed(segment[0], segment))); err != nil {
		return fmt.Errorf("%w; did you mean %s?", err, meant)
	}
	return nil
}

// nearest gives the name that a mistyped one is nearest to; empty if none is near.
func nearest(name string, names []string) string {
	best, least := "", 3
	for _, known := range names {
		if n := distance(name, known); n < least {
			best, least = known, n
		}
	}
	return best
}

// distance is Levenshtein's, for short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
