package caddynegotiate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// everyHTTPLine is each subdirective of `transport http`, two of them with a block.
const everyHTTPLine = `
			read_buffer 8KiB
			write_buffer 9KiB
			read_timeout 1s
			write_timeout 2s
			max_response_header 32KiB
			proxy_protocol v2
			network_proxy url http://proxy.corp.example:3128
			dial_timeout 3s
			dial_fallback_delay 400ms
			response_header_timeout 5s
			expect_continue_timeout 6s
			resolvers 192.0.2.1 192.0.2.2
			tls
			tls_client_auth /client.pem /client.key
			tls_insecure_skip_verify
			tls_curves x25519 secp256r1
			tls_timeout 7s
			tls_server_name web.corp.example
			tls_renegotiation once
			tls_except_ports 8080 8081
			keepalive 8s
			keepalive_interval 9s
			keepalive_idle_conns 10
			keepalive_idle_conns_per_host 11
			versions 1.1 2
			compression off
			max_conns_per_host 12
			tls_trust_pool file {
				pem_file /ca.pem
			}
			local_address 192.0.2.3`

// adapted gives the transport of a Caddyfile's only reverse_proxy.
func adapted(t *testing.T, caddyfile string) map[string]any {
	t.Helper()
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v\n%s", err, caddyfile)
	}
	var config any
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	found := find(config, "transport")
	if found == nil {
		t.Fatalf("no transport in %s", out)
	}
	return found
}

// find looks for an object of that name, however deep.
func find(v any, name string) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		if here, ok := v[name].(map[string]any); ok {
			return here
		}
		for _, inner := range v {
			if found := find(inner, name); found != nil {
				return found
			}
		}
	case []any:
		for _, inner := range v {
			if found := find(inner, name); found != nil {
				return found
			}
		}
	}
	return nil
}

func proxyWith(transport string) string {
	return ":80 {\n\treverse_proxy web.corp.example {\n\t\ttransport " + transport + "\n\t}\n}\n"
}

func TestTransportTakesAllLinesOfHTTPUnchanged(t *testing.T) {
	want := adapted(t, proxyWith("http {"+everyHTTPLine+"\n\t\t}"))
	delete(want, "protocol")
	if len(want) < 15 {
		t.Fatalf("%d settings only: %v", len(want), want)
	}
	for name, lines := range map[string]string{
		"alone":   everyHTTPLine,
		"between": "\n\t\t\tspn HTTP/web.corp.example" + everyHTTPLine + "\n\t\t\tmutual_auth off",
		"among":   strings.Replace(everyHTTPLine, "\t\t\ttls\n", "\t\t\ttls\n\t\t\tper_connection off\n\t\t\tchannel_binding off\n", 1),
	} {
		got := adapted(t, proxyWith("negotiate intranet {"+lines+"\n\t\t}"))
		if got["protocol"] != "negotiate" || got["identity"] != "intranet" {
			t.Errorf("%s: %v", name, got)
		}
		for _, ours := range []string{"protocol", "identity", "spn", "mutual_auth", "channel_binding", "origin"} {
			delete(got, ours)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from transport http:\n%s", name, diff)
		}
	}
}

func TestTransportOfSnippetsAdaptsAsWritten(t *testing.T) {
	got := adapted(t, "(timeouts) {\n\tdial_timeout 3s\n\tmutual_auth required\n\tresolvers 192.0.2.1\n}\n"+
		proxyWith("negotiate intranet {\n\t\t\tkeepalive 8s\n\t\t\timport timeouts\n\t\t\tversions 1.1\n\t\t}"))
	delete(got, "origin")
	want := map[string]any{
		"protocol": "negotiate", "identity": "intranet", "mutual_auth": "required", "dial_timeout": 3e9,
		"resolver": map[string]any{"addresses": []any{"192.0.2.1"}}, "keep_alive": map[string]any{"idle_timeout": 8e9}, "versions": []any{"1.1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTransportTakesQuotedWords(t *testing.T) {
	for _, c := range []struct{ name, transport string }{
		{"the last word", `negotiate intranet {
tls_server_name "web.corp.example"
}`},
		{"its only word", `negotiate intranet {
tls_server_name web.corp.example
"tls"
}`},
		{"over several lines", `negotiate intranet {
tls_server_name <<END
	web.corp.example
	END
}`},
		{"the transport", `"negotiate" intranet {
tls_server_name web.corp.example
}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tls, _ := adapted(t, proxyWith(c.transport))["tls"].(map[string]any)
			if tls["server_name"] != "web.corp.example" {
				t.Errorf("tls is %v", tls)
			}
		})
	}
}

func TestTransportRefusesUnknownAndRepeatedLines(t *testing.T) {
	for block, want := range map[string]string{
		"negotiate":                              "who are we?",
		"negotiate {\n\t\t}":                     "who are we?",
		"negotiate a b":                          "unexpected b",
		"negotiate a {\nkeytab /x\n}":            "Caddyfile:4: keytab is given beside the identity a",
		"negotiate a {\nspn x/y\nspn x/z\n}":     "spn is given twice",
		"negotiate a {\nno_such_line\n}":         "unrecognized subdirective no_such_line",
		"negotiate a {\ndial_timeout\n}":         "wrong argument count",
		"negotiate a {\nper_connection maybe\n}": "per_connection takes nothing, on or off",
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(proxyWith(block)), map[string]any{"filename": "Caddyfile"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", block, err, want)
		}
	}
}
