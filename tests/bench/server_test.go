package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	caddyserver "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
)

// BenchmarkServer is a request's way through Caddy's server, without sockets and
// without an upstream: by what a directive costs more than request_header, the
// processor time of the whole proxy can be explained.
func BenchmarkServer(b *testing.B) {
	for _, z := range proxySizes {
		s, err := (&bench{folder: b.TempDir()}).siteFor(z)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.stop)
		block := fmt.Sprintf("negotiate {\n\t\tkdc %s\n\t\tuser %s\n\t\tkeytab %s\n\t\tspn %s\n\t}", s.kdc.Addr(), s.proxy, s.keytab, webName)
		static := "Negotiate " + strings.Repeat("A", 788+z.octets*4/3)
		for _, d := range []struct{ name, text string }{
			{"request_header", "request_header Authorization \"" + static + "\""},
			{"negotiate", block},
		} {
			b.Run(z.name+"/"+d.name, func(b *testing.B) { benchmarkDirective(b, d.text) })
		}
	}
}

func benchmarkDirective(b *testing.B, directive string) {
	b.Helper()
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tstorage file_system %s\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://:0 {\n\tbind 127.0.0.1\n\troute {\n\t%s\n\trespond ok\n\t}\n}\n",
		filepath.Join(b.TempDir(), "storage"), directive)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		b.Fatal(err)
	}
	if err := caddyserver.Load(adapted, true); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = caddyserver.Stop() }()
	app, err := caddyserver.ActiveContext().App("http")
	if err != nil {
		b.Fatal(err)
	}
	var server *caddyhttp.Server
	for _, server = range app.(*caddyhttp.App).Servers {
	}
	asked := http.Header{"User-Agent": {"bench"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}}
	once := func() {
		r := httptest.NewRequest(http.MethodGet, "http://intranet.corp.example/", nil)
		for name, values := range asked {
			r.Header[name] = values
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	once()
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
