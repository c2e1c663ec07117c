// Command demo shows the plugin on a machine that has only Go: it starts an embedded
// KDC, a web server that requires Kerberos, and Caddy with examples/Caddyfile as a proxy
// for that server. The web server has a page for browsers (page.go).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/examples"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const (
	realmName = "DEMO.EXAMPLE"
	proxyName = "svc-proxy"
	service   = "HTTP/intranet.demo.example"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` on which Caddy listens")
	once := flag.Bool("once", false, "send one request, print the answer, and exit 0 only if the upstream saw the right principal")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *once, func() {}); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run runs the demo until the context ends, or for one request. It calls ready when all
// servers are ready.
func run(ctx context.Context, listen string, once bool, ready func()) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("-listen %s: %w; write e.g. 127.0.0.1:8080", listen, err)
	}
	if err := free(listen); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "caddy-negotiate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	site, err := startSite(folder, "http://"+listen)
	if err != nil {
		return err
	}
	defer site.stop()

	for name, value := range map[string]string{
		"XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder, // Caddy's files
		"DEMO_HOST": host, "DEMO_PORT": port,
		"DEMO_KDC": site.kdc.Addr(), "DEMO_KEYTAB": site.keytab, "DEMO_UPSTREAM": site.upstream.Addr(),
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	config, err := configOf(folder, once)
	if err != nil {
		return err
	}
	if err := caddy.Run(config); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	defer func() { _ = caddy.Stop() }()

	if once {
		return ask(ctx, listen)
	}
	fmt.Printf(`
----------------------------------------------------------------------
An embedded KDC for realm %s answers at %s.
A web server that requires Kerberos runs at %s:

  curl -i %s      401: you have no ticket

Caddy with examples/Caddyfile is at http://%s and logs in as %s@%s:

  curl -i http://%s       200: the web server sees who Caddy is

Open that address in a browser, too. Ctrl-C ends everything; nothing stays behind.
----------------------------------------------------------------------
`, realmName, site.kdc.Addr(), site.upstream.URL(), site.upstream.URL(), listen, proxyName, realmName, listen)
	ready()
	<-ctx.Done()
	return nil
}

// site is a KDC and a web server that requires Kerberos.
type site struct {
	kdc      *kdctest.KDC
	upstream *kdctest.Upstream
	keytab   string
}

// startSite starts them. The page asks for more requests through Caddy.
func startSite(folder, caddy string) (*site, error) {
	realm := kdctest.NewRealm(realmName)
	proxy := realm.AddService(proxyName)
	web := realm.AddService(service)

	keys, err := realm.Keytab(proxy)
	if err != nil {
		return nil, err
	}
	s := &site{keytab: filepath.Join(folder, "svc-proxy.keytab")}
	if err := os.WriteFile(s.keytab, keys, 0o600); err != nil {
		return nil, err
	}
	keys, err = realm.Keytab(web)
	if err != nil {
		return nil, err
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
	if err != nil {
		return nil, err
	}
	s.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := s.kdc.Start(); err != nil {
		return nil, err
	}
	show := &showcase{kdc: s.kdc, caddy: caddy, now: time.Now}
	s.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor, Handler: show.sameOrigin()})
	if err := s.upstream.Start(); err != nil {
		s.kdc.Stop()
		return nil, err
	}
	return s, nil
}

func (s *site) stop() {
	s.upstream.Stop()
	s.kdc.Stop() // no effect if the page has stopped it
}

// configOf adapts examples/Caddyfile so that Caddy leaves no files behind: no admin
// endpoint, no autosaved configuration, storage in the folder.
func configOf(folder string, quiet bool) (*caddy.Config, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(examples.Caddyfile, map[string]any{"filename": "examples/Caddyfile"})
	if err != nil {
		return nil, err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		return nil, err
	}
	persist := false
	config.Admin = &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}}
	config.StorageRaw = caddyconfig.JSONModuleObject(map[string]string{"root": filepath.Join(folder, "storage")}, "module", "file_system", nil)
	level := "WARN" // what is usual would bury the instructions
	if quiet {
		level = "ERROR"
	}
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: level}}}}
	return config, nil
}

// free reports whether nothing else listens on the address. Caddy itself would share it with another
// Caddy.
func free(listen string) error {
	l, err := net.Listen("tcp", listen) //nolint:noctx // it is closed at once
	if err != nil {
		return fmt.Errorf("%w; choose another address with -listen, for example -listen 127.0.0.1:8081", err)
	}
	return l.Close()
}

// ask sends one request through Caddy and checks the principal that the web server saw.
func ask(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/json", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", response.Status, body)
	var peer kdctest.Peer
	if err := json.Unmarshal(body, &peer); err != nil {
		return fmt.Errorf("parsing the upstream's response: %w", err)
	}
	if want := proxyName + "@" + realmName; response.StatusCode != http.StatusOK || peer.Principal != want {
		return fmt.Errorf("the upstream saw %q (%s), not %s", peer.Principal, response.Status, want)
	}
	return nil
}
