package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Peer is a program, with its dependencies, that a test may require.
type Peer struct {
	name     string
	packages string   // Debian's names
	needs    []string // programs, or files as glob patterns with a slash
	root     bool     // runs only as root
}

// The peers.
var (
	// KDC is MIT's krb5kdc with kdb5_util and kadmin.local.
	KDC = Peer{name: "MIT KDC", packages: "krb5-kdc krb5-admin-server", needs: []string{"krb5kdc", "kdb5_util", "kadmin.local"}}
	// PKINIT is the plugin with which MIT's KDC and kinit take certificates.
	PKINIT = Peer{name: "MIT PKINIT", packages: "krb5-pkinit", needs: []string{"/usr/lib/*/krb5/plugins/preauth/pkinit.so"}}
	// Krb5User is MIT's kinit, kvno and klist.
	Krb5User = Peer{name: "MIT client tools", packages: "krb5-user", needs: []string{"kinit", "kvno", "klist"}}
	// HTTPD is Apache with mod_auth_gssapi.
	HTTPD = Peer{
		name: "Apache with mod_auth_gssapi", packages: "apache2 libapache2-mod-auth-gssapi",
		needs: []string{"apache2", moduleDir + "/mod_auth_gssapi.so"},
	}
	// AD is Samba as a domain controller.
	AD = Peer{
		name: "Samba AD DC", packages: "samba samba-dsdb-modules samba-vfs-modules samba-ad-provision python3-samba tdb-tools",
		needs: []string{
			"samba", "samba-tool", "tdbbackup", "/usr/bin/python3", "/usr/share/samba/setup/provision.ldif",
			"/usr/lib/python3/dist-packages/samba/provision", "/usr/lib/*/samba/ldb/samba_dsdb.so", "/usr/lib/*/samba/vfs/acl_xattr.so",
		},
		root: true,
	}
	// Curl is curl with GSS-API.
	Curl = Peer{name: "curl", packages: "curl", needs: []string{"curl"}}
	// Chromium is the browser, with chromedriver.
	Chromium = Peer{name: "Chromium", packages: "chromium chromium-driver", needs: []string{"chromium", "chromedriver"}}
	// Debootstrap makes a new Debian in a folder.
	Debootstrap = Peer{name: "debootstrap", packages: "debootstrap", needs: []string{"debootstrap"}, root: true}
	// Faketime shifts the clock of a peer.
	Faketime = Peer{name: "libfaketime", packages: "libfaketime", needs: []string{faketimeGlob}}
)

const (
	moduleDir    = "/usr/lib/apache2/modules"
	faketimeGlob = "/usr/lib/*/faketime/libfaketimeMT.so.1"
	searchPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// RequirePeersEnv is the environment variable that, set to 1, makes a
// missing peer a failure.
const RequirePeersEnv = "CADDY_NEGOTIATE_REQUIRE_PEERS"

// Require skips the test, with a line `LEFT OUT: <peer>`, if one of the peers
// is not installed; with [RequirePeersEnv] set it fails.
func Require(t testing.TB, peers ...Peer) {
	t.Helper()
	for _, p := range peers {
		why := p.missing()
		if why == "" {
			continue
		}
		if os.Getenv(RequirePeersEnv) == "1" {
			t.Fatalf("LEFT OUT: %s (%s)", p.name, why)
		}
		t.Skipf("LEFT OUT: %s (%s)", p.name, why)
	}
}

// NotHere skips the test, with a line `LEFT OUT: <what> (not on this system)`: nothing that could
// be installed would let it run.
func NotHere(t testing.TB, what string) {
	t.Helper()
	t.Skipf("LEFT OUT: %s (not on this system)", strings.ReplaceAll(strings.TrimSpace(what), "\n", " "))
}

// missing describes what the peer lacks and how to install it; "" if complete.
func (p Peer) missing() string {
	for _, n := range p.needs {
		if _, ok := find(n); !ok {
			return n + " is not there, Debian: " + p.packages
		}
	}
	if p.root && os.Getuid() != 0 {
		return "it runs as root only"
	}
	return ""
}

// find looks up a program in the directories of daemons, independent of PATH, or a file
// by its pattern.
func find(name string) (path string, ok bool) {
	if strings.Contains(name, "/") {
		found, _ := filepath.Glob(name)
		if len(found) == 0 {
			return "", false
		}
		return found[0], true
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		path = filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}
