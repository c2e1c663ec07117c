package caddynegotiate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// JSON does not pass the readers of the Caddyfile.
func TestBadJSON(t *testing.T) {
	file := files(t)
	const rest = `, "apps": {"http": {"servers": {"x": {"listen": ["127.0.0.1:9"], "automatic_https": {"disable": true}, "routes": [{"handle": [%s]}]}}}, "kerberos": %s}}`
	good := fmt.Sprintf(`{"user": "svc-proxy@CORP.EXAMPLE", "keytab": %q, "kdc": ["127.0.0.1"]}`, file["good.keytab"])
	with := func(more string) string { return strings.TrimSuffix(good, "}") + ", " + more + "}" }
	handler := func(credentials, more string) string {
		return fmt.Sprintf(`{"handler": "negotiate", "spn": "HTTP/web.corp.example", "credentials": %s%s}`, credentials, more)
	}
	transport := func(more string) string {
		return fmt.Sprintf(`{"handler": "reverse_proxy", "upstreams": [{"dial": "web.corp.example:80"}], "transport": {"protocol": "negotiate", "credentials": %s%s}}`, good, more)
	}
	for _, row := range []struct {
		name, handle, app string
		says              string // empty: it is valid
	}{
		{"good handler", handler(good, ""), "{}", ""},
		{"good transport", transport(""), "{}", ""},
		{"null realm", handler(good, ""), `{"realms": {"CORP.EXAMPLE": null}}`, ""},
		{"null identity", handler(good, ""), `{"identities": {"intranet": null}}`, "nothing to log in with"},
		{"null lists", handler(with(`"encryption_types": null, "kdc_options": null, "fast_armor": null, "login_at_start": null, "canonicalize": null`), `, "allow_spns": null`), "{}", ""},
		{"both identity and credentials", handler(good, `, "identity": "intranet"`), `{"identities": {"intranet": ` + good + `}}`, "keep one of them"},
		{"unknown identity", `{"handler": "negotiate", "spn": "HTTP/web", "identity": "x"}`, "{}", "identity x is not defined"},
		{"no credentials", `{"handler": "negotiate", "spn": "HTTP/web"}`, "{}", "no credentials"},
		{"no spn", fmt.Sprintf(`{"handler": "negotiate", "credentials": %s}`, good), "{}", "spn is missing"},
		{"negative timeout", handler(with(`"timeout": -1`), ""), "{}", "negative"},
		{"negative replay_buffer", handler(good, `, "replay_buffer": -1`), "{}", "replay_buffer"},
		{"no replay_buffer", handler(good, `, "replay_buffer": 0`), "{}", ""},
		{"bad mutual_auth", handler(good, `, "mutual_auth": "On"`), "{}", "mutual_auth"},
		{"bad delegate", handler(good, `, "delegate": "true"`), "{}", "delegate"},
		{"negative dscp", handler(with(`"kdc_options": {"dscp": -1}`), ""), "{}", "dscp"},
		{"negative read_buffer", handler(with(`"kdc_options": {"read_buffer": -1}`), ""), "{}", "read_buffer"},
		{"negative max_reply_size", handler(with(`"kdc_options": {"max_reply_size": -1}`), ""), "{}", "max_reply_size"},
		{"negative udp_preference_limit", handler(with(`"kdc_options": {"udp_preference_limit": -1}`), ""), "{}", "udp_preference_limit"},
		{"bad ip_version", handler(with(`"kdc_options": {"ip_version": -4}`), ""), "{}", "ip_version"},
		{"certificate without key", handler(with(`"kdc_options": {"tls_client_cert": "x"}`), ""), "{}", "tls_client_cert"},
		{"proxy with a secret", handler(with(`"kdc_options": {"proxy": "http://me:hunter2@bad host"}`), ""), "{}", "proxy"},
		{"armor of nothing", handler(with(`"fast_armor": {}`), ""), "{}", "fast_armor"},
		{"trace_packets alone", handler(with(`"trace_packets": "x"`), ""), "{}", "trace_packets"},
		{"bad channel_binding", transport(`, "channel_binding": "on"`), "{}", "channel_binding"},
		{"certificate and off", transport(`, "channel_binding": "off", "channel_binding_cert": "x"`), "{}", "exclude each other"},
		{"users without impersonate", transport(`, "deny_users": ["x"]`), "{}", "requires impersonate"},
		{"impersonate and delegate", transport(`, "impersonate": "{http.auth.user.id}", "delegate": "marked"`), "{}", "remove one of them"},
		{"empty rule", transport(`, "impersonate": "{http.auth.user.id}", "allow_users": [""]`), "{}", "allow_users"},
		{"empty allow_users", transport(`, "impersonate": "{http.auth.user.id}", "allow_users": []`), "{}", "allow_users: the list is empty"},
		{"empty deny_users", transport(`, "impersonate": "{http.auth.user.id}", "deny_users": []`), "{}", "deny_users: the list is empty"},
		{"null rules", transport(`, "impersonate": "{http.auth.user.id}", "allow_users": null`), "{}", ""},
		{"placeholder in a rule", transport(`, "impersonate": "{http.auth.user.id}", "deny_users": ["{env.DENIED}"]`), "{}", "deny_users"},
		{"empty glob", handler(good, `, "allow_spns": [""]`), "{}", ""},
		{"versions 3", transport(`, "versions": ["3"]`), "{}", "HTTP/3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := new(caddy.Config)
			text := `{"admin": {"disabled": true}` + fmt.Sprintf(rest, row.handle, row.app)
			if err := json.Unmarshal([]byte(text), config); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			err := caddy.Validate(config)
			switch {
			case row.says == "" && err != nil:
				t.Errorf("rejected: %v", err)
			case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
				t.Errorf("%v, want an error that says %q", err, row.says)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}
