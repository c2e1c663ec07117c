package caddynegotiate_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// adapted returns the transport of a Caddyfile's only reverse_proxy.
func adapted(t *testing.T, caddyfile string) map[string]any {
	t.Helper()
	out, err := adapt(caddyfile)
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

// find returns an object of that name, at any depth.
func find(v any, name string) (found map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		if here, ok := v[name].(map[string]any); ok {
			return here
		}
		return find(slices.Collect(maps.Values(v)), name)
	case []any:
		for i := 0; i < len(v) && found == nil; i++ {
			found = find(v[i], name)
		}
	}
	return found
}

func proxyWith(transport string) string {
	return ":80 {\n\treverse_proxy web.corp.example {\n\t\ttransport " + transport + "\n\t}\n}\n"
}

func TestTransport_AdaptsAllOfHTTP(t *testing.T) {
	file, err := os.ReadFile("testdata/http.caddyfile") // each subdirective of `transport http`, two of them with a block
	if err != nil {
		t.Fatal(err)
	}
	everyHTTPLine := "\n" + string(bytes.TrimRight(file, "\n"))
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
		for _, ours := range []string{"protocol", "identity", "spn", "mutual_auth", "channel_binding"} {
			delete(got, ours)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from transport http:\n%s", name, diff)
		}
	}
}

func TestTransport_AdaptsSnippets(t *testing.T) {
	got := adapted(t, "(timeouts) {\n\tdial_timeout 3s\n\tmutual_auth required\n\tresolvers 192.0.2.1\n}\n"+
		proxyWith("negotiate intranet {\n\t\t\tkeepalive 8s\n\t\t\timport timeouts\n\t\t\tversions 1.1\n\t\t}"))
	want := map[string]any{
		"protocol": "negotiate", "identity": "intranet", "mutual_auth": "required", "dial_timeout": 3e9,
		"resolver": map[string]any{"addresses": []any{"192.0.2.1"}}, "keep_alive": map[string]any{"idle_timeout": 8e9}, "versions": []any{"1.1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTransport_AdaptsQuotedWords(t *testing.T) {
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

func TestTransport_AdaptErrors(t *testing.T) {
	for block, want := range map[string][]string{
		"negotiate":                              {"no credentials"},
		"negotiate {\n\t\t}":                     {"no credentials"},
		"negotiate a b":                          {"unexpected b"},
		"negotiate a {\nkeytab /x\n}":            {"Caddyfile:4: keytab: is set although identity a is named"},
		"negotiate a {\nspn x/y\nspn x/z\n}":     {"spn is set twice"},
		"negotiate a {\nno_such_line\n}":         {"unrecognized subdirective no_such_line"},
		"negotiate a {\ndial_timeout\n}":         {"wrong argument count"},
		"negotiate a {\ndial_timeout soon\n}":    {"soon"},
		"negotiate a {\nper_connection maybe\n}": {"per_connection takes on, off or no argument"},
		// Suggestions.
		"negotiate a {\nmutual_auht on\n}":                            {"mutual_auht", "Caddyfile:4", "; did you mean mutual_auth?"},
		"negotiate a {\nchanel_binding auto\n}":                       {"chanel_binding", "Caddyfile:4", "; did you mean channel_binding?"},
		"negotiate a {\nimpersonat {http.auth.user.id}\n}":            {"impersonat", "Caddyfile:4", "; did you mean impersonate?"},
		"negotiate a {\nkepalive 8s\n}":                               {"kepalive", "Caddyfile:4", "; did you mean keepalive?"},
		"negotiate a {\ntls_trust_pol file {\npem_file /ca.pem\n}\n}": {"tls_trust_pol", "Caddyfile:4", "; did you mean tls_trust_pool?"},
	} {
		_, err := adapt(proxyWith(block))
		wantError(t, err, want...)
		if len(want) == 1 && err != nil && strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%q: %v", block, err)
		}
	}
}
