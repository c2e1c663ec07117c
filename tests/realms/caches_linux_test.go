package realms

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// cacheKinds are caches that kinit fills. Each returns the name of an empty one, lines for
// the krb5.conf of kinit and Caddy, and what ends the daemon that keeps it, if one does.
var cacheKinds = []struct {
	name string
	open func(t *testing.T) (cache, libdefaults string, stop func())
}{
	{"DIR", func(t *testing.T) (string, string, func()) {
		return "DIR:" + t.TempDir(), "", nil
	}},
	{"KCM of SSSD", func(t *testing.T) (string, string, func()) { return openKCM(t, lab.SSSDKCM) }},
	{"KCM of Heimdal", func(t *testing.T) (string, string, func()) { return openKCM(t, lab.HeimdalKCM) }},
	{"KEYRING user", func(t *testing.T) (string, string, func()) {
		return openKeyring(t, "user", rand.Text(), unix.KEY_SPEC_USER_KEYRING)
	}},
	{"KEYRING session", func(t *testing.T) (string, string, func()) {
		return openKeyring(t, "session", rand.Text(), unix.KEY_SPEC_SESSION_KEYRING)
	}},
	{"KEYRING without an anchor", func(t *testing.T) (string, string, func()) {
		return openKeyring(t, "", rand.Text(), unix.KEY_SPEC_SESSION_KEYRING)
	}},
	{"KEYRING persistent", func(t *testing.T) (string, string, func()) {
		const uid = 1_909_090_909 // no user's
		ring, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, uid, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
		if err != nil {
			lab.NotHere(t, fmt.Sprintf("persistent keyring of another user: %v", err))
		}
		clean := func() { _, _ = unix.KeyctlInt(unix.KEYCTL_CLEAR, ring, 0, 0, 0) }
		clean()
		t.Cleanup(clean)
		return fmt.Sprintf("KEYRING:persistent:%d", uid), "", nil
	}},
}

func openKCM(t *testing.T, d lab.KCMDaemon) (cache, libdefaults string, stop func()) {
	k := lab.StartKCM(t, d)
	return "KCM:", "kcm_socket = " + k.Socket, k.Stop
}

func openKeyring(t *testing.T, anchor, collection string, ring int) (cache, libdefaults string, stop func()) {
	if _, err := unix.KeyctlGetKeyringID(ring, false); err != nil {
		lab.NotHere(t, fmt.Sprintf("kernel keyrings: %v", err))
	}
	t.Cleanup(func() {
		for _, description := range []string{"_krb_" + collection, collection} {
			if key, err := unix.KeyctlSearch(ring, "keyring", description, 0); err == nil {
				_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, ring, 0, 0)
			}
		}
	})
	return strings.TrimSuffix("KEYRING:"+anchor, ":") + ":" + collection, "", nil
}

// Each kind of cache is filled by kinit and used through Apache; kinit switches it to
// another principal; then what keeps it ends.
func TestCaches_ThroughApache(t *testing.T) {
	m, _ := twoUsers(t, lab.MITOptions{})
	a := lab.StartApache(t, lab.ApacheOptions{Realm: m})
	for _, kind := range cacheKinds {
		t.Run(kind.name, func(t *testing.T) {
			cache, libdefaults, stop := kind.open(t)
			x := lab.NewTools(t, m, strings.Split(libdefaults, "\n")...).In(cache)
			s := cacheSite(t, a, "ccache "+cache, "krb5_conf "+x.Krb5Conf(), "spn "+a.SPN())
			late := !strings.HasPrefix(cache, "DIR:")
			if late {
				caddytest.Load(t, s.text)
				missing := s.Get("/")
				missing.WantError(t, http.StatusBadGateway, "credentials_missing")
				if missing.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
			x.Kinit("alice", "alice-secret")
			if !late {
				caddytest.Load(t, s.text)
			}
			awaitUser(t, s, "alice@LAB.TEST")
			const many = 200
			isUser := func(user string) func(caddytest.Answer) bool {
				return func(a caddytest.Answer) bool {
					return a.Status == http.StatusOK && a.Header.Get("X-Remote-User") == user
				}
			}
			s.GetMany(many, 4, "/", isUser("alice@LAB.TEST"))
			x.Kinit("bob", "bob-secret")
			awaitUser(t, s, "bob@LAB.TEST")
			s.GetMany(many/10, 4, "/", isUser("bob@LAB.TEST"))
			if stop == nil {
				return
			}
			stop()
			caddytest.WaitFor(t, "a warning that the daemon has ended", func() bool {
				s.GetMany(20, 4, "/", isUser("bob@LAB.TEST"))
				return s.Log.Contains("credentials cannot be read again; what was read before stays in use")
			})
			s.GetMany(many, 4, "/", isUser("bob@LAB.TEST"))
		})
	}
}

// cacheCaddy is a Caddy whose configuration has not been loaded.
type cacheCaddy struct {
	*caddytest.Caddy
	text string
}

func cacheSite(t *testing.T, a *lab.Apache, lines ...string) *cacheCaddy {
	t.Helper()
	c := caddytest.New(t)
	return &cacheCaddy{&c, c.Global("INFO") + caddytest.Site(c.Addr, caddytest.Block("negotiate", lines...), "reverse_proxy "+a.Addr())}
}

// awaitUser waits until requests are authenticated as the user.
func awaitUser(t *testing.T, s *cacheCaddy, user string) {
	t.Helper()
	caddytest.WaitFor(t, "requests as "+user, func() bool {
		return s.Get("/").Header.Get("X-Remote-User") == user
	})
}

// default follows KRB5CCNAME, else krb5.conf.
func TestCaches_Default(t *testing.T) {
	m, _ := twoUsers(t, lab.MITOptions{})
	byConf := "DIR:" + t.TempDir()
	x := lab.NewTools(t, m, "default_ccache_name = "+byConf+"%{null}")
	x.In(byConf).Kinit("alice", "alice-secret")
	byVariable := "FILE:" + filepath.Join(t.TempDir(), "ccache")
	x.In(byVariable).Kinit("bob", "bob-secret")
	keytab := m.Keytab(t, "HTTP/app.lab.test")
	for variable, want := range map[string]string{"": "alice@LAB.TEST", byVariable: "bob@LAB.TEST"} {
		t.Setenv("KRB5CCNAME", variable)
		s := newSite(t, keytab, "ccache default", "krb5_conf "+x.Krb5Conf(), "spn HTTP/app.lab.test")
		s.Get("/").WantUser(t, want)
	}
}

// With user, a collection's cache of that principal is used, whichever the primary one is.
func TestCaches_UserInCollection(t *testing.T) {
	m, _ := twoUsers(t, lab.MITOptions{})
	keytab := m.Keytab(t, "HTTP/app.lab.test")
	for _, kind := range cacheKinds {
		t.Run(kind.name, func(t *testing.T) {
			cache, libdefaults, _ := kind.open(t)
			x := lab.NewTools(t, m, strings.Split(libdefaults, "\n")...).In(cache)
			x.Kinit("alice", "alice-secret")
			x.Kinit("bob", "bob-secret")
			for _, user := range []string{"alice@LAB.TEST", "bob@LAB.TEST"} {
				s := newSite(t, keytab, "user "+user, "ccache "+cache, "krb5_conf "+x.Krb5Conf(), "spn HTTP/app.lab.test")
				s.Get("/").WantUser(t, user)
			}
		})
	}
}

// A ticket-granting ticket of a daemon or the kernel is renewed in memory, and used as armor:
// the service takes those alone who have logged in with armor.
func TestCaches_RenewedAndArmor(t *testing.T) {
	m, _ := twoUsers(t, lab.MITOptions{KDCConf: []string{"encrypted_challenge_indicator = fast"}})
	m.Kadmin(t, "modprinc +requires_preauth bob", "setstr HTTP/app.lab.test require_auth fast")
	keytab := m.Keytab(t, "HTTP/app.lab.test")
	for _, kind := range cacheKinds {
		t.Run(kind.name, func(t *testing.T) {
			cache, libdefaults, _ := kind.open(t)
			x := lab.NewTools(t, m, strings.Split(libdefaults, "\n")...).In(cache)
			x.Kinit("alice", "alice-secret", "-l", "6m", "-r", "2h")
			socket := strings.TrimPrefix(libdefaults, "kcm_socket = ")
			source := must.OK(ccache.Open(cache, ccache.Options{KCMSocket: socket}))(t)
			client, tr := newClient(t, nil, m)
			h := newIdentity(t, client, messages.Principal{}, negotiate.CCacheSecret(source))
			h.clock.Advance(4*time.Minute + 30*time.Second)
			h.mustTicket(t, "HTTP/other.lab.test", "alice@LAB.TEST")
			if n := tr.count("sent", "KRB_TGS_REQ"); n != 2 || tr.count("KRB_AS_REQ") != 0 {
				t.Errorf("want a renewal and a ticket:\n%s", tr)
			}

			s := newSite(t, keytab, "user bob@LAB.TEST", "password bob-secret", "fast_armor ccache "+cache,
				"krb5_conf "+x.Krb5Conf(), "spn HTTP/app.lab.test")
			s.Get("/").WantUser(t, "bob@LAB.TEST")
		})
	}
}
