package lab

import (
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"
)

//go:embed httpd.conf.tmpl
var httpdConf string

//go:embed echo.sh
var echoScript string

// ApacheOptions configure an Apache. Realm is required.
type ApacheOptions struct {
	// Realm issues the tickets that it accepts.
	Realm Realm
	// Hosts are its names, each with a principal HTTP/HOST; default: app in the
	// realm's domain.
	Hosts []string
	// Skew is the error of its clock, in whole seconds.
	Skew time.Duration
	// KeepAlive bounds how long idle connections stay open; default: a minute.
	KeepAlive time.Duration
	// Certificate is that of the TLS port; default: a new ECDSA one for the hosts.
	Certificate *tls.Certificate
	// Backend is host:port of an HTTP server that serves /app/ behind Apache's
	// authentication: WebSocket, streams. It gets the user in X-Remote-User.
	Backend string
	// Extra are further lines of httpd.conf.
	Extra []string
	// Lasting is for hundreds of thousands of requests: no log of accesses and tokens, and
	// no replay cache.
	Lasting bool
}

// Apache is an acceptor: apache2 with mod_auth_gssapi.
//
// Every path except /open/ requires a token. With one:
//
//	/            each request needs a token
//	/bound/      the first one of a connection authenticates the connection
//	/deleg/      a delegated TGT is stored, see [Apache.DelegatedCCache]
//	/basic/      Basic is offered, too
//	/denied/     every valid token gets 401
//	/forbidden/  every valid token gets 403
//	/close/      the connection is closed after each answer
//	/app/        served by the backend
//
// Each response to a user names them in X-Remote-User. /echo, at the root and below
// each path (/bound/echo), returns the request, see [ParseEcho]. /1m.bin is a million
// zeros.
type Apache struct {
	opts              ApacheOptions
	hosts             []string
	dir               string
	plain, small, tls int
	uid, gid          int // of the workers, which run as another user if the tests run as root
	user              string

	mu   sync.Mutex // guards proc
	proc *process
}

// StartApache starts an Apache, which ends with the test.
func StartApache(t testing.TB, opts ApacheOptions) *Apache {
	t.Helper()
	Require(t, HTTPD)
	if opts.Skew != 0 {
		Require(t, Faketime)
	}
	if opts.KeepAlive == 0 {
		opts.KeepAlive = time.Minute
	}
	if len(opts.Hosts) == 0 {
		opts.Hosts = []string{"app." + strings.ToLower(opts.Realm.Name())}
	}
	a := &Apache{
		opts: opts, hosts: opts.Hosts, dir: testDir(t, "apache"),
		plain: FreePort(t), small: FreePort(t), tls: FreePort(t), uid: -1, gid: -1,
	}
	if err := a.lookUpWorkers(); err != nil {
		t.Fatal(err)
	}
	if err := a.writeFiles(); err != nil {
		t.Fatal(err)
	}
	a.ReloadKeytab(t)
	t.Cleanup(a.Stop)
	a.Start(t)
	return a
}

// lookUpWorkers looks up the user of the workers if the tests run as root.
func (a *Apache) lookUpWorkers() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("www-data")
	if err != nil {
		return err
	}
	a.user = u.Username
	a.uid, _ = strconv.Atoi(u.Uid)
	a.gid, _ = strconv.Atoi(u.Gid)
	// root may enter any directory, the workers may not
	for dir := a.dir; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			return fmt.Errorf("apache's workers cannot enter %s: set TMPDIR to a directory that other users may enter", dir)
		}
	}
	return nil
}

// writeFiles writes all files except the keytab.
func (a *Apache) writeFiles() error {
	for _, dir := range []string{"htdocs", "cgi", "run", "deleg", "rcache"} {
		if err := os.Mkdir(a.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"run", "deleg", "rcache"} {
		if err := os.Chown(a.path(dir), a.uid, a.gid); err != nil {
			return err
		}
	}
	for _, dir := range []string{"", "bound", "deleg", "open", "basic", "denied", "forbidden", "close"} {
		if err := os.MkdirAll(a.path("htdocs/"+dir), 0o755); err != nil {
			return err
		}
		if err := writeFile(a.path("htdocs/"+dir+"/index.html"), "hello from the acceptor\n", 0o644); err != nil {
			return err
		}
	}
	if err := writeFile(a.path("htdocs/1m.bin"), strings.Repeat("\x00", 1_000_000), 0o644); err != nil {
		return err
	}
	if err := writeFile(a.path("cgi/echo"), echoScript, 0o755); err != nil {
		return err
	}
	cert, key, err := certificatePEM(a.opts.Certificate, a.hosts)
	if err != nil {
		return err
	}
	if err := errors.Join(writeFile(a.CertFile(), cert, 0o644), writeFile(a.path("tls.key"), key, 0o600)); err != nil {
		return err
	}
	return a.configure()
}

// probePath is requested by Start and left out of Accesses.
const probePath = "/open/?lab-is-it-up"

var httpdModules = []string{
	"mpm_event", "authn_core", "authz_core", "authz_user", "auth_gssapi", "alias", "cgid", "dir", "env", "headers",
	"mime", "http2", "setenvif", "socache_shmcb", "ssl", "proxy", "proxy_http",
}

func (a *Apache) configure() error {
	tmpl, err := template.New("httpd.conf").Parse(httpdConf)
	if err != nil {
		return err
	}
	type module struct{ Name, Path string }
	var modules []module
	for _, name := range httpdModules {
		path := moduleDir + "/mod_" + name + ".so"
		if _, err := os.Stat(path); err == nil { // some are built in on systems other than Debian
			modules = append(modules, module{name, path})
		}
	}
	var conf strings.Builder
	err = tmpl.Execute(&conf, map[string]any{
		"Realm": a.opts.Realm.Name(), "Dir": a.dir, "Hosts": a.hosts, "User": a.user, "Group": a.gid,
		"Plain": a.Addr(), "Small": a.SmallAddr(), "TLS": a.TLSAddr(), "Modules": modules,
		"KeepAlive": a.opts.KeepAlive.Milliseconds(), "Backend": a.opts.Backend, "Extra": a.opts.Extra, "Lasting": a.opts.Lasting,
	})
	if err != nil {
		return err
	}
	return writeFile(a.path("httpd.conf"), conf.String(), 0o644)
}

func (a *Apache) path(name string) string { return filepath.Join(a.dir, name) }

// Addr returns host:port of the HTTP port.
func (a *Apache) Addr() string { return fmt.Sprintf("%s:%d", Host(), a.plain) }

// SmallAddr returns host:port of a second HTTP port, which has the usual limit of
// 8190 bytes for a header line.
func (a *Apache) SmallAddr() string { return fmt.Sprintf("%s:%d", Host(), a.small) }

// TLSAddr returns host:port of the HTTPS port.
func (a *Apache) TLSAddr() string { return fmt.Sprintf("%s:%d", Host(), a.tls) }

// SPN returns the service principal of the first host, without its realm.
func (a *Apache) SPN() string { return "HTTP/" + a.hosts[0] }

// CertFile returns the path of the HTTPS port's certificate, PEM.
func (a *Apache) CertFile() string { return a.path("tls.crt") }

// DelegatedCCache returns the path of the cache that a request to /deleg/ creates when
// it delegates the TGT of user, a principal with its realm.
func (a *Apache) DelegatedCCache(user string) string { return a.path("deleg/" + user) }

// Start starts Apache on the same ports if it is not running.
func (a *Apache) Start(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.proc != nil {
		return
	}
	fake, err := faketime(a.opts.Skew)
	if err != nil {
		t.Fatal(err)
	}
	replays := "file2:" + a.path("rcache/rc")
	if a.opts.Lasting {
		replays = "none:"
	}
	env := environment(a.dir, "KRB5_CONFIG="+a.opts.Realm.Krb5Conf(), "KRB5RCACHENAME="+replays)
	proc, err := start(a.path("httpd.out"), append(env, fake...), "apache2", "-DFOREGROUND", "-f", a.path("httpd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	open := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	err = proc.ready(2*time.Minute, "apache2", func() bool {
		r, err := open.Get("http://" + a.Addr() + probePath)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	if err != nil {
		proc.stop()
		t.Fatalf("%v\n%s", err, tail(a.path("error.log")))
	}
	a.proc = proc
}

// Stop ends Apache: its ports refuse connections, and open connections break.
func (a *Apache) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proc.stop()
	a.proc = nil
}

// ReloadKeytab exports the hosts' keys from the realm again after a key change.
// Apache then refuses tickets under the old key.
func (a *Apache) ReloadKeytab(t testing.TB) {
	t.Helper()
	principals := make([]string, len(a.hosts))
	for i, h := range a.hosts {
		principals[i] = "HTTP/" + h
	}
	keys, err := os.ReadFile(a.opts.Realm.Keytab(t, principals...))
	if err != nil {
		t.Fatal(err)
	}
	next := a.path("httpd.keytab.next")
	err = errors.Join(os.WriteFile(next, keys, 0o600), os.Chown(next, a.uid, a.gid), os.Rename(next, a.path("httpd.keytab")))
	if err != nil {
		t.Fatal(err)
	}
}
