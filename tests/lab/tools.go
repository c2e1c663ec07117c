package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Tools are MIT's client programs, and curl, with a krb5.conf and a credential
// cache of their own.
type Tools struct {
	t     testing.TB
	dir   string
	realm Realm
	env   []string
}

// NewTools returns tools for a realm. Each of the lines, such as
// `udp_preference_limit = 1`, is added to libdefaults.
func NewTools(t testing.TB, realm Realm, libdefaults ...string) *Tools {
	t.Helper()
	Require(t, Krb5User)
	dir := testDir(t, "tools")
	conf := filepath.Join(dir, "krb5.conf")
	if err := writeFile(conf, realm.clientConf(libdefaults...), 0o644); err != nil {
		t.Fatal(err)
	}
	x := &Tools{t: t, dir: dir, realm: realm}
	x.env = environment(dir, "KRB5_CONFIG="+conf, "KRB5CCNAME=FILE:"+x.CCache(), "KRB5_TRACE="+filepath.Join(dir, "trace"))
	return x
}

// CCache returns the path of the credential cache, which exists after a login.
func (x *Tools) CCache() string { return filepath.Join(x.dir, "ccache") }

// In returns the tools with another credential cache.
func (x *Tools) In(ccache string) *Tools {
	other := *x
	other.env = append(slices.Clone(x.env), "KRB5CCNAME="+ccache) // the last one counts
	return &other
}

// Krb5Conf returns the path of their krb5.conf.
func (x *Tools) Krb5Conf() string { return filepath.Join(x.dir, "krb5.conf") }

// Try runs a program and returns its output.
func (x *Tools) Try(stdin, name string, args ...string) (string, error) {
	x.t.Helper()
	return run(x.env, x.dir, stdin, name, args...)
}

// Run is like [Tools.Try], but a failure fails the test, with MIT's trace.
func (x *Tools) Run(stdin, name string, args ...string) string {
	x.t.Helper()
	out, err := x.Try(stdin, name, args...)
	if err != nil {
		x.t.Fatalf("%v\n%s", err, tail(filepath.Join(x.dir, "trace")))
	}
	return out
}

// Kinit logs in by password; args are further arguments of kinit.
func (x *Tools) Kinit(principal, password string, args ...string) {
	x.t.Helper()
	x.Run(password+"\n", "kinit", append(args, principal)...)
}

// KinitKeytab logs in by keytab.
func (x *Tools) KinitKeytab(principal, keytab string) {
	x.t.Helper()
	x.Run("", "kinit", "-k", "-t", keytab, principal)
}

// Kvno gets tickets for services.
func (x *Tools) Kvno(services ...string) {
	x.t.Helper()
	x.Run("", "kvno", services...)
}

// Klist lists the credential cache, with types and flags.
func (x *Tools) Klist() string {
	x.t.Helper()
	return x.Run("", "klist", "-e", "-f")
}

// Negotiate requests http://HOST<path> from the acceptor with curl and a token
// for HTTP/HOST; it returns head and body. A HOST of "" is the acceptor's first host.
func (x *Tools) Negotiate(a *Apache, host, path string, args ...string) (head, body string) {
	x.t.Helper()
	Require(x.t, Curl)
	if host == "" {
		host = a.hosts[0]
	}
	_, port, _ := strings.Cut(a.Addr(), ":")
	args = append([]string{
		"-sS", "-i", "--max-time", "20", "--negotiate", "-u", ":",
		"--resolve", host + ":" + port + ":" + Host(), "http://" + host + ":" + port + path,
	}, args...)
	out := x.Run("", "curl", args...)
	for { // the 401 before a response to the token is printed first
		head, body, _ = strings.Cut(out, "\r\n\r\n")
		if !strings.HasPrefix(body, "HTTP/") {
			return head, body
		}
		out = body
	}
}

// Trace returns the trace of MIT's library.
func (x *Tools) Trace() string {
	x.t.Helper()
	text, err := os.ReadFile(filepath.Join(x.dir, "trace"))
	if err != nil {
		x.t.Fatal(err)
	}
	return string(text)
}
