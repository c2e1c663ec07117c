package lab

import (
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

//go:embed managed.py
var managedScript string

// TrixieEnv is the environment variable with the folder that tests/lab/trixie has unpacked the Samba of
// Debian 13 into.
const TrixieEnv = "CADDY_NEGOTIATE_TRIXIE"

// Trixie is the Samba of Debian 13.
var Trixie = Peer{
	name: "Samba of Debian 13", packages: "tests/lab/trixie FOLDER, and " + TrixieEnv + "=FOLDER",
	needs: []string{os.Getenv(TrixieEnv) + "/complete", "unshare", "chroot"}, root: true,
}

// ControllerHost is the name of a [Controller].
const ControllerHost = "dc1.corp.test"

// Controller is a domain controller of CORP.TEST, of Samba 4.22: a KDC, and LDAP with TLS on port
// 636, at the address that [Host] is. It has the users alice, svc-reader, svc-other (no one may read a
// managed password yet), svc-app (HTTP/app.corp.test), each with the password NAME-secret, without
// svc-.
type Controller struct {
	*Samba
	CAFile string // that has signed the certificate of ControllerHost
}

// enterScript runs a program in a root where the folder DIR is what it is outside.
const enterScript = `#!/bin/sh
exec unshare -m sh -c 'mount --bind /proc "$0/proc" && mount --bind /dev "$0/dev" &&
	mkdir -p "$0$DIR" && mount --bind "$DIR" "$0$DIR" && exec chroot "$0" "$@"' %s "$@"
`

// StartController makes a domain with a controller, in about ten seconds. certificate is that of ControllerHost, and the CA's certificate is in the file.
func StartController(t testing.TB, certificate *tls.Certificate, caFile string) *Controller {
	t.Helper()
	Require(t, Trixie, Krb5User)
	s, err := newDomain("")
	if err != nil {
		t.Fatal(err)
	}
	s.enter = s.path("enter")
	cert, key, err := certificatePEM(certificate, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"dc.pem": cert, "dc.key": key, "ca.pem": string(ca), "managed.py": managedScript} {
		err = errors.Join(err, writeFile(s.path(name), text, 0o600))
	}
	if err = errors.Join(err, writeFile(s.enter, fmt.Sprintf(enterScript, os.Getenv(TrixieEnv)), 0o755)); err != nil {
		t.Fatal(err)
	}
	err = s.provision("kdc ldap", "tls enabled = yes", "tls certfile = "+s.path("dc.pem"), "tls keyfile = "+s.path("dc.key"), "tls cafile = "+s.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{s, caFile}
	t.Cleanup(c.Stop)
	c.managed(t, "accounts")
	c.Start(t)
	return c
}

// Start starts the controller if it is not running.
func (c *Controller) Start(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		return
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	// LDAP's ports open later than the KDC's.
	err := c.proc.ready(time.Minute, "LDAP over TLS", func() bool {
		conn, err := net.Dial("tcp", c.LDAP())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends the controller: its ports refuse connections.
func (c *Controller) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proc.stop()
	c.proc = nil
}

// LDAP returns host:port of LDAP over TLS.
func (c *Controller) LDAP() string { return net.JoinHostPort(Host(), "636") }

// Usable lets a new managed account, such as svc-web$, log in with AES keys.
func (c *Controller) Usable(t testing.TB, account string) {
	t.Helper()
	c.managed(t, "usable", account)
}

// Roll has the password of a managed account changed when it is read or used next.
func (c *Controller) Roll(t testing.TB, account string) {
	t.Helper()
	c.managed(t, "roll", account)
}

// Blob returns the managed password of an account, and what Samba reads in it: the value, the current
// and the previous password in hexadecimal (- for none), and the two intervals.
func (c *Controller) Blob(t testing.TB, account string) string {
	t.Helper()
	return strings.TrimSpace(c.managed(t, "blob", account))
}

func (c *Controller) managed(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.run("/usr/bin/python3", append([]string{c.path("managed.py"), c.path("smb.conf")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
