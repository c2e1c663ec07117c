package caddynegotiate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestPlacement(t *testing.T) {
	folder := logFolder(t)
	password, log := filepath.Join(folder, "password"), filepath.Join(folder, "log")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	global := "{\nadmin off\nlog default {\noutput file " + log + "\nformat json\n}\n" +
		"kerberos {\nidentity intranet {\nuser svc-proxy@CORP.EXAMPLE\npassword_file " + password + "\nkdc 127.0.0.1:1\nlogin_at_start off\n}\n}\n}\n"
	const (
		negotiate = "negotiate intranet {\nspn HTTP/web.corp.example\n}\n"
		secured   = "negotiate /secured intranet {\nspn HTTP/web.corp.example\n}\n"
		proxy     = "reverse_proxy web.corp.example\n"
		h2        = "reverse_proxy h2c://web.corp.example\n"
		site      = "\n:80 {\n"
		rejected  = "transport negotiate"
		warned    = "no reverse_proxy comes after negotiate"
	)
	for _, row := range []struct{ name, text, says string }{
		{"default transport", site + negotiate + proxy + "}", ""},
		{"https", site + negotiate + "reverse_proxy https://web.corp.example\n}", ""},
		{"versions with 1.1", site + negotiate + "reverse_proxy web.corp.example {\ntransport http {\nversions 1.1 2\n}\n}\n}", ""},
		{"route", site + "route {\n" + negotiate + proxy + "}\n}", ""},
		{"handle in route", site + "route {\nhandle /secured {\n" + negotiate + "}\n" + proxy + "}\n}", ""},
		{"handle", site + "handle /a {\n" + negotiate + proxy + "}\nhandle {\n" + proxy + "}\n}", ""},
		{"handle_path", site + negotiate + "route /x/* {\nhandle_path /x/* {\n" + proxy + "}\n}\nroute {\n" + negotiate + proxy + "}\n}", warned},
		{"invoke", "&(app) {\n" + proxy + "}" + site + "route {\n" + secured + "invoke app\n}\n}", ""},
		{"invoke of invoke", "&(app) {\n" + proxy + "}\n&(more) {\ninvoke app\n}\n&(circle) {\ninvoke circle\n}" + site + "route {\n" + secured + "invoke circle\ninvoke more\n}\n}", ""},
		{"in a named route", "&(app) {\n" + secured + proxy + "}" + site + "invoke app\n}", ""},
		{"deep in a named route", "&(app) {\nroute {\nhandle {\n" + secured + "}\n" + proxy + "}\n}" + site + "invoke app\n}", ""},
		{"handle_response", site + "reverse_proxy gate {\nhandle_response {\n" + negotiate + proxy + "}\n}\n}", ""},
		{"before the response's routes", site + negotiate + "reverse_proxy unix//run/fpm {\ntransport fastcgi\nhandle_response {\n" + proxy + "}\n}\n}", ""},
		{"handle_errors", site + "handle_errors {\n" + negotiate + proxy + "}\n}", ""},
		{"another transport beside", site + negotiate + "php_fastcgi /php/* unix//run/fpm\n" + proxy + "}", ""},
		{"several sites", "a.corp.example {\n" + negotiate + proxy + "}\nb.corp.example {\n" + negotiate + proxy + "}", ""},

		{"h2c", site + negotiate + h2 + "}", rejected},
		{"versions 2", site + negotiate + "reverse_proxy https://web.corp.example {\ntransport http {\nversions 2\n}\n}\n}", rejected},
		{"versions 3", site + negotiate + "reverse_proxy https://web.corp.example {\ntransport http {\nversions 3\n}\n}\n}", rejected},
		{"fastcgi", site + negotiate + "php_fastcgi unix//run/fpm\n}", rejected},
		{"transport negotiate", site + negotiate + "reverse_proxy web.corp.example {\ntransport negotiate intranet\n}\n}", rejected},
		{"proxy in another site", "a.corp.example {\n" + negotiate + h2 + "}\nb.corp.example {\n" + proxy + "}", rejected},
		{"only before", site + "route {\nreverse_proxy /x web.corp.example\n" + negotiate + h2 + "}\n}", rejected},
		{"named route before the proxy", "&(login) {\n" + negotiate + "}" + site + "route {\ninvoke login\n" + proxy + "}\n}", rejected},
		{"named route and invoke", "&(app) {\n" + proxy + "}\n&(login) {\nroute {\n" + negotiate + "invoke app\n}\n}" + site + "invoke login\n}", rejected},
		{"named route, invoke and proxy", "&(app) {\n" + proxy + "}\n&(login) {\nroute {\n" + negotiate + "invoke app\n" + proxy + "}\n}" + site + "invoke login\n}", rejected},
		{"two named routes, one bad", "&(app) {\nroute {\n" + negotiate + proxy + "}\n}\n&(login) {\nroute {\n" + negotiate + h2 + "}\n}" + site + "invoke login\n}", rejected},

		{"no proxy", site + negotiate + "respond ok\n}", warned},
		{"proxy in a handle beside", site + negotiate + "handle {\n" + proxy + "}\n}", warned},
	} {
		t.Run(row.name, func(t *testing.T) {
			for range 10 { // Caddy loads named routes in any order
				if err := os.WriteFile(log, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				err := validate(global + strings.TrimSpace(row.text) + "\n")
				content, readErr := os.ReadFile(log)
				switch {
				case readErr != nil:
					t.Fatal(readErr)
				case (row.says == rejected) != (err != nil) || err != nil && !strings.Contains(err.Error(), "use transport negotiate instead"):
					t.Fatalf("error %v", err)
				case strings.Contains(string(content), warned) != (row.says == warned):
					t.Fatalf("logged %s", content)
				}
			}
		})
	}
}

// JSON can spell and nest what a Caddyfile cannot.
func TestPlacement_JSON(t *testing.T) {
	file := files(t)
	negotiate := fmt.Sprintf(`{"handler": "negotiate", "spn": "HTTP/web.corp.example", "credentials": {"user": "svc-proxy@CORP.EXAMPLE", "keytab": %q, "kdc": ["127.0.0.1"], "login_at_start": false}}`, file["good.keytab"])
	const up = `"upstreams": [{"dial": "web.corp.example:80"}]`
	for _, row := range []struct {
		name, routes string
		rejected     bool
	}{
		{"one route", `{"handle": [NEGOTIATE, {"handler": "reverse_proxy", UP}]}`, false},
		{"two routes", `{"handle": [NEGOTIATE]}, {"handle": [{"handler": "reverse_proxy", UP}]}`, false},
		{"terminal", `{"handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "transport": {"protocol": "fastcgi"}}], "terminal": true}, {"handle": [{"handler": "reverse_proxy", UP}]}`, true},
		{"terminal within", `{"handle": [{"handler": "subroute", "routes": [{"terminal": true, "handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "transport": {"protocol": "fastcgi"}}]}]}, {"handler": "reverse_proxy", UP}]}`, true},
		{"terminal above", `{"terminal": true, "handle": [{"handler": "subroute", "routes": [{"handle": [NEGOTIATE]}]}, {"handler": "reverse_proxy", UP, "transport": {"protocol": "fastcgi"}}]}, {"handle": [{"handler": "reverse_proxy", UP}]}`, true},
		{"other of a group", `{"group": "a", "handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "transport": {"protocol": "fastcgi"}}]}, {"group": "a", "handle": [{"handler": "reverse_proxy", UP}]}`, true},
		{"two before one", `{"handle": [NEGOTIATE, NEGOTIATE, {"handler": "subroute", "routes": [{"handle": [NEGOTIATE]}]}, {"handler": "reverse_proxy", UP}]}`, false},
		{"key in other case", `{"handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "Transport": {"protocol": "http", "Versions": ["h2c"]}}]}`, true},
		{"key in other case, 1.1", `{"handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "TRANSPORT": {"protocol": "http", "max_conns_per_host": 2}}]}`, false},
		{"escaped name", `{"handle": [NEGOTIATE, {"handler": "reverse\u005fproxy", UP, "transport": {"protocol": "fastcgi"}}]}`, true},
		{"tls", `{"handle": [NEGOTIATE, {"handler": "reverse_proxy", UP, "transport": {"protocol": "http", "tls": {"insecure_skip_verify": true}}}]}`, false},
		{"errors of a subroute", `{"handle": [{"handler": "subroute", "routes": [{"handle": [{"handler": "error"}]}], "errors": {"routes": [{"handle": [NEGOTIATE]}, {"handle": [{"handler": "reverse_proxy", UP}]}]}}]}`, false},
		{"behind a subroute", `{"handle": [{"handler": "subroute", "routes": [{"handle": [NEGOTIATE]}]}, {"handler": "reverse_proxy", UP}]}`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			routes := strings.NewReplacer("NEGOTIATE", negotiate, "UP", up).Replace(row.routes)
			config := new(caddy.Config)
			text := `{"admin": {"disabled": true}, "apps": {"http": {"servers": {"x": {"listen": ["127.0.0.1:9"], "automatic_https": {"disable": true}, "routes": [` + routes + `]}}}}}`
			if err := json.Unmarshal([]byte(text), config); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			err := caddy.Validate(config)
			if row.rejected != (err != nil) || err != nil && !strings.Contains(err.Error(), "use transport negotiate instead") {
				t.Errorf("error %v", err)
			}
		})
	}
}
