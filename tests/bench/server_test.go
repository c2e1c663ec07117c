package bench

import (
	"bufio"
	"fmt"
	"net"
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

// BenchmarkServer measures a request in Caddy's server without a client's socket. The
// difference between a directive and request_header explains the processor time of the
// whole proxy. The upstream allocates nothing.
func BenchmarkServer(b *testing.B) {
	upstream := silentUpstream(b)
	for _, z := range proxySizes {
		s, err := (&bench{folder: b.TempDir()}).siteFor(z)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.stop)
		block := fmt.Sprintf("negotiate {\n\tkdc %s\n\tuser %s\n\tkeytab %s\n\tspn %s\n}", s.kdc.Addr(), s.proxy, s.keytab, webName)
		static := "request_header Authorization \"Negotiate " + strings.Repeat("A", 788+z.bytes*4/3) + "\""
		for _, d := range []struct{ name, text string }{
			{"request_header", static + "\nrespond ok"},
			{"negotiate", block + "\nrespond ok"},
			{"request_header+reverse_proxy", static + "\nreverse_proxy " + upstream},
			{"negotiate+reverse_proxy", block + "\nreverse_proxy " + upstream},
			{"transport negotiate", "reverse_proxy " + upstream + " {\ntransport " + block + "\n}"},
		} {
			b.Run(z.name+"/"+d.name, func(b *testing.B) { benchmarkDirective(b, d.text) })
		}
	}
}

// silentUpstream answers each request with the same bytes.
func silentUpstream(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReaderSize(c, 32<<10)
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						if _, err := c.Write(silentAnswer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

var silentAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")

func benchmarkDirective(b *testing.B, directive string) {
	b.Helper()
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tstorage file_system %s\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://:0 {\n\tbind 127.0.0.1\n\troute {\n%s\n}\n}\n",
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
