package lab

import (
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"
)

//go:embed smb.conf.tmpl
var smbConf string

//go:embed accounts.py
var sambaScript string

const sambaRealm = "CORP.TEST"

// Samba is the KDC of an Active Directory domain, CORP.TEST (NetBIOS: CORP),
// that all tests of a process share. A test that changes an account creates its own
// with [Samba.Tool].
//
// Users, each with the password NAME-secret: alice, bob, carol (may not be
// delegated), dave (a protected user), erin (UPN erin.smith@corp.test), frank
// (UPN frank@mail.example), fat (in 600 groups), locked (disabled), expired,
// mustchange.
//
// Services svc-NAME with the password NAME-secret, each with the SPN
// HTTP/NAME.corp.test: proxy (may impersonate to iis and iis2, with protocol
// transition), kcd (to iis, without), plain (to none), nospn (to iis, but
// without an SPN), fat (in 600 groups), iis (HTTP/iis as well), iis2, legacy
// (RC4 tickets), uncon (unconstrained: ok-as-delegate).
type Samba struct {
	dir               string
	port, kpasswdPort int
	enter             string // a program that runs others where this Samba is installed; empty for here

	mu      sync.Mutex // guards the fields below
	proc    *process
	keytabs int
}

var sharedSamba = sync.OnceValues(newSamba)

// SharedSamba returns the domain of this test process. The first call makes it in about
// ten seconds. It ends with the process.
func SharedSamba(t testing.TB) *Samba {
	t.Helper()
	Require(t, AD, Krb5User)
	s, err := sharedSamba()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSamba() (*Samba, error) {
	s, err := newDomain("")
	if err != nil {
		return nil, err
	}
	if err := s.provision("kdc"); err != nil {
		return nil, err
	}
	if err := s.script("accounts"); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// newDomain returns a domain that is yet to be provisioned.
func newDomain(enter string) (s *Samba, err error) {
	s = &Samba{enter: enter}
	if s.dir, err = newDir("samba"); err != nil {
		return nil, err
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.kpasswdPort, err = freePort()
	return s, err
}

// run runs a program where this Samba is installed.
func (s *Samba) run(name string, args ...string) (string, error) {
	if s.enter == "" {
		return run(environment(s.dir), s.dir, "", name, args...)
	}
	return run(environment(s.dir, "DIR="+s.dir), s.dir, "", s.enter, append([]string{name}, args...)...)
}

// provision makes the domain with these services. More lines are added to smb.conf.
func (s *Samba) provision(services string, lines ...string) error {
	if err := os.Mkdir(s.path("run"), 0o755); err != nil {
		return err
	}
	// -s: do not read the distribution's smb.conf
	_, err := s.run("samba-tool", "domain", "provision", "-s", "/dev/null",
		"--realm="+sambaRealm, "--domain=CORP", "--server-role=dc", "--dns-backend=NONE", "--adminpass=Admin-secret1",
		"--host-name=dc1", "--host-ip="+Host(), "--targetdir="+s.path("ad"),
		"--option=interfaces="+Host()+"/8", "--option=bind interfaces only=yes")
	if err != nil {
		return err
	}
	tmpl, err := template.New("smb.conf").Parse(smbConf)
	if err != nil {
		return err
	}
	var conf strings.Builder
	err = tmpl.Execute(&conf, map[string]any{
		"Realm": sambaRealm, "Dir": s.dir, "Host": Host(), "Port": s.port, "KpasswdPort": s.kpasswdPort,
		"Services": services, "Lines": lines,
	})
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"smb.conf": conf.String(), "accounts.py": sambaScript, "krb5.conf": s.clientConf(),
	} {
		if err := writeFile(s.path(name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// script runs accounts.py with the system's python3, which has the samba modules.
func (s *Samba) script(args ...string) error {
	_, err := s.run("/usr/bin/python3", append([]string{s.path("accounts.py"), s.path("smb.conf")}, args...)...)
	return err
}

// EnablePKINIT restarts the KDC with a certificate of its own, which the file cert has and key the
// key of, so that clients with certificates of the CA log in.
func (s *Samba) EnablePKINIT(t testing.TB, cert, key, ca string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.stop()
	conf := fmt.Sprintf("[kdc]\n enable-pkinit = yes\n pkinit_identity = FILE:%s,%s\n pkinit_anchors = FILE:%s\n", cert, key, ca)
	if err := writeFile(s.path("kdc.krb5.conf"), conf, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.start("KRB5_CONFIG=" + s.path("kdc.krb5.conf")); err != nil {
		t.Fatal(err)
	}
}

func (s *Samba) start(env ...string) error {
	name, args := "samba", []string{
		"-F", "--no-process-group", "-M", "single", "-s", s.path("smb.conf"), "--debug-stdout", "-d", "1",
	}
	if s.enter != "" {
		name, args = s.enter, append([]string{name}, args...)
		env = append(env, "DIR="+s.dir)
	}
	proc, err := start(s.path("samba.out"), environment(s.dir, env...), name, args...)
	if err != nil {
		return err
	}
	up := func() bool {
		c, err := net.Dial("tcp", s.KDC())
		if err != nil {
			return false
		}
		c.Close()
		// the port is open before the database is ready
		_, err = run(environment(s.dir, "KRB5_CONFIG="+s.Krb5Conf()), s.dir, "alice-secret\n",
			"kinit", "-c", "FILE:"+s.path("run/probe"), "alice")
		return err == nil
	}
	if err := proc.ready(3*time.Minute, "samba", up); err != nil {
		proc.stop()
		return err
	}
	s.proc = proc
	return nil
}

func (s *Samba) path(name string) string { return filepath.Join(s.dir, name) }

// Name returns CORP.TEST.
func (s *Samba) Name() string { return sambaRealm }

// KDC returns host:port, UDP and TCP.
func (s *Samba) KDC() string { return fmt.Sprintf("%s:%d", Host(), s.port) }

// Krb5Conf returns the path of a krb5.conf for clients.
func (s *Samba) Krb5Conf() string { return s.path("krb5.conf") }

func (s *Samba) clientConf(libdefaults ...string) string {
	return krb5Conf(sambaRealm, libdefaults, [][2]string{{sambaRealm, s.KDC()}}, [][2]string{{strings.ToLower(sambaRealm), sambaRealm}})
}

// Keytab exports the principals' current keys into a new file: svc-proxy, or
// HTTP/iis.corp.test.
func (s *Samba) Keytab(t testing.TB, principals ...string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keytabs++
	path := s.path(fmt.Sprintf("%d.keytab", s.keytabs))
	if err := s.script(append([]string{"keytab", path}, principals...)...); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("samba exported no key of %v: %v", principals, err)
	}
	return path
}

// Tool runs samba-tool on the domain and returns its output, as in
// Tool(t, "user", "add", "grace", "grace-secret").
func (s *Samba) Tool(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.run("samba-tool", append(args, "-s", s.path("smb.conf"))...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
