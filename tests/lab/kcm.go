package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// KCMDaemon is a kind of daemon that keeps credential caches.
type KCMDaemon struct {
	peer    Peer
	command string   // of a shell
	folders []string // of the system, which the daemon gets empty ones in place of
}

// The kinds of KCM daemons.
var (
	// SSSDKCM is SSSD's. Its caches outlast it.
	SSSDKCM = KCMDaemon{
		peer:    Peer{name: "SSSD's KCM daemon", packages: "sssd-kcm", needs: []string{"/usr/libexec/sssd/sssd_kcm", "unshare"}, root: true},
		command: "/usr/libexec/sssd/sssd_kcm --uid 0 --gid 0 --logger=stderr",
		folders: []string{"/run", "/var/lib/sss/secrets", "/var/lib/sss/db"},
	}
	// HeimdalKCM is Heimdal's, which keeps caches in memory.
	HeimdalKCM = KCMDaemon{
		peer:    Peer{name: "Heimdal's KCM daemon", packages: "heimdal-kcm", needs: []string{"/usr/sbin/kcm", "unshare"}, root: true},
		command: "/usr/sbin/kcm",
		folders: []string{"/run"},
	}
)

// KCM is a running KCM daemon.
type KCM struct {
	// Socket is the path of its socket.
	Socket string

	proc *process
}

// StartKCM starts a daemon without caches, which ends with the test. Both daemons have fixed
// paths: it runs in a mount namespace of its own.
func StartKCM(t testing.TB, d KCMDaemon) *KCM {
	t.Helper()
	Require(t, d.peer)
	dir := testDir(t, "kcm")
	if out, err := run(environment(dir), dir, "", "unshare", "--mount", "true"); err != nil {
		NotHere(t, d.peer.name+", because mount namespaces cannot be made: "+out)
	}
	var script strings.Builder
	for _, folder := range d.folders {
		own := filepath.Join(dir, filepath.Base(folder))
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "mount --bind '%s' %s && ", own, folder)
	}
	proc, err := start(filepath.Join(dir, "log"), environment(dir), "unshare", "--mount", "--propagation", "private", "sh", "-c", script.String()+"exec "+d.command)
	if err != nil {
		t.Fatal(err)
	}
	k := &KCM{Socket: filepath.Join(dir, "run", ".heim_org.h5l.kcm-socket"), proc: proc}
	t.Cleanup(k.Stop)
	err = proc.ready(time.Minute, d.peer.name, func() bool {
		conn, err := net.Dial("unix", k.Socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Stop ends the daemon. Its socket stays, and refuses connections.
func (k *KCM) Stop() { k.proc.stop() }
