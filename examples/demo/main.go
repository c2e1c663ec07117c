// Command demo shows the plugin on a machine that has only Go: it starts an embedded
// KDC, a web server that requires Kerberos, and Caddy with examples/Caddyfile as a proxy
// for that server. The web server has a page for browsers (page.go). With -sign-in Caddy
// signs two users in, and the web server sees each of them (signin.go).
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
	signIn := flag.Bool("sign-in", false, "sign users in, alice and bob, by the tickets of their browsers; the upstream sees each of them")
	once := flag.Bool("once", false, "send one request, of each user with -sign-in, print the answer, and exit 0 only if the upstream saw the right principal")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options{*listen, *signIn, *once}, func(text string) { fmt.Print(text) }); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	listen       string
	signIn, once bool
}

// run runs the demo until the context ends, or for one request of each user. When all servers are ready
// it shows a text that says what to do.
func run(ctx context.Context, o options, show func(text string)) error {
	host, port, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fmt.Errorf("-listen %s: %w; write e.g. 127.0.0.1:8080", o.listen, err)
	}
	if err := free(o.listen); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "caddy-negotiate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	s := &site{folder: folder, caddy: "http://" + o.listen, text: examples.Caddyfile}
	if o.signIn {
		s.caddy, s.text = "http://"+net.JoinHostPort(signInHost, port), signInCaddyfile
	}
	if err := s.start(ctx, o.signIn); err != nil {
		return err
	}
	defer s.stop()

	for name, value := range map[string]string{
		"XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder, // Caddy's files
		"DEMO_HOST": host, "DEMO_PORT": port,
		"DEMO_KDC": s.kdc.Addr(), "DEMO_KEYTAB": s.keytab(), "DEMO_UPSTREAM": s.upstream.Addr(),
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	config, err := s.config(o.once)
	if err != nil {
		return err
	}
	if err := caddy.Run(config); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	defer func() { _ = caddy.Stop() }()

	if o.once {
		return s.askOnce(ctx)
	}
	show(fmt.Sprintf(`
----------------------------------------------------------------------
An embedded KDC for realm %s answers at %s.
A web server that requires Kerberos runs at %s:

  curl -i %s      401: you have no ticket

%s
Ctrl-C ends everything; nothing stays behind.
----------------------------------------------------------------------
`, realmName, s.kdc.Addr(), s.upstream.URL(), s.upstream.URL(), s.instructions()))
	<-ctx.Done()
	return nil
}

// site is a KDC and a web server that requires Kerberos, behind Caddy.
type site struct {
	folder   string // of all files
	caddy    string // URL
	text     []byte // Caddy's configuration
	kdc      *kdctest.KDC
	upstream *kdctest.Upstream
	users    []user // who sign in; none where Caddy logs in for everyone
}

func (s *site) keytab() string { return filepath.Join(s.folder, "svc-proxy.keytab") }

// start starts the KDC and the web server, with users if they are to sign in.
func (s *site) start(ctx context.Context, signIn bool) error {
	realm := kdctest.NewRealm(realmName)
	proxy := realm.AddService(proxyName)
	if signIn {
		proxy.Set(mayDelegate()...)
	}
	web := realm.AddService(service)

	keys, err := realm.Keytab(proxy)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.keytab(), keys, 0o600); err != nil {
		return err
	}
	keys, err = realm.Keytab(web)
	if err != nil {
		return err
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
	if err != nil {
		return err
	}
	s.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	show := &showcase{kdc: s.kdc, caddy: s.caddy, signIn: signIn, now: time.Now}
	s.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor, Handler: show.sameOrigin()})
	err = s.kdc.Start()
	if err == nil {
		err = s.upstream.Start()
	}
	if err == nil && signIn {
		err = s.addUsers(ctx, realm)
	}
	if err != nil {
		s.stop()
	}
	return err
}

func (s *site) stop() {
	s.upstream.Stop()
	s.kdc.Stop() // no effect if the page has stopped it
}

// instructions say what can be done with Caddy.
func (s *site) instructions() string {
	if len(s.users) > 0 {
		return s.signInInstructions()
	}
	return fmt.Sprintf(`Caddy with examples/Caddyfile is at %[1]s and logs in as %[2]s@%[3]s:

  curl -i %[1]s       200: the web server sees who Caddy is

Open that address in a browser, too.`, s.caddy, proxyName, realmName)
}

// config adapts the Caddyfile so that Caddy leaves no files behind: no admin
// endpoint, no autosaved configuration, storage in the folder.
func (s *site) config(quiet bool) (*caddy.Config, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(s.text, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		return nil, err
	}
	persist := false
	config.Admin = &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}}
	config.StorageRaw = caddyconfig.JSONModuleObject(map[string]string{"root": filepath.Join(s.folder, "storage")}, "module", "file_system", nil)
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

// askOnce sends a request of each user through Caddy, or one without a ticket if there are no users.
func (s *site) askOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if len(s.users) == 0 {
		return s.ask(ctx, "", proxyName)
	}
	for _, u := range s.users {
		token, err := u.token(ctx)
		if err != nil {
			return err
		}
		if err := s.ask(ctx, token, u.name); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request through Caddy, with a value of Authorization if it is not empty, and checks the
// principal that the web server saw.
func (s *site) ask(ctx context.Context, authorization, want string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.caddy+"/json", nil)
	if err != nil {
		return err
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
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
	if want += "@" + realmName; response.StatusCode != http.StatusOK || peer.Principal != want {
		return fmt.Errorf("the upstream saw %q (%s), not %s", peer.Principal, response.Status, want)
	}
	return nil
}
