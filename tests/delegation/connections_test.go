package delegation

import (
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// Idle connections of many users are bounded, counted at the upstream; new ones resume
// TLS sessions; and nothing is left of them at the end.
func TestConnections_ManyUsers(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(strings.ReplaceAll(tls.VersionName(version), " ", ""), func(t *testing.T) {
			manyConnections(t, caddytest.Long(150, 5000), caddytest.Long(30, 2000), version)
		})
	}
	if most := caddytest.Long(0, 20_000); most > 0 {
		t.Run("20000", func(t *testing.T) { manyConnections(t, most, 2000, tls.VersionTLS13) })
	}
}

func manyConnections(t *testing.T, users, bound int, version uint16) {
	caddytest.LeakCheck(t)
	e := tlsEnv(t, users, caddytest.Options{Upstream: kdctest.UpstreamConfig{TLSVersion: version}})
	e.runTLS(e.Upstream.Addr(), e.Dir+"/authority.pem", "user_connections "+strconv.Itoa(bound))
	client := e.Client()
	ask := func(user int) error { return e.askAs(client, userName(user), http.MethodGet) }
	caddytest.All(t, 1, 1, ask)
	descriptors := openDescriptors()
	const width = 16
	caddytest.All(t, users, width, ask)
	caddytest.All(t, 3*users, width, func(int) error { return ask(rand.IntN(users)) })
	client.CloseIdleConnections()
	caddytest.WaitFor(t, "no more connections are open than the bound", func() bool { return e.Upstream.Open.Load() <= int64(bound) })

	u := e.Upstream
	full, resumed := u.FullHandshakes.Load(), u.Resumptions.Load()
	t.Logf("%d requests of %d users over %d connections, %d idle at the end; %d handshakes resumed, %d full, heap %d MiB",
		4*users, users, u.Connections.Load(), u.Open.Load(), resumed, full, heap()>>20)
	if resumed < 19*full { // the first ones come at once, before there is a session
		t.Errorf("%d of %d handshakes were resumed, want 95 %%", resumed, full+resumed)
	}
	if u.Open.Load() < int64(bound)/2 {
		t.Errorf("%d connections are open: they are not kept", u.Open.Load())
	}
	caddytest.Stop(t)
	caddytest.WaitFor(t, "all connections are closed", func() bool { return u.Open.Load() == 0 })
	caddytest.WaitFor(t, "the descriptors are closed", func() bool { return openDescriptors() <= descriptors })
}

// openDescriptors counts the descriptors of this process; 0 where that is not known.
func openDescriptors() int {
	if runtime.GOOS != "linux" {
		return 0
	}
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}
